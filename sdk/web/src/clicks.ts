import type { Properties } from "./api";
import { clickedElement, describe } from "./privacy";
import type { Recorder } from "./recorder";

const RAGE_CLICKS = 3;
const RAGE_MS = 500;
const RAGE_PIXELS = 30;
const DEAD_MS = 2500;
// These answer a click in ways that cannot be seen from here: a caret, a list, another page, a program.
const NEVER_DEAD = "input,select,textarea,label,option,video,audio,iframe,[contenteditable],a[href]:not([href^='#'])";

export function watchClicks(recorder: Recorder): void {
  const looksDead = deadClicks(recorder);
  let last: MouseEvent | undefined;
  let clicks = 0;

  /** Whether this click makes a burst; the ones that follow in it do not. */
  function enrages(event: MouseEvent): boolean {
    const near =
      last &&
      event.timeStamp - last.timeStamp < RAGE_MS &&
      Math.hypot(event.clientX - last.clientX, event.clientY - last.clientY) < RAGE_PIXELS;
    clicks = near ? clicks + 1 : 1;
    last = event;
    return clicks === RAGE_CLICKS && !isSelecting();
  }

  addEventListener(
    "click",
    (event) => {
      if (recorder.isOut()) {
        return;
      }
      const element = clickedElement(event);
      const control = element?.closest("label")?.control;
      // A click on a label is followed by one on its control.
      if (!element || (control && !control.contains(element))) {
        return;
      }
      const properties = { url: recorder.pageUrl(), ...describe(element, recorder.queryParameters) };
      const name = properties.text || properties.selector;
      recorder.record("click", name, properties);
      if (enrages(event)) {
        recorder.record("rage_click", name, properties);
      }
      if (!element.closest(NEVER_DEAD)) {
        looksDead(name, properties);
      }
    },
    true,
  );
}

/** Waits after a click for anything to happen; records a dead click where nothing does. */
function deadClicks(recorder: Recorder): (name: string, properties: Properties) => void {
  let timer = 0;
  const observer = new MutationObserver(alive);
  function alive(): void {
    clearTimeout(timer);
    observer.disconnect();
  }
  for (const sign of ["scroll", "focusin", "blur", "popstate", "hashchange", "submit", "pagehide"]) {
    addEventListener(sign, alive, true);
  }
  return (name, properties) => {
    alive();
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    timer = setTimeout(() => {
      alive();
      if (!isSelecting()) {
        recorder.record("dead_click", name, properties);
      }
    }, DEAD_MS);
  };
}

/** Whether text is selected: clicks that do that do something. */
function isSelecting(): boolean {
  return getSelection()?.isCollapsed === false;
}
