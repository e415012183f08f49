import type { AutomaticKind, KixoClient, KixoEvent, Options, Properties } from "./api";
import { watchClicks } from "./clicks";
import { watchErrors } from "./failures";
import { watchPageViews } from "./page_views";
import { cleanUrl, route } from "./privacy";
import { openQueue } from "./queue";
import { watchScrollDepth } from "./scroll_depth";
import { openSender, type Sender } from "./sender";
import { endId, openSessions, type Session } from "./session";
import { openStore } from "./storage";
import { uuid7 } from "./uuid";
import { watchPerformance } from "./vitals";

const NAME_LENGTH_MAX = 2048;
const CALLS_MAX = 100;
/** These say nothing of whether somebody is there. */
const PASSIVE: string[] = ["error", "performance"];

type Track = (name: string, properties: Properties, atMs: number) => void;

interface Running {
  track: Track;
  sender: Sender;
  optOut(): void;
  optIn(): void;
}

/** What the snippet's stand-in needs besides: when a call was made. */
export interface TimedClient extends KixoClient {
  track(name?: string, properties?: Properties, atMs?: number): void;
}

/** A client that is yet to be started. `defaultHost` is where this file came from. */
export function makeClient(defaultHost: string): TimedClient {
  let running: Running | undefined;
  const early: Parameters<Track>[] = [];
  return {
    start(options) {
      if (running) {
        return;
      }
      const missing = (["projectId", "apiKey", "bundleId"] as const).filter((name) => !options?.[name]);
      if (missing.length) {
        console.error(`Kixo.start() needs ${missing.join(", ")}. Nothing is collected.`);
        return;
      }
      if ((document as { prerendering?: boolean }).prerendering) {
        // Nobody has seen the page yet, and perhaps nobody will.
        document.addEventListener("prerenderingchange", () => this.start(options), { once: true });
        return;
      }
      running = run(options, options.host || defaultHost);
      for (const call of early.splice(0)) {
        running.track(...call);
      }
    },
    track(name = "", properties = {}, atMs = Date.now()) {
      if (running) {
        running.track(name, properties, atMs);
      } else if (early.length < CALLS_MAX) {
        early.push([name, properties, atMs]);
      }
    },
    flush: () => (running ? running.sender.flush() : Promise.resolve()),
    optOut: () => running?.optOut(),
    optIn: () => running?.optIn(),
  };
}

function run(options: Options, host: string): Running {
  const { projectId, bundleId, environment = "production", automatic = true } = options;
  const store = openStore();
  const scope = `kixo:${projectId}:`;
  const queueScope = `${scope}${environment}:${bundleId}:`;
  const queue = openQueue(store, `${queueScope}event:`, options);
  const sender = openSender(options, `${host.replace(/\/$/, "")}/v1/batch`, store, queue, queueScope);
  const sessions = openSessions(
    store,
    scope,
    (session) => automaticIn(session, "session_start", session.startMs, session.id, {}),
    (session) => {
      const seconds = Math.round((session.lastMs - session.startMs) / 1000);
      automaticIn(session, "session_end", session.lastMs, endId(session.id), { seconds });
    },
  );
  const choiceKey = `${scope}choice`;

  function isOut(): boolean {
    return (store.get(choiceKey) || (options.optedOut ? "out" : "in")) === "out";
  }

  /** Removes everything but the visitor's choice. */
  function forget(): void {
    for (const key of store.keys(scope)) {
      if (key !== choiceKey) {
        store.remove(key);
      }
    }
  }

  function isOn(kind: AutomaticKind): boolean {
    return typeof automatic === "boolean" ? automatic : automatic[kind] !== false;
  }

  /** Whatever goes wrong in here, in the page's own `beforeSend` too, must not stop the page. */
  function keep(session: Session, type: string, name: string, atMs: number, id: string, properties: Properties): void {
    try {
      const event: KixoEvent = {
        event_type: type,
        event_name: `${name}`.slice(0, NAME_LENGTH_MAX),
        device_id: sessions.deviceId(),
        session_id: session.id,
        timestamp: new Date(atMs).toISOString(),
        event_id: id,
        properties,
      };
      const allowed = options.beforeSend ? options.beforeSend(event) : event;
      if (allowed) {
        queue.add(allowed);
        sender.added();
      }
    } catch (fault) {
      console.error("Kixo: an event was not kept.", fault);
    }
  }

  function automaticIn(session: Session, kind: AutomaticKind, atMs: number, id: string, properties: Properties): void {
    if (isOn(kind)) {
      keep(session, kind, kind, atMs, id, properties);
    }
  }

  function record(type: string, name: string, properties: Properties, atMs: number): void {
    if (!isOut()) {
      keep(sessions.at(atMs, !PASSIVE.includes(type)), type, name, atMs, uuid7(), properties);
    }
  }

  const recorder = {
    record: (kind: AutomaticKind, name: string, properties: Properties) =>
      isOn(kind) && record(kind, name, properties, Date.now()),
    isOut,
    pageUrl: () => cleanUrl(location.href, options.queryParameters),
    pageName: () => location.pathname + route(location.hash),
    queryParameters: options.queryParameters,
  };
  const newPage: (() => void)[] = [];
  const recordPerformance = isOn("performance") ? watchPerformance(recorder) : () => {};
  const pages = watchPageViews(recorder, () => {
    for (const begin of newPage) {
      begin();
    }
  });
  watchClicks(recorder);
  newPage.push(watchScrollDepth(recorder), watchErrors(recorder));

  function leave(): void {
    pages.settle();
    recordPerformance();
    sender.leave();
  }
  addEventListener("visibilitychange", () => document.visibilityState === "hidden" && leave());
  addEventListener("pagehide", leave);

  function watchIdle(): void {
    setTimeout(watchIdle, isOut() ? 60_000 : sessions.endIfIdle());
  }
  watchIdle();
  // Another tab may have marked an event in the very moment in which it went, and so have brought it back.
  addEventListener("storage", (change) => change.key === choiceKey && isOut() && forget());
  sender.added();

  return {
    track: (name, properties, atMs) => record("custom", name, properties, atMs),
    sender,
    optOut() {
      forget();
      store.set(choiceKey, "out");
    },
    optIn() {
      if (isOut()) {
        store.set(choiceKey, "in");
        pages.view("load");
      }
    },
  };
}
