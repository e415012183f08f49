// Explore: the editor, running and cancelling a query, its answer as a chart, and questions that fill the editor.
import { AnswerChart } from "./explore/answer";
import { openEditor } from "./explore/editor";
import { tell } from "./shared/messages";
import { send } from "./shared/session";

const TICK_MS = 100;
const form = document.getElementById("query") as HTMLFormElement;
const result = document.getElementById("result") as HTMLElement;
const runButton = document.getElementById("run") as HTMLButtonElement;
const stopButton = document.getElementById("stop") as HTMLButtonElement;
const elapsed = document.getElementById("elapsed") as HTMLElement;
const idField = form.elements.namedItem("id") as HTMLInputElement;

const editor = openEditor(form.elements.namedItem("sql") as HTMLTextAreaElement, () => form.requestSubmit(runButton));
const chart = new AnswerChart(form.elements.namedItem("chart") as HTMLInputElement);
let running = false;

async function run(): Promise<void> {
  if (running || !editor.read().trim()) return;
  begin();
  const body = new URLSearchParams(new FormData(form) as unknown as Record<string, string>);
  try {
    const answer = await send(form.action, { method: "POST", body, headers: { "HX-Request": "true" } });
    if (answer.ok) show(await answer.text());
    else tell(answer.status === 401 ? "The session has ended. Load the page again to log in." : await refusal(answer));
  } catch {
    tell("The console cannot be reached. Is the server running?");
  } finally {
    end();
  }
}

async function refusal(answer: Response): Promise<string> {
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return page.querySelector("main")?.textContent?.trim() || `The console answered ${answer.status}.`;
}

let timer = 0;

function begin(): void {
  const began = performance.now();
  running = true;
  idField.value = crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(16), "");
  editor.mark(null);
  runButton.disabled = true;
  stopButton.hidden = elapsed.hidden = false;
  result.setAttribute("aria-busy", "true");
  const tick = () => {
    elapsed.textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  };
  tick();
  timer = window.setInterval(tick, TICK_MS);
}

function end(): void {
  running = false;
  clearInterval(timer);
  const hadFocus = document.activeElement === stopButton;
  runButton.disabled = false;
  stopButton.hidden = elapsed.hidden = true;
  if (hadFocus) runButton.focus();
  result.setAttribute("aria-busy", "false");
}

function show(fragment: string): void {
  result.innerHTML = fragment;
  chart.show();
  const place = result.querySelector<HTMLElement>("[data-position]")?.dataset.position;
  editor.mark(place ? Number(place) : null);
}

form.addEventListener("submit", (event) => {
  if (event.submitter !== runButton) return;
  event.preventDefault();
  void run();
});
stopButton.addEventListener("click", () => {
  void send("/explore/stop", { method: "POST", body: new URLSearchParams({ id: idField.value }) });
});
for (const question of document.querySelectorAll<HTMLFormElement>("form.question")) {
  question.addEventListener("submit", (event) => {
    event.preventDefault();
    void askQuestion(question);
  });
}

async function askQuestion(question: HTMLFormElement): Promise<void> {
  const query = new URLSearchParams(new FormData(question) as unknown as Record<string, string>);
  try {
    const answer = await send(`/explore/question?${query}`);
    if (!answer.ok) {
      tell(await refusal(answer));
      return;
    }
    editor.write((await answer.json()).sql);
  } catch {
    tell("The console cannot be reached. Is the server running?");
    return;
  }
  (form.elements.namedItem("chart") as HTMLInputElement).value = "";
  form.scrollIntoView({ block: "start" });
  await run();
}

chart.show();
