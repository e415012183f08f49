import type { Options } from "./api";
import { alone } from "./lock";
import type { Batch, Queue } from "./queue";
import type { TextStore } from "./storage";
import { type Outcome, openTransport } from "./transport";

const BATCH_EVENTS_MAX = 500;
// Larger than any event that the queue takes.
const BATCH_BYTES_MAX = 1_000_000;
const ENVELOPE_BYTES = 1000;
const WAIT_MS_MAX = 60_000;
// A time to wait that lies further ahead than this is from before the clock was set back.
const ASKED_WAIT_MS_MAX = 3_600_000;

export interface Sender {
  /** Sends what waits, now or when that is allowed again. */
  flush(): Promise<void>;
  /** Says that an event was added. */
  added(): void;
  /** Sends what fits, in a way that outlives the page. */
  leave(): void;
}

export function openSender(options: Options, url: string, store: TextStore, queue: Queue, scope: string): Sender {
  const requestMs = (options.requestSeconds || 30) * 1000;
  const claimMs = requestMs + 5000;
  const transport = openTransport(url, requestMs);
  // `<until>|<failures>|<1 if the server answered>`, for all tabs: how long nobody may send.
  const waitKey = `${scope}wait`;
  let eventsMax = BATCH_EVENTS_MAX;
  let running: Promise<void> | undefined;
  let timer = 0;
  let due = Number.POSITIVE_INFINITY;

  function later(waitMs: number): void {
    const at = Date.now() + waitMs;
    if (at < due) {
      clearTimeout(timer);
      due = at;
      timer = setTimeout(flush, waitMs);
    }
  }

  function waiting(): number[] {
    const [until, failures, answered] = (store.get(waitKey) || "0|0|0").split("|").map(Number);
    const left = until - Date.now();
    return [left > ASKED_WAIT_MS_MAX ? 0 : Math.max(left, 0), failures, answered];
  }

  function flush(): Promise<void> {
    due = Number.POSITIVE_INFINITY;
    clearTimeout(timer);
    running ??= alone(store, `${scope}lock`, drain).then(() => {
      running = undefined;
      if (!queue.isEmpty()) {
        later(waiting()[0] || flushMs());
      }
    });
    return running;
  }

  async function drain(): Promise<void> {
    while (!waiting()[0] && navigator.onLine) {
      const batch = queue.claim(eventsMax, BATCH_BYTES_MAX, claimMs);
      if (!batch.keys.length) {
        return;
      }
      settle(batch, await transport.post(body(batch)));
    }
  }

  function settle(batch: Batch, outcome: Outcome): void {
    if (outcome.kind === "failed") {
      queue.release(batch);
      const failures = waiting()[1];
      const jitterMs = Math.random() * Math.min(WAIT_MS_MAX, 1000 * 2 ** failures);
      const waitMs = Math.min(ASKED_WAIT_MS_MAX, outcome.waitMs + jitterMs);
      store.set(waitKey, `${Date.now() + waitMs}|${failures + 1}|${+outcome.answered}`);
      return;
    }
    store.remove(waitKey);
    const { length } = batch.keys;
    if (outcome.kind === "too large" && length > 1) {
      queue.release(batch);
      eventsMax = Math.min(outcome.limit, length >> 1);
      return;
    }
    queue.remove(batch);
    report(batch, outcome);
  }

  function report(batch: Batch, outcome: Outcome): void {
    if (outcome.kind === "taken") {
      for (const { index, ...error } of outcome.rejections) {
        reject(batch.texts[index], error);
      }
    } else {
      const error = "error" in outcome ? outcome.error : { code: "too_large", message: "" };
      console.error(`Kixo: ${batch.keys.length} events were refused: ${error.code} ${error.message}`);
      for (const text of batch.texts) {
        reject(text, error);
      }
    }
  }

  function reject(text: string, error: { code: string; message: string }): void {
    try {
      options.onRejected?.(JSON.parse(text), error);
    } catch (fault) {
      console.error(fault);
    }
  }

  function body(batch: Batch): string {
    const envelope = JSON.stringify({
      project_id: options.projectId,
      api_key: options.apiKey,
      bundle_id: options.bundleId,
      platform: "web",
      environment: options.environment,
      sent_at: new Date().toISOString(),
    });
    // The events are JSON already, as they were when they were tracked.
    return `${envelope.slice(0, -1)},"batch":[${batch.texts}]}`;
  }

  function flushMs(): number {
    return (options.flushSeconds ?? 30) * 1000;
  }

  addEventListener("online", () => {
    if (!waiting()[2]) {
      store.remove(waitKey);
    }
    flush();
  });

  return {
    flush,
    added() {
      later(waiting()[0] || (queue.size() >= (options.flushEvents ?? 20) ? 0 : flushMs()));
    },
    leave() {
      if (waiting()[0] || !navigator.onLine) {
        return;
      }
      const bytes = transport.outlivingBytes() - ENVELOPE_BYTES;
      const batch = queue.claim(eventsMax, bytes, claimMs);
      if (batch.keys.length) {
        const text = body(batch);
        transport.post(text).then((outcome) => settle(batch, outcome));
      }
    },
  };
}
