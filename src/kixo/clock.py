"""Which time an event happened at: the five rules that correct a device's clock.

A device stamps its events and, when it sends them, the batch, by the same clock. With
`offset = received_at - sent_at` (how far that clock is behind ours, plus the time the request travelled):

    none              no `sent_at`                     as sent
    ahead             offset < 0                       as sent + offset: delay can only make the offset larger,
                                                       so the clock is certainly fast
    within_tolerance  0 <= offset <= the tolerance     as sent: more likely a slow network than a slow clock
    behind            offset > the tolerance           as sent + offset
    clamped           the result is after received_at  received_at

All instants are integers, microseconds since 1970-01-01T00:00:00Z. `correct` states the rules for one event;
`shifts` and `apply_shifts` are the same rules over arrays, which tests hold equal to it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kixo.timestamp import EARLIEST_US, LATEST_US, clamp_us

NONE, AHEAD, WITHIN_TOLERANCE, BEHIND, CLAMPED = range(5)
RULES = ("none", "ahead", "within_tolerance", "behind", "clamped")


class Shifts(NamedTuple):
    """What each request adds to its events' times: `shift_us` (int64) and the number of the `rule` (int8)."""

    shift_us: NDArray[np.int64]
    rule: NDArray[np.int8]


def correct(client_us: int, sent_at_us: int | None, received_at_us: int, tolerance_us: int) -> tuple[int, str]:
    """The corrected time of one event, held within the years 1 to 9999, and the name of the rule that gave it."""
    shift_us, rule = _shift(sent_at_us, received_at_us, tolerance_us)
    timestamp_us = client_us + shift_us
    if timestamp_us > received_at_us:
        timestamp_us, rule = received_at_us, CLAMPED
    return clamp_us(timestamp_us), RULES[rule]


def _shift(sent_at_us: int | None, received_at_us: int, tolerance_us: int) -> tuple[int, int]:
    if sent_at_us is None:
        return 0, NONE
    offset_us = received_at_us - sent_at_us
    if offset_us < 0:
        return offset_us, AHEAD
    return (0, WITHIN_TOLERANCE) if offset_us <= tolerance_us else (offset_us, BEHIND)


def in_words(rule: str, sent_at_us: int | None, received_at_us: int) -> str:
    """What a rule did to an event, and why, in one sentence for people."""
    offset = duration_in_words(abs(received_at_us - (received_at_us if sent_at_us is None else sent_at_us)))
    return {
        RULES[NONE]: "There is no `sent_at` to check the device's clock by: the time is kept as sent.",
        RULES[AHEAD]: f"`sent_at` lies {offset} after the request came in, so the device's clock is fast by at least "
        f"that: the time was moved back by {offset}.",
        RULES[WITHIN_TOLERANCE]: f"`sent_at` lies {offset} before the request came in, which the network explains: the "
        "time is kept as sent.",
        RULES[
            BEHIND
        ]: f"`sent_at` lies {offset} before the request came in, which is more than a network takes, so the "
        f"device's clock is slow: the time was moved forward by {offset}.",
        RULES[
            CLAMPED
        ]: "The event would lie after the request came in, which cannot be: its time is that of the request.",
    }[rule]


def duration_in_words(microseconds: int) -> str:
    """A length of time by its two largest units, such as `1 h 5 min`; below a minute with milliseconds."""
    if microseconds < 60_000_000:
        return f"{microseconds / 1e6:.3f}".rstrip("0").rstrip(".") + " s"
    seconds = microseconds // 1_000_000
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    place = next(place for place, (length, _) in enumerate(units) if seconds >= length)
    (large, name), (small, smaller) = units[place], units[place + 1]
    rest = seconds % large // small
    return f"{seconds // large} {name}" + (f" {rest} {smaller}" if rest else "")


def shifts(
    sent_at_us: NDArray[np.int64],
    has_sent_at: NDArray[np.bool_],
    received_at_us: NDArray[np.int64],
    tolerance_us: int,
) -> Shifts:
    """The shift and rule of each request; `sent_at_us` is not looked at where `has_sent_at` is false."""
    offset_us = received_at_us - sent_at_us
    rule = np.where(offset_us < 0, AHEAD, np.where(offset_us <= tolerance_us, WITHIN_TOLERANCE, BEHIND))
    rule = np.where(has_sent_at, rule, NONE).astype(np.int8)
    moves = (rule == AHEAD) | (rule == BEHIND)
    return Shifts(np.where(moves, offset_us, 0), rule)


def apply_shifts(
    client_us: NDArray[np.int64], shift: Shifts, received_at_us: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """The corrected time and the rule's number of each event, from its request's shift; all of one length."""
    timestamp_us = client_us + shift.shift_us
    late = timestamp_us > received_at_us
    timestamp_us = np.clip(np.where(late, received_at_us, timestamp_us), EARLIEST_US, LATEST_US)
    return timestamp_us, np.where(late, np.int8(CLAMPED), shift.rule)
