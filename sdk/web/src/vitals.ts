import { type Metric, onCLS, onFCP, onINP, onLCP, onTTFB } from "web-vitals";
import type { Recorder } from "./recorder";

/** Measures how the page loads and answers; the function it returns records that, once for a page load. */
export function watchPerformance(recorder: Recorder): () => void {
  const values: Record<string, number> = {};
  const name = recorder.pageName();
  const url = recorder.pageUrl();
  let recorded = false;
  const keep = ({ name: metric, value }: Metric) => {
    const unit = metric === "CLS" ? "" : "_ms";
    values[metric.toLowerCase() + unit] = Math.round(value * 1000) / 1000;
  };
  for (const watch of [onTTFB, onFCP, onLCP, onINP, onCLS]) {
    watch(keep, { reportAllChanges: true });
  }
  return () => {
    if (!recorded && Object.keys(values).length) {
      recorded = true;
      recorder.record("performance", name, { url, ...values });
    }
  };
}
