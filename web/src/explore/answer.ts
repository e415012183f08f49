// The answer as a chart: which columns are drawn, and how. Its figures are read from the table that the page shows.
import type uPlot from "uplot";
import { type ChartData, draw } from "../shared/chart";

interface Chosen {
  kind: string;
  x: string;
  y: string;
  split: string;
}

const SERIES_MAX = 8;
const EVERY = "";

/** Lets a person choose a chart of the table that is shown, and remembers the choice in the form. */
export class AnswerChart {
  private plot: uPlot | null = null;
  private readonly place = element("drawing");
  private readonly kind = element<HTMLSelectElement>("chart-kind");
  private readonly x = element<HTMLSelectElement>("chart-x");
  private readonly y = element<HTMLSelectElement>("chart-y");
  private readonly split = element<HTMLSelectElement>("chart-split");

  constructor(private readonly kept: HTMLInputElement) {
    for (const select of [this.kind, this.x, this.y, this.split])
      select.addEventListener("change", () => this.redraw());
  }

  /** Takes up a new answer, or none. */
  show(): void {
    const headings = [...document.querySelectorAll<HTMLElement>("#rows thead th")];
    const numbers = headings.filter((one) => one.dataset.kind === "number").map(name);
    const others = headings.filter((one) => one.dataset.kind !== "number").map(name);
    const times = headings.filter((one) => one.dataset.kind === "time").map(name);
    const possible = numbers.length > 0 && headings.length > 1;
    element("chart-choice").hidden = !possible;
    const wanted: Partial<Chosen> = this.kept.value ? JSON.parse(this.kept.value) : {};
    fill(this.x, [...others, ...numbers], wanted.x ?? times[0] ?? others[0] ?? numbers[0]);
    fill(this.y, [EVERY, ...numbers], wanted.y ?? EVERY, "all numbers");
    fill(
      this.split,
      [EVERY, ...others],
      wanted.split ?? (times.length && others.length > 1 ? others.find((one) => !times.includes(one)) : EVERY),
      "–",
    );
    this.kind.value = possible ? (wanted.kind ?? "") : "";
    this.redraw();
  }

  private redraw(): void {
    this.plot?.destroy();
    this.plot = null;
    const chosen = { kind: this.kind.value, x: this.x.value, y: this.y.value, split: this.split.value };
    const drawn = chosen.kind !== "";
    for (const label of document.querySelectorAll<HTMLElement>(".of-chart")) label.hidden = !drawn;
    this.place.hidden = !drawn;
    if (!element("chart-choice").hidden) this.kept.value = drawn ? JSON.stringify(chosen) : "";
    // The names of its lines stand beside a chart, and do not go with it.
    this.place.replaceChildren();
    if (drawn) this.plot = draw(this.place.appendChild(picture()), chartData(chosen));
  }
}

function picture(): HTMLElement {
  const place = document.createElement("div");
  place.className = "plot";
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", "The answer, drawn; the table below has the figures");
  return place;
}

function chartData(chosen: Chosen): ChartData {
  const headings = [...document.querySelectorAll<HTMLElement>("#rows thead th")];
  const column = (wanted: string) => headings.findIndex((one) => name(one) === wanted);
  const at = column(chosen.x);
  const rows = [...document.querySelectorAll<HTMLTableRowElement>("#rows tbody tr")].map((row) =>
    [...row.cells].map((cell) => cell.textContent ?? ""),
  );
  const isTime = headings[at]?.dataset.kind === "time";
  const labels = [...new Set(rows.map((row) => row[at]))];
  if (isTime) labels.sort();
  const figures = headings.filter((one) => one.dataset.kind === "number").map(name);
  const wanted = chosen.y === EVERY ? figures.filter((one) => one !== chosen.x) : [chosen.y];
  const found = new Map<string, (number | null)[]>();
  const place = new Map(labels.map((label, number) => [label, number]));
  const split = chosen.split === EVERY ? -1 : column(chosen.split);
  for (const row of rows) {
    for (const figure of wanted) {
      const label = split < 0 ? figure : wanted.length > 1 ? `${row[split]}: ${figure}` : row[split];
      const values = found.get(label) ?? new Array<number | null>(labels.length).fill(null);
      const value = Number(row[column(figure)]);
      values[place.get(row[at]) ?? 0] = Number.isFinite(value) && row[column(figure)] !== "NULL" ? value : null;
      found.set(label, values);
    }
  }
  const series = [...found].slice(0, SERIES_MAX).map(([label, values]) => ({ label, values }));
  const kind = chosen.kind as ChartData["kind"];
  if (isTime) return { x: labels.map(seconds), series, kind };
  return { x: labels.map((_label, number) => number), series, kind, labels };
}

/** The seconds of `2026-04-08` or `2026-04-08 12:00:00`, which are in UTC. */
function seconds(text: string): number {
  return Date.parse(`${text.replace(" ", "T")}${text.includes(":") ? "Z" : ""}`) / 1000;
}

function fill(select: HTMLSelectElement, names: string[], chosen: string | undefined, empty = ""): void {
  select.replaceChildren(...names.map((one) => new Option(one === EVERY ? empty : one, one)));
  select.value = chosen !== undefined && names.includes(chosen) ? chosen : (names[0] ?? "");
}

function name(heading: HTMLElement): string {
  return heading.textContent ?? "";
}

function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}
