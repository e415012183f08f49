// Who sends, and in which session. Ids are kept in the store, so the tabs of a visitor share them. A session ends after
// 30 idle minutes; any tab may notice. Its `session_start` has the session's id as event id and its `session_end` one
// made from it, so that two tabs that notice the same make one event.
import type { TextStore } from "./storage";
import { uuid7 } from "./uuid";

export const IDLE_MS_MAX = 30 * 60_000;

export interface Session {
  id: string;
  startMs: number;
  /** When something last happened in it. */
  lastMs: number;
}

export interface Sessions {
  deviceId(): string;
  /** The session that an event at `nowMs` belongs to. Only an active one keeps it going, or begins another. */
  at(nowMs: number, active: boolean): Session;
  /** Ends a session that has been idle for too long; returns how long to wait before looking again. */
  endIfIdle(): number;
}

export function openSessions(
  store: TextStore,
  scope: string,
  started: (session: Session) => void,
  ended: (session: Session) => void,
): Sessions {
  const key = `${scope}session`;

  function read(): Session | undefined {
    const [id, startMs, lastMs] = (store.get(key) || "").split("|");
    return id ? { id, startMs: +startMs, lastMs: +lastMs } : undefined;
  }

  function write({ id, startMs, lastMs }: Session): void {
    store.set(key, `${id}|${startMs}|${lastMs}`);
  }

  function begin(nowMs: number): Session {
    const session = { id: uuid7(), startMs: nowMs, lastMs: nowMs };
    write(session);
    started(session);
    return session;
  }

  function endIfIdle(): number {
    const session = read();
    const left = session ? session.lastMs + IDLE_MS_MAX - Date.now() : IDLE_MS_MAX;
    if (session && left <= 0) {
      store.remove(key);
      ended(session);
    }
    return left > 0 ? left : IDLE_MS_MAX;
  }

  return {
    deviceId() {
      const deviceKey = `${scope}device`;
      if (!store.get(deviceKey)) {
        store.set(deviceKey, uuid7());
      }
      return store.get(deviceKey) as string;
    },
    at(nowMs, active) {
      if (active) {
        endIfIdle();
      }
      const session = read() || begin(nowMs);
      if (active && nowMs > session.lastMs) {
        session.lastMs = nowMs;
        write(session);
      }
      return session;
    },
    endIfIdle,
  };
}

/** The id of a session's `session_end`: the session's own, with its last bit turned. */
export function endId(sessionId: string): string {
  return sessionId.slice(0, -1) + (Number.parseInt(sessionId.slice(-1), 16) ^ 1).toString(16);
}
