import { cleanUrl } from "./privacy";
import type { Recorder } from "./recorder";

export interface PageViews {
  /** Records a change of page that is still to be recorded. */
  settle(): void;
  /** Records the page that is shown now. */
  view(navigation: string): void;
}

/** Records the page, and every page that is shown without a load. `changed` is told before each but the first. */
export function watchPageViews(recorder: Recorder, changed: () => void): PageViews {
  let shown = recorder.pageName();
  let pending: (() => void) | undefined;
  let referrer = document.referrer && cleanUrl(document.referrer, recorder.queryParameters);

  /** Takes note of the page that is shown; what is returned records it, with the title of then. */
  function noted(navigation: string): () => void {
    const name = recorder.pageName();
    const properties = { url: recorder.pageUrl(), referrer, navigation };
    shown = name;
    referrer = properties.url;
    return () => recorder.record("page_view", name, { ...properties, title: document.title });
  }

  function settle(): void {
    const record = pending;
    pending = undefined;
    record?.();
  }

  function moved(navigation: string): void {
    if (recorder.pageName() !== shown) {
      settle();
      changed();
      // A page sets its title after it has set its address.
      pending = noted(navigation);
      setTimeout(settle);
    }
  }

  const view = (navigation: string) => noted(navigation)();

  for (const name of ["pushState", "replaceState"] as const) {
    const original = history[name];
    history[name] = function (...given) {
      original.apply(this, given);
      moved(name === "pushState" ? "push" : "replace");
    };
  }
  addEventListener("popstate", () => moved("history"));
  addEventListener("hashchange", () => moved("hash"));
  addEventListener("pageshow", (event) => event.persisted && view("history"));
  view("load");
  return { settle, view };
}
