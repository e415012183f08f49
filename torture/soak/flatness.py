"""Whether a series stays flat: the rule of `torture.soak.series`, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torture.soak.series import Series

Sample = dict[str, float]
"""The value of each series by its name, and of `elapsed_s`."""

# Of the second half, each standing for its median: a minute of an hour.
STRETCHES = 30
# A shorter run has not come to rest: files that were merged away stay for `file_grace_s`, caches still fill.
JUDGED_S_MIN = 1200.0


@dataclass(frozen=True)
class Judgement:
    """What came of a series in the second half: its mean, its growth from the half's start to its end, and a verdict.

    `allowed` is the growth up to which it counts as flat, in the unit of the series; None where it is not judged.
    """

    series: Series
    mean: float
    growth: float
    allowed: float | None

    @property
    def is_flat(self) -> bool:
        """Whether it grew no more than is allowed; True where it is not judged."""
        return self.allowed is None or self.growth <= self.allowed


def judge(series: Series, samples: Sequence[Sample]) -> Judgement:
    """Judges a series by the second half of the samples, which are in the order of their time.

    Samples of less than `JUDGED_S_MIN` are not judged.
    """
    half = second_half(samples)
    times, values = medians([(sample["elapsed_s"], sample[series.name]) for sample in half])
    mean = float(np.mean(values))
    growth = _slope(times, values) * (half[-1]["elapsed_s"] - half[0]["elapsed_s"])
    short = samples[-1]["elapsed_s"] < JUDGED_S_MIN
    allowed = None if series.tolerance is None or short else max(series.tolerance * abs(mean), series.grain)
    return Judgement(series, mean, growth, allowed)


def second_half(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples of the later half of the time; raises `ValueError` where there are fewer than two."""
    middle_s = (samples[0]["elapsed_s"] + samples[-1]["elapsed_s"]) / 2
    half = [sample for sample in samples if sample["elapsed_s"] >= middle_s]
    if len(half) < 2:
        raise ValueError(f"{len(samples)} samples are too few to tell growth")
    return half


def medians(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Times and values of a series, one for each stretch: the median, which a moment's peak does not move."""
    first_s, last_s = points[0][0], points[-1][0]
    stretches: dict[int, list[tuple[float, float]]] = {}
    for time_s, value in points:
        stretches.setdefault(int((time_s - first_s) / (last_s - first_s) * STRETCHES), []).append((time_s, value))
    pairs = [np.median(np.array(each), axis=0) for each in stretches.values()]
    return [float(time_s) for time_s, _ in pairs], [float(value) for _, value in pairs]


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line with the least squares, per second."""
    return float(np.polyfit(times, values, 1)[0])
