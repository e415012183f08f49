"""What came of a soak, for people, and the files that stay: `samples.csv`, `verdict.json` and the plot."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from msgspec import json

from kixo.output import print_line, print_table
from torture.soak.flatness import Judgement, Sample, judge
from torture.soak.series import SERIES

NAMES = ("elapsed_s", *(series.name for series in SERIES))
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"))


@dataclass
class Verdict:
    """Whether a soak ended well: figures by name, checks that held or not, and the judgement of each series."""

    figures: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """What did not hold, as sentences."""
        growing = [f"{each.series.name} stays flat" for each in self.judgements if not each.is_flat]
        return [name for name, held in self.checks.items() if not held] + growing


class SampleFile:
    """`samples.csv`, written as the samples come, so that a run that is ended early has them too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._writer = csv.DictWriter(file, NAMES)
        self._writer.writeheader()

    def append(self, sample: Sample) -> None:
        """Adds a sample."""
        self._writer.writerow({name: f"{sample[name]:.9g}" for name in NAMES})
        self._file.flush()


@contextmanager
def sample_file(path: Path) -> Iterator[SampleFile]:
    """A new file of samples."""
    with path.open("w", newline="") as file:
        yield SampleFile(file)


def read_samples(path: Path) -> list[Sample]:
    """The samples in a file."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def judge_all(samples: Sequence[Sample]) -> list[Judgement]:
    """The judgement of every series."""
    return [judge(series, samples) for series in SERIES]


def show(verdict: Verdict) -> None:
    """Prints the verdict: the series that are judged, then figures and checks."""
    rows = [_row(each) for each in verdict.judgements if each.allowed is not None]
    print_table(("series", "mean", "growth", "allowed", "verdict"), rows)
    for name, value in verdict.figures.items():
        print_line(f"{name}: {value:,.6g}")
    for name, held in verdict.checks.items():
        print_line(f"{'yes' if held else 'NO '}  {name}")
    for remark in verdict.remarks:
        print_line(remark)
    if not rows:
        print_line("Too short to tell what grows: 20 minutes are the least.")
    print_line(f"FAILED: {'; '.join(verdict.failed)}." if verdict.failed else "Passed.")


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Writes the verdict as JSON, the judgement of each series by its name."""
    series = {
        each.series.name: {
            "mean": each.mean,
            "growth": each.growth,
            "allowed": each.allowed,
            "flat": each.is_flat,
        }
        for each in verdict.judgements
    }
    members = {"figures": verdict.figures, "checks": verdict.checks, "remarks": verdict.remarks, "series": series}
    path.write_bytes(json.format(json.encode(members)))


def amount(value: float) -> str:
    """A number with three digits and the prefix that keeps it short."""
    for scale, letter in SCALES:
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.2g}"


def _row(judgement: Judgement) -> tuple[str, str, str, str, str]:
    assert judgement.allowed is not None
    share = f" ({judgement.growth / judgement.mean:+.1%})" if judgement.mean else ""
    return (
        judgement.series.name,
        amount(judgement.mean),
        amount(judgement.growth) + share,
        amount(judgement.allowed),
        "flat" if judgement.is_flat else "GROWS",
    )
