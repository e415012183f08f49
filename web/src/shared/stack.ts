import type uPlot from "uplot";

type Values = (number | null)[];

/** Each series on top of those before it that are shown; one that is not shown stays where it would begin. */
export function stack(series: Values[], isShown: (number: number) => boolean): Values[] {
  const heights = new Array<number>(series[0]?.length ?? 0).fill(0);
  return series.map((values, number) => {
    if (!isShown(number)) return [...heights];
    for (const [place, value] of values.entries()) heights[place] = (heights[place] ?? 0) + (value ?? 0);
    return [...heights];
  });
}

/** The bands between stacked series: what each one fills ends at the one below it that is shown. */
export function bands(count: number, isShown: (number: number) => boolean): uPlot.Band[] {
  const found: uPlot.Band[] = [];
  let below = -1;
  for (let number = 0; number < count; number += 1) {
    if (!isShown(number)) continue;
    // The series of a chart are counted from 1: the first one is time.
    if (below >= 0) found.push({ series: [number + 1, below + 1] });
    below = number;
  }
  return found;
}
