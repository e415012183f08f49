// The live page: rows from a stream of server-sent events, put into the page once a frame, and a panel for a whole event.
import { fill, type Rate, type Row, rateInWords, type Settled, setOutcome } from "./shared/rows";

const ROWS_MAX = 200;
const AGAIN_MS = 500;
const AGAIN_MS_MAX = 10_000;

const rows = document.getElementById("rows");
if (rows) live(rows);

function live(body: HTMLElement): void {
  const blank = (document.getElementById("row") as HTMLTemplateElement).content.firstElementChild as HTMLElement;
  const list = document.getElementById("list") as HTMLElement;
  const nothing = document.getElementById("nothing") as HTMLElement;
  const rateLine = document.getElementById("rate") as HTMLElement;
  const fault = document.getElementById("fault") as HTMLElement;
  const pause = document.getElementById("pause") as HTMLButtonElement;
  const panel = openPanel(body);
  const filtered = /[?&](type|name|device|outcome|platform)=./.test(body.dataset.page ?? "");
  const known = new Map<string, HTMLElement>();
  for (const row of body.querySelectorAll<HTMLElement>("tr")) known.set(row.dataset.id ?? "", row);
  let waiting = new Map<string, Row>();
  let paused = false;
  let came = 0;
  let drawing = 0;

  function draw(): void {
    drawing = 0;
    if (paused || !waiting.size) return;
    const fragment = document.createDocumentFragment();
    for (const row of waiting.values()) {
      const element = fill(blank.cloneNode(true) as HTMLElement, row, withEvent(body.dataset.page ?? "", row.id));
      known.set(row.id, element);
      fragment.prepend(element);
    }
    waiting = new Map();
    body.prepend(fragment);
    while (body.childElementCount > ROWS_MAX) {
      const last = body.lastElementChild as HTMLElement;
      known.delete(last.dataset.id ?? "");
      last.remove();
    }
    nothing.hidden = true;
    list.hidden = false;
    panel.mark();
  }

  function take(found: Row[]): void {
    for (const row of found) {
      if (known.has(row.id) || waiting.has(row.id)) continue;
      waiting.set(row.id, row);
      came += 1;
      // The oldest go: a page in the background is not drawn, and a paused one keeps what it can show.
      if (waiting.size > ROWS_MAX) waiting.delete(waiting.keys().next().value as string);
    }
    if (paused) showPause();
    else if (!drawing) drawing = requestAnimationFrame(draw);
  }

  function settle(settled: Settled): void {
    for (const outcome of ["stored", "duplicate"] as const) {
      for (const id of settled[outcome] ?? []) {
        const row = waiting.get(id);
        if (row) row.outcome = outcome;
        const element = known.get(id);
        if (element) setOutcome(element, outcome);
        panel.refresh(id);
      }
    }
  }

  function showPause(): void {
    pause.textContent = paused ? `Resume (${came.toLocaleString("en")} new)` : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
  }

  pause.hidden = false;
  rateLine.textContent = "Connecting…";
  pause.addEventListener("click", () => {
    paused = !paused;
    came = 0;
    showPause();
    if (!paused) draw();
  });

  const say = (text: string) => {
    fault.textContent = text;
    fault.hidden = !text;
  };
  const source = new EventSource(body.dataset.stream ?? "");
  const on = (name: string, heard: (data: never) => void) =>
    source.addEventListener(name, (event) => heard(JSON.parse((event as MessageEvent).data) as never));
  let dropped = 0;
  on("rows", take);
  on("settled", settle);
  on("rate", (rate: Rate) => {
    const lost = dropped ? ` This browser did not keep up: ${dropped.toLocaleString("en")} rows were left out.` : "";
    rateLine.textContent = rateInWords(rate, filtered) + lost;
    say("");
  });
  on("dropped", ({ rows: count }: { rows: number }) => {
    dropped += count;
  });
  on("fault", ({ message }: { message: string }) => say(message));
  on("ended", () => {
    source.close();
    say("The session has ended. Load the page again to log in.");
  });
  source.addEventListener("open", () => {
    rateLine.textContent = "Waiting for events.";
    say("");
  });
  source.addEventListener("error", () => {
    rateLine.textContent = "";
    say(
      source.readyState === EventSource.CLOSED
        ? "The console does not send events to this page: the session has ended, or too many pages watch. Load it again."
        : "The connection is lost. Trying again…",
    );
  });
}

function withEvent(address: string, id: string): string {
  return `${address}${address.includes("?") ? "&" : "?"}event=${encodeURIComponent(id)}`;
}

interface Panel {
  mark(): void;
  refresh(id: string): void;
}

/** The whole event beside the list: opened by a click or Enter, closed by Escape, and named in the address. */
function openPanel(body: HTMLElement): Panel {
  const aside = document.getElementById("event") as HTMLElement;
  const frame = aside.parentElement as HTMLElement;
  let shown = aside.querySelector<HTMLElement>(".whole")?.dataset.id;
  let timer = 0;
  let asked = 0;

  function mark(): void {
    for (const row of body.querySelectorAll("[aria-current]")) row.removeAttribute("aria-current");
    if (shown) body.querySelector(`[data-id="${CSS.escape(shown)}"]`)?.setAttribute("aria-current", "true");
  }

  async function load(id: string, focus: boolean): Promise<void> {
    clearTimeout(timer);
    const answer = await fetch(withEvent(body.dataset.event ?? "", id));
    if (shown !== id) return;
    if (!answer.ok) {
      const why = answer.status === 401 ? "The session has ended. Load the page again to log in." : await answer.text();
      const line = document.createElement("p");
      line.className = "message bad";
      line.textContent = why.startsWith("<") ? `The console answered ${answer.status}. Try again.` : why;
      aside.replaceChildren(line);
    } else {
      aside.innerHTML = await answer.text();
      window.htmx?.process(aside);
      for (const button of aside.querySelectorAll<HTMLElement>("[data-copy]")) button.hidden = false;
    }
    if (focus) aside.querySelector<HTMLElement>("h2")?.focus();
    watch();
  }

  /** Asks again until the tables have the event. */
  function watch(): void {
    const id = shown;
    if (!id || !aside.querySelector("[data-again]")) return;
    // Less and less often: a loader that stands still for long needs no questions.
    asked += 1;
    timer = setTimeout(() => load(id, false), Math.min(asked * AGAIN_MS, AGAIN_MS_MAX));
  }

  function open(id: string, focus: boolean): void {
    shown = id;
    asked = 0;
    aside.hidden = false;
    frame.classList.add("with-event");
    mark();
    void load(id, focus);
  }

  function close(): void {
    const id = shown;
    shown = undefined;
    clearTimeout(timer);
    aside.hidden = true;
    aside.replaceChildren();
    frame.classList.remove("with-event");
    mark();
    if (id) body.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"] a`)?.focus();
  }

  body.addEventListener("click", (event) => {
    const target = event.target as Element;
    const id = target.closest<HTMLElement>("tr")?.dataset.id;
    const pressed = event as MouseEvent;
    if (!id || id.startsWith("r") || pressed.ctrlKey || pressed.metaKey || pressed.shiftKey || pressed.button) return;
    if (getSelection()?.type === "Range" && !target.closest("a")) return;
    event.preventDefault();
    history.pushState(null, "", withEvent(body.dataset.page ?? "", id));
    open(id, true);
  });
  aside.addEventListener("click", (event) => {
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[href]");
    if (!link) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    follow(true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !shown) return;
    history.pushState(null, "", body.dataset.page ?? "");
    close();
  });
  const follow = (focus: boolean) => {
    const id = new URL(location.href).searchParams.get("event");
    if (id) open(id, focus);
    else close();
  };
  window.addEventListener("popstate", () => follow(false));
  mark();
  watch();
  return {
    mark,
    refresh: (id) => {
      if (id === shown && aside.querySelector("[data-again]")) void load(id, false);
    },
  };
}
