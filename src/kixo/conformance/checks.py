"""The checks: what a trace has to show, each a function from the case and its trace to what is wrong.

The *fate* of an event in a request is what has to become of it: `stored` and `rejected` events are done with, all
others follow `then` of the answer. An event is known by its number; one that the client made itself, by its identity.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from kixo.conformance.case import Case
from kixo.conformance.task import BUNDLE, ENVIRONMENT, EQUAL_NAME, KEY, PLATFORM, PROJECT, event
from kixo.conformance.trace import Request, Seen, Trace
from kixo.timestamp import parse_us

# Clocks of clients may tick in milliseconds, and round.
TICK_US = 2_000
# A client's clock is this machine's; this much is left for what it does before it looks at it.
NOW_US = 1_000_000
SHOWN_MAX = 5


class Problem(NamedTuple):
    """What was due and what came instead."""

    expected: str
    found: str


class Occurrence(NamedTuple):
    """An event in a request."""

    request: Request
    place: int

    @property
    def event(self) -> Seen:
        """The event."""
        return self.request.events[self.place]

    @property
    def done(self) -> bool:
        """Whether the client has no reason to send the event again."""
        request = self.request
        return request.then in {"kept", "never"} or self.place in request.rejected

    @property
    def answered(self) -> str:
        """The answer in words."""
        return "rejected in the answer" if self.place in self.request.rejected else f"answered {self.request.answer}"


Finder = Callable[[Case, Trace], Iterator[Problem]]
Histories = dict[object, list[Occurrence]]


def histories(trace: Trace) -> Histories:
    """All occurrences of each event, in the order they arrived in."""
    found: Histories = defaultdict(list)
    for request in trace.requests:
        for place, seen in enumerate(request.events):
            found[seen.identity if seen.number is None else seen.number].append(Occurrence(request, place))
    return found


def name_of(key: object) -> str:
    """An event in words."""
    return f"event {key}" if isinstance(key, int) else f"the client's own event {bytes(key).hex()[:12]}"  # type: ignore[call-overload]


def numbers(keys: list[int]) -> str:
    """The first few numbers."""
    shown = ", ".join(map(str, keys[:SHOWN_MAX]))
    return shown + (f" and {len(keys) - SHOWN_MAX} more" if len(keys) > SHOWN_MAX else "")


def check_contract(case: Case, trace: Trace) -> Iterator[Problem]:
    """Each request is one that the server takes."""
    for request in trace.requests:
        for problem in request.problems:
            yield Problem("a request that the server takes", f"request {request.number}: {problem}")


def check_envelope(case: Case, trace: Trace) -> Iterator[Problem]:
    """The envelope says what the client was told."""
    told = {"project_id": PROJECT, "api_key": KEY, "bundle_id": BUNDLE, "platform": PLATFORM}
    for request in trace.requests:
        for member, value in {**told, "environment": ENVIRONMENT}.items():
            if request.envelope and request.envelope[member] != value:
                yield Problem(f"`{member}` {value!r}", f"request {request.number}: {request.envelope[member]!r}")


def check_content(case: Case, trace: Trace) -> Iterator[Problem]:
    """Events arrive as they were tracked; further properties are the client's business."""
    for key, occurrences in histories(trace).items():
        if not isinstance(key, int) or not 0 <= key < case.track.count or case.track.equal:
            continue
        due, came = event(case.track, key), occurrences[0].event.members
        members = ["event_type", "event_name"] + ["device_id", "session_id"] * (not trace.report.own_ids)
        for member in members:
            if came.get(member) != due[member]:
                yield Problem(f"event {key} with `{member}` {due[member]!r}", repr(came.get(member))[:100])
        yield from _changed_properties(key, due["properties"], came.get("properties"))


def _changed_properties(key: int, due: dict[str, Any], came: Any) -> Iterator[Problem]:
    for name, value in due.items():
        if not isinstance(came, dict) or name not in came or came[name] != value:
            found = came.get(name) if isinstance(came, dict) else came
            yield Problem(f"event {key} with property `{name}` {str(value)[:60]!r}", repr(found)[:100])


def check_time(case: Case, trace: Trace) -> Iterator[Problem]:
    """An event's time is when it was tracked: after the client was started and before its request arrived."""
    for key, occurrences in histories(trace).items():
        first = occurrences[0]
        at = instant(first.event.members.get("timestamp"))
        if at is not None and not trace.began_us - NOW_US <= at <= first.request.arrived_us + NOW_US:
            yield Problem(
                f"{name_of(key)} with the time it was tracked at", f"`timestamp` {first.event.members['timestamp']!r}"
            )


def check_timestamp(case: Case, trace: Trace) -> Iterator[Problem]:
    """The time of an event does not change from attempt to attempt."""
    for key, occurrences in histories(trace).items():
        times = {instant(occurrence.event.members.get("timestamp")) for occurrence in occurrences}
        if len(times) > 1:
            texts = sorted({str(occurrence.event.members.get("timestamp")) for occurrence in occurrences})
            yield Problem(f"{name_of(key)} with one and the same `timestamp`", " then ".join(texts[:SHOWN_MAX]))


def check_identity(case: Case, trace: Trace) -> Iterator[Problem]:
    """An event is the same event at each attempt, and no two events are the same one."""
    owners: dict[bytes, object] = {}
    for key, occurrences in histories(trace).items():
        identities = {occurrence.event.identity for occurrence in occurrences}
        ids = [str(occurrence.event.members.get("event_id")) for occurrence in occurrences]
        if len(identities) > 1:
            yield Problem(f"{name_of(key)} with one and the same `event_id`", " then ".join(ids[:SHOWN_MAX]))
        for identity in identities:
            if owners.setdefault(identity, key) != key:
                yield Problem("an `event_id` for each event", f"{name_of(owners[identity])} and {key} share {ids[0]}")


def check_sent_at(case: Case, trace: Trace) -> Iterator[Problem]:
    """`sent_at` is there, and is the time of this attempt."""
    for key, occurrences in histories(trace).items():
        last: Request | None = None
        for request in (occurrence.request for occurrence in occurrences):
            at = instant(request.envelope.get("sent_at"))
            if at is None:
                yield Problem("`sent_at` in every request", f"request {request.number} has none")
                return
            if last is not None and at < last.arrived_us - TICK_US:
                found = f"request {request.number} says {request.envelope['sent_at']}, before request {last.number}"
                yield Problem(f"`sent_at` stamped anew when {name_of(key)} is sent again", f"{found} arrived")
                return
            if at > request.arrived_us + NOW_US:
                yield Problem(
                    "`sent_at` not in the future", f"{request.envelope['sent_at']} in request {request.number}"
                )
                return
            last = request


def check_again(case: Case, trace: Trace) -> Iterator[Problem]:
    """What was not stored and may pass later is sent again."""
    missing: dict[str, list[int]] = defaultdict(list)
    for key, occurrences in histories(trace).items():
        last = occurrences[-1]
        if isinstance(key, int) and not last.done and not case.unfinished:
            missing[f"{last.answered} in request {last.request.number}"].append(key)
    for answered, keys in missing.items():
        yield Problem(f"events {numbers(keys)}, {answered}, sent again", "they never came again")


def check_never(case: Case, trace: Trace) -> Iterator[Problem]:
    """What is stored, or was refused for good, is not sent again."""
    for key, occurrences in histories(trace).items():
        for earlier, later in pairwise(occurrences):
            if earlier.done:
                expected = (
                    f"{name_of(key)} not sent again: it was {earlier.answered} in request {earlier.request.number}"
                )
                yield Problem(expected, f"it came again in request {later.request.number}")


def check_smaller(case: Case, trace: Trace) -> Iterator[Problem]:
    """What was too much for one request comes again in smaller ones."""
    for key, occurrences in histories(trace).items():
        for earlier, later in pairwise(occurrences):
            size, following = len(earlier.request.events), len(later.request.events)
            if earlier.request.then == "smaller" and following >= size:
                expected = f"fewer than {size} events with {name_of(key)} after {earlier.answered}"
                yield Problem(expected, f"request {later.request.number} has {following}")


def check_wait(case: Case, trace: Trace) -> Iterator[Problem]:
    """The client stays away as long as it was told."""
    for key, occurrences in histories(trace).items():
        for earlier, later in pairwise(occurrences):
            waited_ms = (later.request.arrived_ns - earlier.request.answered_ns) / 1e6
            if earlier.request.wait_ms and waited_ms < earlier.request.wait_ms:
                expected = f"{name_of(key)} no sooner than {earlier.request.wait_ms} ms after {earlier.answered}"
                yield Problem(expected, f"request {later.request.number} came after {waited_ms:.0f} ms")
                return


def check_delivered(case: Case, trace: Trace) -> Iterator[Problem]:
    """In the end the host holds each event exactly once, but for those that were refused for good."""
    if case.track.equal:
        yield from _equal_events(case, trace)
        return
    stored: dict[int, set[bytes]] = defaultdict(set)
    refused: set[object] = set()
    for key, occurrences in histories(trace).items():
        for occurrence in occurrences:
            if occurrence.place in occurrence.request.stored and isinstance(key, int):
                stored[key].add(occurrence.event.identity)
            if occurrence.done and occurrence.place not in occurrence.request.stored:
                refused.add(key)
    lost = [n for n in range(case.track.count) if n not in stored and n not in refused | set(case.track.oversized)]
    if lost and not case.unfinished:
        yield Problem(f"all {case.track.count} events delivered", f"events {numbers(lost)} are missing")
    if doubled := [n for n, identities in stored.items() if len(identities) > 1]:
        yield Problem("each event counted once", f"events {numbers(doubled)} count more than once")


def _equal_events(case: Case, trace: Trace) -> Iterator[Problem]:
    kept = {
        request.events[place].identity
        for request in trace.requests
        for place in request.stored
        if request.events[place].members.get("event_name") == EQUAL_NAME
    }
    if len(kept) != case.track.count:
        yield Problem(f"{case.track.count} equal events counted as {case.track.count}", f"they count as {len(kept)}")


def check_reported(case: Case, trace: Trace) -> Iterator[Problem]:
    """Events that were refused for good are told to the user of the client; others are not."""
    if trace.report.rejected is None:
        return
    told, due, allowed = set(trace.report.rejected), set(), set(case.track.oversized)
    for key, occurrences in histories(trace).items():
        last = occurrences[-1]
        if isinstance(key, int) and last.place in last.request.rejected:
            due.add(key)
        if isinstance(key, int) and last.place not in last.request.stored:
            allowed.add(key)
    if missing := sorted(due - told):
        yield Problem(f"rejected events {numbers(missing)} reported", f"{numbers(sorted(told)) or 'none'} reported")
    if wrong := sorted(told - allowed):
        yield Problem("only events reported that were refused", f"events {numbers(wrong)} were taken")


def check_order(case: Case, trace: Trace) -> Iterator[Problem]:
    """Within a request events stand in the order they were tracked in; over requests where the client promises it."""
    seen: set[int] = set()
    last = -1
    for request in trace.requests:
        found = [event.number for event in request.events if event.number is not None]
        if found != sorted(found):
            yield Problem("events of a request in the order they were tracked", f"request {request.number} mixes them")
            return
        new = [number for number in found if number not in seen]
        if trace.report.ordered and new and new[0] < last:
            yield Problem(
                "events in order, as the client promises", f"request {request.number} has {new[0]} after {last}"
            )
            return
        seen |= set(found)
        last = max([last, *new])


def check_requests(case: Case, trace: Trace) -> Iterator[Problem]:
    """The client does not hammer the server."""
    if case.requests_max is not None and len(trace.requests) > case.requests_max:
        yield Problem(f"at most {case.requests_max} requests", f"{len(trace.requests)} requests")


def check_ended(case: Case, trace: Trace) -> Iterator[Problem]:
    """The client ends by itself, in time and with success."""
    if trace.ending is not None:
        yield Problem("a client that ends by itself, with status 0", trace.ending)


FINDERS: dict[str, Finder] = {
    "contract": check_contract,
    "envelope": check_envelope,
    "content": check_content,
    "time": check_time,
    "identity": check_identity,
    "timestamp": check_timestamp,
    "sent_at": check_sent_at,
    "again": check_again,
    "never": check_never,
    "smaller": check_smaller,
    "wait": check_wait,
    "delivered": check_delivered,
    "reported": check_reported,
    "order": check_order,
    "requests": check_requests,
    "ended": check_ended,
}


def instant(text: object) -> int | None:
    """Microseconds since 1970 of an ISO 8601 text; None for anything else."""
    try:
        return parse_us(text) if isinstance(text, str) else None
    except ValueError:
        return None
