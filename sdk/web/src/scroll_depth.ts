import type { Recorder } from "./recorder";

const STEPS = [25, 50, 75, 100];

/** Records each depth once for a page view; the function it returns begins a new page view. */
export function watchScrollDepth(recorder: Recorder): () => void {
  let reached = 0;
  addEventListener(
    "scroll",
    () => {
      const { scrollHeight } = document.documentElement;
      // Screens whose pixels are no whole ones stop a fraction before the end.
      const percent = ((scrollY + innerHeight + 1) / scrollHeight) * 100;
      for (; percent >= STEPS[reached]; reached++) {
        recorder.record("scroll_depth", recorder.pageName(), { url: recorder.pageUrl(), percent: STEPS[reached] });
      }
    },
    { passive: true },
  );
  return () => {
    reached = 0;
  };
}
