"""What an answer of the server, or the lack of one, means for the batch. The rules are in one place: `judge`.

| answer | meaning |
| --- | --- |
| 200 in the words of the API | `Delivered`, with the events that were rejected |
| none; 408, 429 `rate_limited`, 5xx; a 200 that is not the API's, such as a hotel's login page | `Again` |
| 413, 429 `too_many_events` | `TooLarge`: split |
| 401, 403, 404, 405, 407, any redirect | `Held`: key or address are wrong, so no batch can pass |
| anything else, such as 400 and 415 | `Refused`: this batch can never pass |
"""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct, json

from kixo.client.surroundings import Answer
from kixo.event import Rejection

HELD_STATUSES = frozenset({401, 403, 404, 405, 407})


class Delivered(NamedTuple):
    """The server has the batch. `rejected` counts what it did not take; `rejections` names the first 100 of them."""

    rejected: int
    rejections: list[Rejection]


class Again(NamedTuple):
    """The same batch may pass later. `at_once`: nothing speaks against now."""

    reason: str
    retry_after_s: float | None = None
    at_once: bool = False


class TooLarge(NamedTuple):
    """The batch can pass in pieces. `events_max` is the server's limit, where that is what was exceeded."""

    code: str
    message: str
    events_max: int | None = None


class Held(NamedTuple):
    """Nothing can pass until key or address are mended."""

    code: str
    message: str


class Refused(NamedTuple):
    """The batch can never pass; `rejections` may say more about single events."""

    code: str
    message: str
    rejections: list[Rejection]


Outcome = Delivered | Again | TooLarge | Held | Refused


class _Named(Struct):
    """A rejected event, as the answer names it. What is missing must not turn the answer into none."""

    index: int = -1
    field: str | None = None
    code: str = "rejected"
    message: str = ""


class _Words(Struct):
    """What we read of an answer; what it says besides does not matter."""

    status: str = ""
    code: str = ""
    message: str = ""
    accepted: int = 0
    rejected: int = 0
    errors: Raw = Raw(b"[]")
    limit: int | None = None


_decode = json.Decoder(_Words).decode
_decode_errors = json.Decoder(list[_Named]).decode


def judge(answer: Answer, now_s: float) -> Outcome:
    """What the answer means. `now_s` is the wall clock, for a `Retry-After` that is a date."""
    words = _words_of(answer.body)
    status = answer.status
    if status == 200 and words.status == "ok":
        return Delivered(max(0, words.rejected), _rejections(words.errors))
    code = words.code or f"http_{status}"
    message = words.message or f"The answer was HTTP {status}."
    if status == 413 or (status == 429 and code == "too_many_events"):
        return TooLarge(code, message, words.limit if status == 429 else None)
    if status in HELD_STATUSES or 300 <= status < 400:
        return Held(code, _redirected(answer) if status < 400 else message)
    if status in {408, 429} or status >= 500 or status < 300:
        what = message if status >= 400 else "The answer is not one of Kixo's."
        return Again(f"HTTP {status}: {what}", retry_after_s(answer.headers.get("retry-after"), now_s))
    return Refused(code, message, _rejections(words.errors))


def retry_after_s(value: str | None, now_s: float) -> float | None:
    """The seconds that a `Retry-After` asks to wait, given as seconds or as an HTTP date; None where there is none."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now_s, UTC)).total_seconds())


def backoff_s(attempts: int, wait_s_max: float, chance: float) -> float:
    """Full jitter: anything between nothing and half a second, doubled with each attempt, up to a bound.

    `attempts` is how many have failed, at least 1; `chance` a random number in [0, 1).
    """
    return chance * min(wait_s_max, 0.5 * 2.0 ** min(attempts - 1, 32))


def _words_of(body: bytes) -> _Words:
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError):
        return _Words()


def _rejections(errors: Raw) -> list[Rejection]:
    try:
        return [Rejection(named.index, named.field, named.code, named.message) for named in _decode_errors(errors)]
    except (msgspec.DecodeError, RecursionError):
        return []


def _redirected(answer: Answer) -> str:
    target = answer.headers.get("location", "another address")[:200]
    return f"The server redirects to {target}, which is not followed. Give the client the right `host`."
