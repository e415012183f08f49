"""Rejected events judged again: which of them pass now, and as what."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

from msgspec import Raw, Struct
from msgspec.structs import replace

from kixo.decode import judge_events
from kixo.depth import at_any_depth
from kixo.identity import fingerprint_digest, identity, repeat_digest, scope
from kixo.rejected.change import Change, changed
from kixo.rejected.selection import Place, RequestPlace
from kixo.stored import JudgedEvent, RejectedEvent

Outcome = Literal["replayed", "replayed_before", "rejected"]
Taken = Callable[[Collection[RequestPlace], Collection[bytes]], Collection[tuple[int, int, bytes]]]
"""Which of the identities events of these requests have in `events`: (partition, offset, identity)."""


_judge_event = at_any_depth(lambda text: judge_events([Raw(text)]))


class Mark(NamedTuple):
    """What events that are equal have in common: their request, and two parts of their identities."""

    request: RequestPlace
    scope: bytes
    digest: bytes

    def identity(self, repeat: int) -> bytes:
        """The identity of the `repeat`-th further one of these events."""
        return identity(self.scope, repeat_digest(self.digest, repeat))


class RejectedRow(Struct, frozen=True, kw_only=True):
    """A row of `rejected` with its log, times in microseconds since 1970, and whether it is one of those selected."""

    log_id: str
    log_partition: int
    log_offset: int
    log_index: int
    project_id: str
    environment: str
    bundle_id: str
    platform: str
    sent_at_us: int | None
    received_at_us: int
    field: str | None
    code: str
    message: str
    event: str
    chosen: bool

    @property
    def place(self) -> Place:
        """Where the event stands for good."""
        return Place(self.log_id, self.log_partition, self.log_offset, self.log_index)

    @property
    def request(self) -> RequestPlace:
        """The request that it came in."""
        return RequestPlace(self.received_at_us, self.log_partition, self.log_offset)


class Judgement(Struct, frozen=True):
    """What becomes of a selected event: it is taken as `event`, or still rejected for `refusal`, or was replayed."""

    row: RejectedRow
    outcome: Outcome
    event: JudgedEvent | None
    refusal: RejectedEvent | None


def judge(rows: Sequence[RejectedRow], change: Change, replayed: Collection[Place], taken: Taken) -> list[Judgement]:
    """The selected ones among the rows, which are all rejected events of some requests, judged by the present rules.

    `replayed` are those that were replayed before; they count where equal events of a request are told apart.
    """
    judged = _tell_repeats_apart([_judge_row(row, change) for row in rows], taken)
    return [
        replace(each, outcome="replayed_before") if each.row.place in replayed else each
        for each in judged
        if each.row.chosen
    ]


def _judge_row(row: RejectedRow, change: Change) -> Judgement:
    accepted, rejected = _judge_event(changed(row.event, row.place, change))
    if accepted:
        return Judgement(row, "replayed", replace(accepted[0], index=row.log_index), None)
    return Judgement(row, "rejected", None, rejected[0])


def _tell_repeats_apart(judged: Sequence[Judgement], taken: Taken) -> list[Judgement]:
    """Equal events without an id count one by one within a request, as if all of it had been good at first."""
    marks = [_mark(each) for each in judged]
    repeats = _stored_equals({mark for mark in marks if mark is not None}, taken)
    told: list[Judgement] = []
    for each, mark in zip(judged, marks, strict=True):
        if mark is None or each.event is None:
            told.append(each)
        else:
            told.append(replace(each, event=replace(each.event, repeat=repeats[mark])))
            repeats[mark] += 1
    return told


def _stored_equals(marks: Collection[Mark], taken: Taken) -> dict[Mark, int]:
    """How many equals each event has among those of its request that were taken; nearly always there are none."""
    counts = dict.fromkeys(marks, 0)
    waiting = {mark.identity(0): mark for mark in marks}
    while waiting:
        found = taken({mark.request for mark in waiting.values()}, waiting)
        again = [mark for each, mark in waiting.items() if (mark.request.partition, mark.request.offset, each) in found]
        for mark in again:
            counts[mark] += 1
        waiting = {mark.identity(counts[mark]): mark for mark in again}
    return counts


def _mark(judgement: Judgement) -> Mark | None:
    """By what an event that passes, and has no id, is known again in its request."""
    row, event = judgement.row, judgement.event
    if event is None or event.event_id is not None:
        return None
    return Mark(
        row.request,
        scope(row.project_id, row.environment),
        fingerprint_digest(
            (
                row.bundle_id,
                row.platform,
                event.device_id,
                event.session_id,
                event.event_type,
                event.event_name,
                event.timestamp,
                event.properties.encode(),
            )
        ),
    )
