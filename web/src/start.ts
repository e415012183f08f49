// The start page: "try it", and the line that waits for the first event or the reason why there is none.
import { fill, type Row, type Settled, setOutcome } from "./shared/rows";

const ROWS_MAX = 5;

const arrivals = document.getElementById("arrivals");
if (arrivals) wait(arrivals);
const box = document.getElementById("try");
if (box) offerTry(box);

function wait(list: HTMLElement): void {
  const blank = (document.getElementById("arrival") as HTMLTemplateElement).content.firstElementChild as HTMLElement;
  const line = document.getElementById("waiting-text") as HTMLElement;
  const fault = document.getElementById("fault") as HTMLElement;
  const find = (id: string) => list.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"]`);
  const source = new EventSource(list.dataset.stream ?? "");
  source.addEventListener("rows", (event) => {
    for (const row of JSON.parse((event as MessageEvent).data) as Row[]) {
      // The list begins with the newest; what the stream begins with reaches further back.
      if (row.at < (list.dataset.latest ?? "") || find(row.id)) continue;
      const address = `${list.dataset.page ?? ""}&event=${encodeURIComponent(row.id)}`;
      list.prepend(fill(blank.cloneNode(true) as HTMLElement, row, address));
      line.textContent = inWords(row);
    }
    while (list.childElementCount > ROWS_MAX) list.lastElementChild?.remove();
  });
  source.addEventListener("settled", (event) => {
    const settled = JSON.parse((event as MessageEvent).data) as Settled;
    for (const outcome of ["stored", "duplicate"] as const) {
      for (const id of settled[outcome] ?? []) {
        const item = find(id);
        if (item) setOutcome(item, outcome);
      }
    }
  });
  source.addEventListener("ended", () => source.close());
  source.addEventListener("open", () => {
    fault.hidden = true;
  });
  source.addEventListener("error", () => {
    fault.textContent =
      source.readyState === EventSource.CLOSED
        ? "The console does not send events to this page: the session has ended, or too many pages watch. Load it again."
        : "The connection is lost. Trying again…";
    fault.hidden = false;
  });
}

function inWords(row: Row): string {
  if (row.outcome === "refused") return "A request was refused:";
  return row.outcome === "rejected" ? "An event was rejected:" : "It has arrived:";
}

/** Asks the public port what it would answer. The media type spares browsers the question whether they may ask. */
function offerTry(frame: HTMLElement): void {
  const answer = document.getElementById("try-answer") as HTMLElement;
  frame.hidden = false;
  document.getElementById("try-it")?.addEventListener("click", async () => {
    answer.textContent = "Asking…";
    try {
      const found = await fetch(frame.dataset.url ?? "", {
        method: "POST",
        headers: { "Content-Type": "text/plain" },
        body: frame.dataset.batch,
      });
      show(answer, found.status, await found.text());
    } catch {
      answer.textContent = `The public port cannot be reached at ${frame.dataset.url}. Is public_url set to where browsers find it?`;
    }
  });
}

interface Explained {
  message?: string;
  events?: { index: number; clock?: string; identity_from?: string; message?: string }[];
}

/** What the answer says, in words, and as it came. */
function show(answer: HTMLElement, status: number, text: string): void {
  const lines: string[] = [];
  const pre = document.createElement("pre");
  pre.tabIndex = 0;
  pre.textContent = text;
  try {
    const found = JSON.parse(text) as Explained;
    pre.textContent = JSON.stringify(found, null, 2);
    lines.push(status === 200 ? "200: it would be taken. Nothing was stored." : `${status}: ${found.message ?? ""}`);
    for (const event of found.events ?? []) {
      if (event.clock) lines.push(event.clock);
      if (event.message && status === 200) lines.push(event.message);
      if (event.identity_from === "content")
        lines.push("It has no `event_id`, so it is known by all that it says: sent twice it counts once.");
    }
  } catch {
    lines.push(`${status}: that is no answer of Kixo. Is something else at this address?`);
  }
  const said = document.createElement("div");
  said.className = status === 200 ? "message" : "message bad";
  for (const line of lines) {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    said.append(paragraph);
  }
  answer.replaceChildren(said, pre);
}
