import type { TextStore } from "./storage";
import { uuid7 } from "./uuid";

const LEASE_MS = 40_000;

/** Runs `work` while no other tab does: waits for its turn, or, where the browser has no locks, may go without. */
export function alone(store: TextStore, name: string, work: () => Promise<void>): Promise<void> {
  // Where storage is denied, locks are denied too.
  return navigator.locks
    ? navigator.locks.request(name, work).catch(() => leased(store, name, work))
    : leased(store, name, work);
}

/**
 * A lease is `<end>|<owner>`. Two tabs that take one in the same moment can both believe that they have it; that costs
 * a request and nothing else, since events that are sent twice count once.
 */
async function leased(store: TextStore, name: string, work: () => Promise<void>): Promise<void> {
  const left = Number.parseInt(store.get(name) || "0", 10) - Date.now();
  if (left > 0 && left <= LEASE_MS) {
    return;
  }
  const lease = `${Date.now() + LEASE_MS}|${uuid7()}`;
  store.set(name, lease);
  await new Promise((done) => setTimeout(done, 20));
  if (store.get(name) === lease) {
    await work().finally(() => store.remove(name));
  }
}
