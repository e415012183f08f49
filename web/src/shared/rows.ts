/** A row as the server tells it; kixo.console.feed.row says what each member is. */
export interface Row {
  id: string;
  at: string;
  outcome: string;
  environment?: string;
  platform?: string;
  type?: string;
  name?: string;
  device?: string;
  status?: number;
  reason?: { code: string; message: string; field?: string; value?: string };
}

export interface Rate {
  arriving: number;
  among: number;
  matching: number;
  shown: number;
  unsearched: number;
}

export interface Settled {
  stored?: string[];
  duplicate?: string[];
}

/** Fills a blank row of the page, in the places in which templates/live_row.html fills it. */
export function fill(blank: HTMLElement, row: Row, address: string): HTMLElement {
  const put = (selector: string, text: string | undefined) => {
    const element = blank.querySelector<HTMLElement>(selector);
    if (element) element.textContent = text ?? "";
    return element;
  };
  blank.dataset.id = row.id;
  setOutcome(blank, row.outcome);
  const time = put("time", row.at.slice(11, 23)) as HTMLTimeElement | null;
  if (time) {
    time.dateTime = row.at;
    time.title = row.at;
  }
  const unnamed = row.status ? `Request answered ${row.status}` : "An event without a name";
  const name = put(".name", row.name ?? unnamed) as HTMLAnchorElement | null;
  if (row.status) name?.removeAttribute("href");
  else name?.setAttribute("href", address);
  put(".type", row.type);
  put(".device", row.device);
  put(".platform", row.platform);
  put(".environment", row.environment);
  put(".code", row.reason?.code);
  put(".message-text", row.reason?.message);
  put(".value", row.reason?.value);
  const reason = blank.querySelector<HTMLElement>(".reason");
  if (reason) reason.hidden = !row.reason;
  const value = blank.querySelector<HTMLElement>(".sent-value");
  if (value) value.hidden = row.reason?.value === undefined;
  return blank;
}

/** Says what became of a row. */
export function setOutcome(row: ParentNode, outcome: string): void {
  const badge = row.querySelector<HTMLElement>(".outcome");
  if (!badge) return;
  badge.dataset.outcome = outcome;
  badge.textContent = outcome;
}

/** How much is shown of how much, in words. */
export function rateInWords(rate: Rate, filtered: boolean): string {
  const number = (value: number) => value.toLocaleString("en");
  const searched = rate.unsearched
    ? ` ${number(rate.unsearched)} events/s could not be searched: of what fits, some may be missing.`
    : "";
  if (rate.shown < rate.matching) {
    return `Showing ${number(rate.shown)} of ${number(rate.matching)} events/s: a sample, rejected ones first.${searched}`;
  }
  if (filtered) {
    return `Showing ${number(rate.shown)} events/s that fit the filter, of ${number(rate.among)}.${searched}`;
  }
  return rate.among ? `${number(rate.among)} events/s, all shown.` : "Waiting for events.";
}
