"""The figures that are due, next to those measured, and how a finding is printed."""

from dataclasses import dataclass

from kixo.bench.options import Finding
from kixo.output import print_line, print_table

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Due:
    """A figure of issue 2's table "Speed and memory": what is due and aimed at, in the unit of the figure's name."""

    sentence: str
    scenario: str
    figure: str
    due: float
    aim: float | None
    more_is_better: bool
    unit: str = ""
    scale: float = 1.0

    def met(self, value: float) -> bool:
        """Whether the value is as good as is due."""
        return value >= self.due if self.more_is_better else value <= self.due

    def show(self, value: float | None, bound: bool = False) -> str:
        """A value in the unit of the table; with `bound`, as the least or the most."""
        if value is None:
            return ""
        sign = ("≥ " if self.more_is_better else "≤ ") if bound else ""
        return f"{sign}{amount(value / self.scale)}{self.unit}"


TABLE = (
    Due("durable events/s, batches of 1,000, loader off, to the floor", "batches", "ratio_to_floor", 0.5, 0.8, True),
    Due(
        "durable requests/s, batches of 1, 128 connections, to the floor", "singles", "ratio_to_floor", 0.6, 0.85, True
    ),
    Due("CPU per event, socket to table, to decode alone", "sustained", "cpu_ratio_to_decode", 10, 4, False, " times"),
    Due("sustained accept + load", "sustained", "sustained_events_per_s", 3e5, 6.5e5, True, " k events/s", 1e3),
    Due("visible in a query after the answer, p99 at half load", "latency", "visible_p99_s", 2, 0.5, False, " s"),
    Due("ack p99 at half load, batches of 100", "latency", "ack_p99_ms", 30, 10, False, " ms"),
    Due("memory of all processes under load", "sustained", "memory_peak_bytes", 1.5e9, None, False, " MB", MEGABYTE),
    Due("memory of all processes, idle", "sustained", "memory_idle_bytes", 3e8, None, False, " MB", MEGABYTE),
)


def amount(value: float) -> str:
    """A number with three digits that matter, thousands apart."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def comparison(findings: list[Finding]) -> list[dict[str, object]]:
    """The rows of the table whose scenarios have run, in the units of the figures."""
    by_scenario = {finding.scenario: finding for finding in findings}
    rows: list[dict[str, object]] = []
    for due in TABLE:
        finding = by_scenario.get(due.scenario)
        if finding is not None and due.figure in finding.figures:
            value = finding.figures[due.figure]
            place = {"scenario": due.scenario, "figure": due.figure, "sentence": due.sentence}
            rows.append({**place, "due": due.due, "aim": due.aim, "measured": value, "met": due.met(value)})
    return rows


def print_comparison(findings: list[Finding]) -> None:
    """Prints the rows of the table whose scenarios have run."""
    by_place = {(due.scenario, due.figure): due for due in TABLE}
    cells = []
    for row in comparison(findings):
        due = by_place[str(row["scenario"]), str(row["figure"])]
        measured = float(str(row["measured"]))
        verdict = "yes" if row["met"] else "NO"
        cells.append(
            (due.sentence, due.show(due.due, bound=True), due.show(due.aim, bound=True), due.show(measured), verdict)
        )
    print_table(("figure", "due", "aim", "measured", "met"), cells)


def print_finding(finding: Finding) -> None:
    """Prints all figures, checks and notes of a finding."""
    print_line("")
    print_line(finding.scenario)
    print_table(("figure", "value", "unit"), [_cells(name, value) for name, value in finding.figures.items()])
    for check, held in finding.checks.items():
        print_line(f"  {'yes' if held else 'NO '}  {check}")
    for note in finding.notes:
        print_line(f"  note: {note}")


UNITS = {
    "_requests_per_s": "requests/s",
    "_events_per_s": "events/s",
    "_us_per_event": "µs/event",
    "_us_per_request": "µs/request",
    "_ms": "ms",
    "_s": "s",
    "_bytes": "MB",
}


def _cells(name: str, value: float) -> tuple[str, str, str]:
    for ending, unit in UNITS.items():
        if f"_{name}".endswith(ending):
            words = f"_{name}".removesuffix(ending).replace("_", " ").strip()
            return words or unit.partition("/")[0], amount(value / MEGABYTE if unit == "MB" else value), unit
    return name.replace("_", " "), amount(value), ""
