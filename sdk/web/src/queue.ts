// Every waiting event is an entry of its own, under its id: tabs add without reading what others wrote, and what a
// dead tab left is there for whoever sends next. An entry is `<claim>|<event as JSON>`. The claim is the time until
// which a sender counts on an answer, 0 for none: until then nobody else sends the event. A claim whose sender died
// runs out, and the event is sent again with the same id.
import type { KixoEvent, Options } from "./api";
import type { TextStore } from "./storage";

// The server refuses more.
const EVENT_CHARACTERS_MAX = 100_000;
const CLAIM_MS_MAX = 600_000;

export interface Batch {
  keys: string[];
  /** The events as JSON, in the order of `keys`. */
  texts: string[];
}

export interface Queue {
  add(event: KixoEvent): void;
  /** Events that wait and nobody is sending, oldest first; claims them for `claimMs`. */
  claim(eventsMax: number, bytesMax: number, claimMs: number): Batch;
  /** Takes the claim back: the events wait again. */
  release(batch: Batch): void;
  /** Takes the events out of the queue for good. */
  remove(batch: Batch): void;
  /** How many events wait and nobody is sending, as far as this tab knows. */
  size(): number;
  /** Whether there is nothing at all, claimed or not. */
  isEmpty(): boolean;
}

export function openQueue(
  store: TextStore,
  prefix: string,
  { queueEvents = 1000, queueCharacters = 1_000_000 }: Options,
): Queue {
  let total = 0;
  let characters = 0;
  let size = 0;

  /** The events that nobody is sending, oldest first. */
  function waiting(): [string, string][] {
    const now = Date.now();
    const keys = store.keys(prefix);
    characters = 0;
    const found = keys
      .map((key): [string, string] => [key, store.get(key) || ""])
      .filter(([, entry]) => {
        characters += entry.length;
        const left = Number.parseInt(entry, 10) - now;
        // An entry that is gone by now gives no number, and is left out.
        // A claim that lies further ahead than any sender makes one is from before the clock was set back.
        return left <= 0 || left > CLAIM_MS_MAX;
      });
    total = keys.length;
    size = found.length;
    return found;
  }

  /** Lets the oldest go. */
  function makeRoom(length: number): void {
    waiting();
    for (const key of store.keys(prefix)) {
      if (total < queueEvents && characters + length <= queueCharacters) {
        break;
      }
      characters -= (store.get(key) || "").length;
      total--;
      size--;
      store.remove(key);
    }
  }

  /** Only where the entry is still there: another tab may have opted out in the meantime. */
  function mark(batch: Batch, claim: number): void {
    batch.keys.forEach((key, place) => {
      if (store.get(key)) {
        store.set(key, `${claim}|${batch.texts[place]}`);
      }
    });
  }

  waiting();
  return {
    add(event) {
      const entry = `0|${JSON.stringify(event)}`;
      if (entry.length > EVENT_CHARACTERS_MAX) {
        throw new Error("Too large: properties may have 64 KiB.");
      }
      if (total >= queueEvents || characters + entry.length > queueCharacters) {
        makeRoom(entry.length);
      }
      store.set(prefix + event.event_id, entry);
      total++;
      size++;
      characters += entry.length;
    },
    claim(eventsMax, bytesMax, claimMs) {
      const batch: Batch = { keys: [], texts: [] };
      let bytes = 0;
      for (const [key, entry] of waiting()) {
        const text = entry.slice(entry.indexOf("|") + 1);
        bytes += new Blob([text]).size + 1;
        if (batch.keys.length >= eventsMax || bytes > bytesMax) {
          break;
        }
        batch.keys.push(key);
        batch.texts.push(text);
      }
      mark(batch, Date.now() + claimMs);
      size -= batch.keys.length;
      return batch;
    },
    release(batch) {
      mark(batch, 0);
      size += batch.keys.length;
    },
    remove(batch) {
      batch.keys.forEach(store.remove);
      total -= batch.keys.length;
    },
    size: () => size,
    isEmpty: () => !store.keys(prefix).length,
  };
}
