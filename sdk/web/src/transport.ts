import type { Rejection } from "./api";

// Browsers let a page have 64 KiB in flight that may outlive it.
const OUTLIVING_BYTES_MAX = 60_000;

/** What an attempt came to. */
export type Outcome =
  | { kind: "taken"; rejections: (Rejection & { index: number })[] }
  | { kind: "refused"; error: Rejection }
  | { kind: "too large"; limit: number }
  /** `waitMs` is what the server asked for, 0 where it did not. */
  | { kind: "failed"; answered: boolean; waitMs: number };

export interface Transport {
  /** Sends one body and waits for the answer, for a bounded time. */
  post(body: string): Promise<Outcome>;
  /** How many bytes can be sent now so that they get out even if the page goes. */
  outlivingBytes(): number;
}

export function openTransport(url: string, requestMs: number): Transport {
  let outliving = 0;

  async function post(body: string): Promise<Outcome> {
    const size = new Blob([body]).size;
    const keepalive = size <= OUTLIVING_BYTES_MAX - outliving;
    outliving += keepalive ? size : 0;
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), requestMs);
    try {
      const request = keepalive ? { body, keepalive } : await compressed(body);
      return await judge(await fetch(url, { method: "POST", credentials: "omit", signal: abort.signal, ...request }));
    } catch {
      return { kind: "failed", answered: false, waitMs: 0 };
    } finally {
      clearTimeout(timer);
      outliving -= keepalive ? size : 0;
    }
  }
  return { post, outlivingBytes: () => OUTLIVING_BYTES_MAX - outliving };
}

/**
 * A string goes as text/plain, which spares the question a browser asks another origin first. Only a backlog is worth
 * that question: compression needs a header that text/plain alone does not.
 */
async function compressed(body: string): Promise<RequestInit> {
  if (!window.CompressionStream) {
    return { body };
  }
  const stream = new Blob([body]).stream().pipeThrough(new CompressionStream("gzip"));
  const headers = { "Content-Type": "text/plain", "Content-Encoding": "gzip" };
  return { body: await new Response(stream).blob(), headers };
}

async function judge(answer: Response): Promise<Outcome> {
  const { status } = answer;
  const said = await answer.json().catch(() => ({}));
  const rejections = said.errors || [];
  if ((status === 200 && said.status === "ok") || said.code === "no_valid_events") {
    return { kind: "taken", rejections };
  }
  if (status === 413 || said.code === "too_many_events") {
    return { kind: "too large", limit: said.limit && status !== 413 ? said.limit : Number.POSITIVE_INFINITY };
  }
  if (status === 200 || status === 408 || status === 429 || status >= 500) {
    return { kind: "failed", answered: true, waitMs: askedMs(answer.headers.get("Retry-After") || "") };
  }
  return { kind: "refused", error: { code: said.code || `${status}`, message: said.message || "" } };
}

/** What `Retry-After` asks for: seconds, or a date; 0 where it makes no sense. */
function askedMs(value: string): number {
  return /^\d+$/.test(value) ? +value * 1000 : Math.max(Date.parse(value) - Date.now(), 0) || 0;
}
