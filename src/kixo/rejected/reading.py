"""Reading what a replay works on, a bounded part at a time."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from kixo.rejected.change import NO_CHANGE, Change
from kixo.rejected.judging import Judgement, RejectedRow, judge
from kixo.rejected.selection import Place, RequestPlace, Selection, count, identities, requests, rows

# One part, about: what is held in memory, judged and written at a time. One request may be larger.
EVENTS_MAX = 1000
BYTES_MAX = 8 * 1024 * 1024

Ask = Callable[[str], list[dict[str, Any]]]
"""Runs a query over the views; its rows as dicts by column. Raises `QueryFailed`."""


class ReplayRecord(Protocol):
    """Which rejected events were replayed, kept for good."""

    def known(self, places: Collection[Place]) -> set[Place]:
        """Those of the places whose events were replayed."""
        ...

    def check_room(self, events: int) -> None:
        """Raises `BadArgument` where so many more could not be recorded."""
        ...

    def add(self, places: Sequence[Place]) -> None:
        """Says, durably, that these were replayed."""
        ...


@dataclass(frozen=True)
class Source:
    """Where rejected events are read: the tables, the id of the log that feeds them, and what was replayed.

    `events_max` and `bytes_max` bound a part, but for one request that is larger by itself.
    """

    ask: Ask
    log_id: str
    record: ReplayRecord
    events_max: int = EVENTS_MAX
    bytes_max: int = BYTES_MAX


class Part(NamedTuple):
    """The judgements on the next selected events, and the last request that was looked at."""

    judgements: list[Judgement]
    end: RequestPlace


def count_selected(source: Source, selection: Selection) -> int:
    """How many events are selected."""
    return int(source.ask(count(selection, source.log_id))[0]["events"])


def parts(source: Source, selection: Selection, change: Change = NO_CHANGE) -> Iterator[Part]:
    """All selected events, judged, in the order in which their requests came."""
    part = next_part(source, selection, change, None)
    while part is not None:
        yield part
        part = next_part(source, selection, change, part.end)


def next_part(source: Source, selection: Selection, change: Change, after: RequestPlace | None) -> Part | None:
    """The next selected events beyond `after`, judged; None where there are no more. Raises `QueryFailed`."""
    places = _next_requests(source, selection, after)
    if not places:
        return None
    found = source.ask(rows(selection, source.log_id, places))
    judged = [RejectedRow(**row) for row in found]
    replayed = source.record.known({row.place for row in judged if row.chosen})
    return Part(judge(judged, change, replayed, lambda *wanted: _taken(source, *wanted)), places[-1])


def _next_requests(source: Source, selection: Selection, after: RequestPlace | None) -> list[RequestPlace]:
    found = source.ask(requests(selection, source.log_id, after, source.events_max))
    events, size = 0, 0
    places: list[RequestPlace] = []
    for row in found:
        events, size = events + row["events"], size + row["bytes"]
        if places and (events > source.events_max or size > source.bytes_max):
            break
        places.append(RequestPlace(row["received_at_us"], row["log_partition"], row["log_offset"]))
    return places


def _taken(source: Source, places: Collection[RequestPlace], wanted: Collection[bytes]) -> set[tuple[int, int, bytes]]:
    found = source.ask(identities(sorted(places), wanted))
    return {(row["log_partition"], row["log_offset"], bytes.fromhex(row["identity"])) for row in found}
