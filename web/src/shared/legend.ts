import type uPlot from "uplot";

/** Below the chart, where each name is a button: a click, Enter or Space takes its line away and brings it back. */
export function legend(place: HTMLElement): uPlot.Legend {
  return { mount: (chart, table) => mount(chart, table, place) };
}

/** Says of each name whether its line is shown. */
export function tellShown(chart: uPlot): void {
  for (const [number, name] of names(chart).entries()) {
    name.setAttribute("aria-pressed", String(chart.series[number + 1]?.show !== false));
  }
}

const tables = new WeakMap<uPlot, HTMLElement>();

function mount(chart: uPlot, table: HTMLElement, place: HTMLElement): void {
  tables.set(chart, table);
  // Figures stand in the table of the page; here are buttons.
  table.setAttribute("role", "group");
  table.setAttribute("aria-label", "Lines");
  place.after(table);
}

/** Lets the names be used by keyboard; called when they are there. */
export function listen(chart: uPlot): void {
  for (const name of names(chart)) {
    name.tabIndex = 0;
    name.setAttribute("role", "button");
    name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      name.click();
    });
  }
  tellShown(chart);
}

function names(chart: uPlot): HTMLElement[] {
  return [...(tables.get(chart)?.querySelectorAll<HTMLElement>(".u-series th") ?? [])].slice(1);
}
