"""What came of an attack: one struct, shown as a row of a table and written as a line of JSON."""

from collections.abc import Iterable
from pathlib import Path
from statistics import median

from msgspec import Struct, json

from kixo.output import print_table


class Verdict(Struct, frozen=True, kw_only=True):
    """Counts are of events, unless their name says otherwise; times are in seconds.

    `faults` counts what was done to the server, by kind; `answers` what clients were told, by status and code.
    `acknowledged` events were taken by a 200; `copies` is how often one was taken again. `unacknowledged` ones were
    stored although the answer was lost, which is allowed. `recovery_s` are the times from each kill to the first 200
    to a request that began after it. `broken` are sentences about whatever else was promised and not kept; `figures`
    are those that an attack wants to show.
    """

    attack: str
    seed: int
    seconds: float = 0.0
    faults: dict[str, int] = {}
    requests: int = 0
    answers: dict[str, int] = {}
    acknowledged: int = 0
    copies: int = 0
    rejected: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    altered: int = 0
    unrecorded: int = 0
    wrongly_rejected: int = 0
    let_in: int = 0
    unacknowledged: int = 0
    recovery_s: list[float] = []
    audit: list[str] = []
    broken: list[str] = []
    figures: dict[str, float] = {}

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        wrong = self.lost + self.doubled + self.foreign + self.altered + self.unrecorded
        return not (wrong + self.wrongly_rejected + self.let_in or self.audit or self.broken)


COLUMNS = (
    "attack",
    "seed",
    "seconds",
    "faults",
    "requests",
    "acknowledged",
    "copies",
    "lost",
    "doubled",
    "wrong",
    "unacknowledged",
    "recovery median",
    "recovery max",
    "verdict",
)


def show(verdicts: Iterable[Verdict]) -> None:
    """Prints verdicts as a table, and what was broken below it."""
    verdicts = list(verdicts)
    print_table(COLUMNS, [_cells(verdict) for verdict in verdicts])
    for verdict in verdicts:
        for sentence in [*verdict.audit, *verdict.broken]:
            print_table((), [(f"{verdict.attack}: {sentence}",)])


def append(verdict: Verdict, path: Path) -> None:
    """Adds a verdict to a file of JSON lines."""
    with path.open("ab") as file:
        file.write(json.encode(verdict) + b"\n")


def _cells(verdict: Verdict) -> tuple[object, ...]:
    wrong = verdict.foreign + verdict.altered + verdict.unrecorded + verdict.wrongly_rejected + verdict.let_in
    times = verdict.recovery_s
    return (
        verdict.attack,
        verdict.seed,
        f"{verdict.seconds:.0f}",
        sum(verdict.faults.values()),
        verdict.requests,
        verdict.acknowledged,
        verdict.copies,
        verdict.lost,
        verdict.doubled,
        wrong,
        verdict.unacknowledged,
        f"{median(times):.2f} s" if times else "",
        f"{max(times):.2f} s" if times else "",
        "passed" if verdict.passed else "FAILED",
    )
