import uPlot from "uplot";
import { legend, listen, tellShown } from "./legend";
import { bands, stack } from "./stack";

interface Series {
  label: string;
  values: (number | null)[];
}

export interface ChartData {
  /** Seconds since 1970. */
  x: number[];
  series: Series[];
  unit?: string;
  kind?: "line" | "bars" | "area" | "stack";
  /** What stands along the chart where that is no time; `x` is then 0, 1, 2, … */
  labels?: string[];
}

const HEIGHT_PX = 180;
const COLOURS = 8;
const LABEL_LENGTH = 14;
/** So that lines can be told apart without their colours. */
const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];
// From which distance of ticks on a tick is written so; and what is added where another year or day begins.
const TICKS: [number, string, string | null, string | null][] = [
  [28 * 86_400, "{YYYY}-{MM}", null, null],
  [86_400, "{MM}-{DD}", "\n{YYYY}", null],
  [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", "\n{YYYY}-{MM}-{DD}"],
  [1, ":{ss}", "\n{YYYY}-{MM}-{DD} {HH}:{mm}", "\n{YYYY}-{MM}-{DD} {HH}:{mm}"],
];
// Steps of an axis that counts: there are no halves of an event.
const COUNTS = { incrs: Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((step) => step * 10 ** power)).flat() };
const drawn = new WeakSet<Element>();

/** Draws the figures below `root` that are not drawn yet. */
export function drawCharts(root: ParentNode): void {
  const found = [...root.querySelectorAll<HTMLElement>("figure[data-chart]")];
  if (root instanceof HTMLElement && root.matches("figure[data-chart]")) found.push(root);
  for (const figure of found) {
    if (drawn.has(figure)) continue;
    drawn.add(figure);
    const data = figure.querySelector('script[type="application/json"]')?.textContent;
    const plot = figure.querySelector<HTMLElement>(".plot");
    if (data && plot) draw(plot, JSON.parse(data));
  }
}

/** Draws a chart, as wide as its place and in the colours of the page, light or dark. */
export function draw(place: HTMLElement, data: ChartData): uPlot {
  const chart = new uPlot(
    options(place, data),
    aligned(data, () => true),
    place,
  );
  listen(chart);
  const fit = new ResizeObserver(() => {
    if (!place.isConnected) fit.disconnect();
    else if (place.clientWidth !== chart.width) chart.setSize({ width: place.clientWidth, height: HEIGHT_PX });
  });
  fit.observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.redraw());
  return chart;
}

function aligned(data: ChartData, isShown: (number: number) => boolean): uPlot.AlignedData {
  const values = data.series.map((one) => one.values);
  return [data.x, ...(data.kind === "stack" ? stack(values, isShown) : values)] as uPlot.AlignedData;
}

/** What was clicked away in a stack makes room. */
function toggled(chart: uPlot, data: ChartData): void {
  tellShown(chart);
  if (data.kind !== "stack") return;
  const isShown = (number: number) => chart.series[number + 1]?.show !== false;
  chart.delBand(null);
  for (const band of bands(data.series.length, isShown)) chart.addBand(band);
  chart.setData(aligned(data, isShown));
}

function options(place: HTMLElement, data: ChartData): uPlot.Options {
  const colour = (name: string) => () => getComputedStyle(place).getPropertyValue(name).trim();
  // A unit that is a word stands in the heading; here it would not fit.
  const scale = data.unit === "bytes" || data.unit === "seconds" ? data.unit : "";
  const isCount = !scale && data.series.every((one) => one.values.every((value) => Number.isInteger(value ?? 0)));
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width: place.clientWidth || 300,
    height: HEIGHT_PX,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    cursor: { drag: { x: false, y: false } },
    legend: legend(place),
    bands: data.kind === "stack" ? bands(data.series.length, () => true) : [],
    hooks: { setSeries: [(chart, _number, change) => change.show !== undefined && toggled(chart, data)] },
    scales: {
      x: { time: !data.labels, ...(data.labels && { range: [-0.5, data.labels.length - 0.5] }) },
      y: { range: (_chart, _low, high) => [0, high > 0 ? high * 1.1 : 1] },
    },
    axes: [
      { ...axis, ...(data.labels ? labelled(data.labels) : { values: ticks() }) },
      { ...axis, size: 64, values: (_chart, ticks) => ticks.map((tick) => shown(tick, scale)), ...(isCount && COUNTS) },
    ],
    series: [
      data.labels
        ? { label: "", value: (_chart, place) => data.labels?.[place] ?? "–" }
        : { label: "Time (UTC)", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
      ...data.series.map((one, number) => ({
        ...series(one, data, colour(`--chart-${(number % COLOURS) + 1}`)),
        dash: DASHES[number % DASHES.length],
      })),
    ],
  };
}

/** An axis of names: one at each whole number, as far as there is room. */
function labelled(labels: string[]): uPlot.Axis {
  return {
    incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
    space: 80,
    values: (_chart, places) => places.map((place) => short(labels[place] ?? "")),
  };
}

function short(text: string): string {
  return text.length > LABEL_LENGTH ? `${text.slice(0, LABEL_LENGTH - 1)}…` : text;
}

function ticks(): uPlot.Axis.Values {
  return TICKS.map(([distance, form, year, day]) => [distance, form, year, null, day, null, null, null, 1]);
}

function series(one: Series, data: ChartData, stroke: () => string): uPlot.Series {
  const paths = data.kind === "bars" ? uPlot.paths.bars?.({ size: [0.8, 40] }) : undefined;
  return {
    label: one.label,
    stroke,
    width: 1.5,
    // A value without neighbours is no line.
    points: { show: data.x.length < 2 || one.values.includes(null), size: 4 },
    value: (_chart, _height, _number, place) => {
      const value = place === null ? null : one.values[place];
      return value === null || value === undefined ? "–" : shown(value, data.unit);
    },
    ...(paths && { paths }),
    ...(data.kind && data.kind !== "line" && { fill: () => `color-mix(in srgb, ${stroke()} 25%, transparent)` }),
  };
}

/** A figure with its unit; bytes and seconds in what they are read in. */
export function shown(value: number, unit = ""): string {
  if (unit === "bytes") return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
  if (unit === "seconds") return value < 1 ? `${round(value * 1000)} ms` : `${round(value)} s`;
  const text = value >= 10_000 ? scaled(value, 1000, ["", "k", "M", "G"]) : String(round(value));
  return unit ? `${text} ${unit}` : text;
}

function scaled(value: number, step: number, units: string[]): string {
  let place = 0;
  let rest = value;
  while (Math.abs(rest) >= step && place < units.length - 1) {
    rest /= step;
    place += 1;
  }
  return `${round(rest)} ${units[place]}`.trim();
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}
