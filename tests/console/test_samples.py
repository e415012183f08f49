"""The figures of the last hour: what is made of samples, and what is judged by them."""

from array import array
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from kixo.console.condition import judge
from kixo.console.samples import SAMPLES_MAX, SLOTS, History, Sample, Span, quantile, spans
from kixo.metric_file import SLOT, size_bytes
from kixo.metrics import (
    ACK_SECONDS,
    EVENTS,
    LOAD_FAILURES,
    LOAD_LAG_SECONDS,
    LOG_FAILURES,
    REQUESTS,
    RESTARTS,
    Metric,
)
from kixo.settings import Settings

GIB = 1024**3
Values = Mapping[tuple[Metric, tuple[str, ...]], float]
RUNNING = Counter(worker=1, loader=1, console=1)
SETTINGS = Settings(workers=1)


def sample(
    seconds: float, values: Values | None = None, *, free: int = 100 * GIB, running: Counter[str] = RUNNING
) -> Sample:
    totals = array("d", bytes(size_bytes()))
    for (metric, labels), value in (values or {}).items():
        totals[SLOTS[metric.name, labels]] = value
    assert len(totals) == size_bytes() // SLOT.size
    return Sample(round(seconds * 1e6), totals, free, 0, running)


def test_what_a_counter_did_is_the_difference_and_nothing_where_it_began_anew() -> None:
    one, two, fresh = (sample(at, {(EVENTS, ("accepted",)): value}) for at, value in ((0, 100), (10, 350), (20, 7)))
    assert Span(one, two).grown(EVENTS, ("accepted",)) == 250
    assert Span(one, two).rate(EVENTS, ("accepted",)) == 25
    assert Span(two, fresh).grown(EVENTS, ("accepted",)) == 0


def test_a_rate_of_all_series_is_their_sum() -> None:
    first, last = sample(0), sample(2, {(REQUESTS, ("200 ok",)): 10, (REQUESTS, ("401 unauthorized",)): 6})
    assert Span(first, last).total_rate(REQUESTS) == 8


def test_a_quantile_is_estimated_within_its_bucket() -> None:
    assert quantile((1, 2, 4), (0, 10, 0, 0), 0.5) == 1.5
    assert quantile((1, 2, 4), (10, 0, 10, 0), 0.5) == 1
    assert quantile((1, 2, 4), (0, 0, 0, 5), 0.99) == 4
    assert quantile((1, 2, 4), (0, 0, 0, 0), 0.5) is None


@given(some.lists(some.integers(0, 1000), min_size=4, max_size=4), some.floats(0.01, 1))
def test_a_quantile_lies_within_the_bounds_and_rises_with_its_share(counts: list[int], share: float) -> None:
    found, less = quantile((1, 2, 4), counts, share), quantile((1, 2, 4), counts, share / 2)
    if not sum(counts):
        assert found is less is None
    else:
        assert found is not None
        assert less is not None
        assert 0 <= less <= found <= 4


def test_a_quantile_is_of_what_a_span_has_seen_and_not_of_what_was_before() -> None:
    slot = SLOTS[ACK_SECONDS.name, ()]
    first, last = sample(0), sample(5)
    for each, counts in ((first, {0: 1000}), (last, {0: 1000, 4: 10})):
        for bucket, count in counts.items():
            each.totals[slot + bucket] = count  # type: ignore[index]
    low, high = ACK_SECONDS.buckets_s[3:5]
    found = Span(first, last).quantile(ACK_SECONDS, 0.5)
    assert found is not None
    assert low < found < high


def test_a_history_keeps_an_hour_and_no_more() -> None:
    history = History()
    assert history.last(60) == ()
    for second in range(0, 5 * (SAMPLES_MAX + 50), 5):
        history.add(sample(second))
    assert len(history.samples) == SAMPLES_MAX
    assert history.samples[-1].at_us - history.samples[0].at_us == 3600_000_000
    lately = history.last(60)
    assert lately[-1] is history.samples[-1]
    assert 60 <= Span(lately[0], lately[-1]).seconds <= 65


@given(some.integers(0, 800), some.integers(1, 60))
def test_spans_follow_each_other_from_first_to_last_and_are_bounded(count: int, most: int) -> None:
    samples = [sample(second) for second in range(count)]
    found = spans(samples, most)
    assert len(found) <= most
    if count < 2:
        assert found == []
    else:
        assert (found[0].first, found[-1].last) == (samples[0], samples[-1])
        assert all(one.last is other.first for one, other in pairwise(found))


def kinds(last: Sample, first: Sample | None = None, settings: Settings = SETTINGS) -> list[tuple[str, str]]:
    states = judge([first or sample(0), last], settings)
    return [(state.kind, state.metric.name if state.metric else "") for state in states]


def test_nothing_is_said_where_all_is_well_or_nothing_is_known() -> None:
    assert judge([], SETTINGS) == []
    assert kinds(sample(5, {(LOAD_LAG_SECONDS, ()): 1.5, (REQUESTS, ("200 ok",)): 1e6})) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({(LOAD_LAG_SECONDS, ()): 3.0}, ("warn", "kixo_load_lag_seconds")),
        ({(LOAD_LAG_SECONDS, ()): 61.0}, ("bad", "kixo_load_lag_seconds")),
        ({(LOAD_FAILURES, ()): 1.0}, ("warn", "kixo_load_failures")),
        ({(LOG_FAILURES, ()): 2.0}, ("bad", "kixo_log_failures")),
        ({(REQUESTS, ("503 unavailable",)): 2.0}, ("bad", "kixo_requests")),
        ({(REQUESTS, ("500 internal",)): 1.0}, ("bad", "kixo_requests")),
        ({(REQUESTS, ("429 rate_limited",)): 1.0}, ("warn", "kixo_requests")),
        ({(RESTARTS, ("loader",)): 1.0}, ("warn", "kixo_restarts")),
    ],
    ids=str,
)
def test_what_is_not_as_it_should_be_is_said_with_its_metric(values: Values, expected: tuple[str, str]) -> None:
    assert kinds(sample(5, values)) == [expected]
    assert kinds(sample(10, values), sample(5, values))[1:] == []


def test_processes_that_do_not_run_are_told_and_worse_things_come_first() -> None:
    two = Settings(workers=2)
    assert kinds(sample(5, running=Counter(worker=1, loader=1)), settings=two) == [("warn", "kixo_restarts")]
    assert kinds(sample(5, running=Counter(worker=0, loader=1)), settings=two) == [("bad", "kixo_restarts")]
    states = judge([sample(0), sample(5, {(RESTARTS, ("worker",)): 3}, running=Counter(worker=2, loader=0))], two)
    assert [state.kind for state in states] == ["bad", "warn"]
    assert "not in the tables yet" in states[0].sentence
    assert "3 times" in states[1].sentence


def test_a_disk_that_is_nearly_full_is_told_before_events_are_refused() -> None:
    settings = Settings(workers=1, log_free_bytes_min=GIB)
    assert kinds(sample(5, free=3 * GIB), settings=settings) == []
    assert kinds(sample(5, free=GIB + 1), settings=settings) == [("warn", "")]
    (state,) = judge([sample(5, free=GIB - 1)], settings)
    assert (state.kind, "503" in state.sentence) == ("bad", True)
