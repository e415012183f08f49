import { cleanUrl, withoutQueries } from "./privacy";
import type { Recorder } from "./recorder";

const ERRORS_MAX = 10;
const STACK_LENGTH_MAX = 2000;

/** Records what the page's scripts throw, each once for a page view; the function it returns begins a new one. */
export function watchErrors(recorder: Recorder): () => void {
  const seen = new Set<string>();

  function record(kind: string, thrown: unknown, message: string, place: Record<string, unknown>): void {
    const key = message + place.source + place.line;
    if (seen.size >= ERRORS_MAX || seen.has(key)) {
      return;
    }
    seen.add(key);
    const stack = thrown instanceof Error ? withoutQueries((thrown.stack || "").slice(0, STACK_LENGTH_MAX)) : undefined;
    recorder.record("error", withoutQueries(message) || "unknown", { url: recorder.pageUrl(), kind, ...place, stack });
  }

  addEventListener("error", ({ error, message, filename, lineno, colno }) => {
    const source = filename && cleanUrl(filename, recorder.queryParameters);
    record("error", error, message, { source, line: lineno, column: colno });
  });
  addEventListener("unhandledrejection", ({ reason }) => {
    // An object may hold anything; an error or a text is meant to be read.
    const message = reason instanceof Error || typeof reason === "string" ? `${reason}` : typeof reason;
    record("rejection", reason, message, {});
  });
  return () => seen.clear();
}
