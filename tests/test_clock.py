import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from kixo.clock import RULES, apply_shifts, correct, shifts
from kixo.timestamp import EARLIEST_US, LATEST_US, parse_us

SECOND = 1_000_000
TOLERANCE = 60 * SECOND
NOW = parse_us("2026-04-08T12:00:00Z")

moments = st.integers(EARLIEST_US, LATEST_US) | st.integers(NOW - 200 * SECOND, NOW + 200 * SECOND)
events = st.lists(st.tuples(moments, st.none() | moments, moments), min_size=1, max_size=30)


def at(client: int, sent: int | None, received: int = 0) -> tuple[int, str]:
    """`correct`, with times in seconds from NOW."""
    sent_us = None if sent is None else NOW + sent * SECOND
    corrected, rule = correct(NOW + client * SECOND, sent_us, NOW + received * SECOND, TOLERANCE)
    return (corrected - NOW) // SECOND, rule


def test_without_sent_at_an_event_keeps_its_time() -> None:
    assert at(-10, None) == (-10, "none")


def test_a_clock_that_is_ahead_is_set_back() -> None:
    assert at(90, 100) == (-10, "ahead")


def test_one_microsecond_ahead_is_ahead() -> None:
    assert correct(NOW - SECOND, NOW + 1, NOW, TOLERANCE) == (NOW - SECOND - 1, "ahead")


def test_a_delay_up_to_the_tolerance_is_transit() -> None:
    assert at(-10, 0) == (-10, "within_tolerance")
    assert at(-70, -60) == (-70, "within_tolerance")


def test_a_clock_that_is_behind_is_set_forward() -> None:
    assert correct(NOW - 70 * SECOND, NOW - 60 * SECOND - 1, NOW, TOLERANCE) == (NOW - 10 * SECOND + 1, "behind")
    assert at(-110, -100) == (-10, "behind")


def test_no_event_is_in_the_future() -> None:
    assert at(5, None) == (0, "clamped")
    assert at(5, 0) == (0, "clamped")
    assert at(150, 100) == (0, "clamped")
    assert at(-50, -100) == (0, "clamped")


def test_results_stay_within_the_years_that_engines_can_show() -> None:
    corrected, rule = correct(EARLIEST_US, LATEST_US, EARLIEST_US, TOLERANCE)
    assert (corrected, rule) == (EARLIEST_US, "ahead")


@given(events, st.integers(0, 10**12))
@example(
    [(NOW, NOW - TOLERANCE, NOW), (NOW, NOW - TOLERANCE - 1, NOW), (NOW, NOW, NOW), (NOW, NOW + 1, NOW)], TOLERANCE
)
def test_arrays_are_corrected_as_single_events_are(events: list[tuple[int, int | None, int]], tolerance: int) -> None:
    client, sent, received = (list(column) for column in zip(*events, strict=True))
    received_us = np.array(received, np.int64)
    shift = shifts(
        np.array([0 if each is None else each for each in sent], np.int64),
        np.array([each is not None for each in sent]),
        received_us,
        tolerance,
    )
    corrected, rules = apply_shifts(np.array(client, np.int64), shift, received_us)
    found = list(zip(corrected.tolist(), [RULES[rule] for rule in rules.tolist()], strict=True))
    assert found == [correct(*event, tolerance) for event in events]


@given(st.lists(moments, min_size=2, max_size=10), st.none() | moments, moments)
def test_order_is_kept_within_a_request(clients: list[int], sent: int | None, received: int) -> None:
    corrected = [correct(client, sent, received, TOLERANCE)[0] for client in sorted(clients)]
    assert corrected == sorted(corrected)
    assert all(each <= max(received, EARLIEST_US) for each in corrected)
