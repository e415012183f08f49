"""Which of the events that came are shown.

Where all can be shown all are. Of more, a sample: from frames spread over all that came, and of rejected events first,
up to half, since they are what people look for. With a filter that only a look at an event can decide, every frame
that can have a match is looked into, as long as the budget for decoding lasts.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from kixo.console.feed.filter import AnyEvent, Search
from kixo.console.feed.row import Place, Row, events_of, open_request, place_of, row_of
from kixo.loader.requests import Request
from kixo.log.preview import Stretch
from kixo.log.segment import FrameHead
from kixo.stored import RejectedEvent

# Steps of this part of a list fall evenly over it, however many are taken.
_GOLDEN = 0.6180339887498949

Item = TypeVar("Item")
Candidate = tuple[Stretch, FrameHead]
Chosen = list[tuple[Request, Place, AnyEvent]]
Open = Callable[[Stretch, FrameHead], Request | None]
"""Decodes a frame; None where the budget is spent."""


class Sample(NamedTuple):
    """Rows in the order of their arrival, and what they were chosen from.

    `among`: events of the requests that can be of the filter's project, environment and platform. `matching`: how many
    of those are wanted, as far as was looked. `unsearched`: how many can be wanted and nobody has looked at.
    """

    rows: list[Row]
    among: int
    matching: int
    unsearched: int


class Decoding:
    """Decodes frames within a budget, each once however many ask. A frame is never cut, so the last may exceed it."""

    def __init__(self, bytes_max: float) -> None:
        self.bytes_left = bytes_max
        self._opened: dict[tuple[int, int], Request | None] = {}

    def open(self, stretch: Stretch, head: FrameHead) -> Request | None:
        """The request of a frame; None where the budget is spent, or the frame is damaged."""
        key = stretch.partition, head.offset
        if key not in self._opened:
            if self.bytes_left <= 0:
                return None
            self.bytes_left -= head.end - head.start
            frame = stretch.frame(head)
            self._opened[key] = None if frame is None else open_request(stretch.partition, frame)
        return self._opened[key]


def sample(stretches: Sequence[Stretch], search: Search, rows_max: int, opened: Open) -> Sample:
    """At most `rows_max` of the wanted events in the stretches."""
    candidates = _candidates(stretches, search)
    among = sum(search.count(head) for _, head in candidates)
    if search.wanted.is_narrow:
        chosen, matching, unsearched = _search(candidates, search, rows_max, opened)
    else:
        chosen, matching, unsearched = _pick(candidates, search, rows_max, opened), among, 0
    return Sample(_rows(chosen), among, matching, unsearched)


def newest(stretches: Sequence[Stretch], search: Search, rows_max: int, opened: Open) -> list[Row]:
    """The last `rows_max` of the wanted events in the stretches."""
    latest = sorted(_candidates(stretches, search), key=lambda each: each[1].received_at_us, reverse=True)
    chosen: Chosen = []
    for stretch, head in latest:
        if len(chosen) >= rows_max:
            break
        if search.may_have(stretch.data, head):
            chosen += _wanted(opened(stretch, head), search)[len(chosen) - rows_max :]
    return _rows(chosen)


def copies(
    places: Sequence[Place], stretches: Sequence[Stretch], search: Search, rows_max: int, opened: Open
) -> list[Row]:
    """The last `rows_max` of the events that turned out to be copies, where they are wanted and still at hand."""
    chosen: Chosen = []
    frames = {
        (stretch.partition, head.offset): (stretch, head) for stretch, head in _candidates(stretches, search) if places
    }
    for place in reversed(places):
        stretch, head = frames.get((place.partition, place.offset), (None, None))
        if len(chosen) >= rows_max:
            break
        if stretch is not None and head is not None and search.may_have(stretch.data, head):
            chosen += [each for each in _wanted(opened(stretch, head), search) if each[1] == place]
    return [replace(row, outcome="duplicate") for row in _rows(chosen)]


def _candidates(stretches: Sequence[Stretch], search: Search) -> list[Candidate]:
    return [
        (stretch, head)
        for stretch in stretches
        for head in stretch.heads
        if search.count(head) and search.may_be_of(stretch.data, head)
    ]


def _search(candidates: list[Candidate], search: Search, rows_max: int, opened: Open) -> tuple[Chosen, int, int]:
    """The wanted events, how many there are, and how many may be among those that were not looked at."""
    chosen: Chosen = []
    matching = unsearched = 0
    hits = _hits(candidates, search)
    for stretch, head in spread(hits, len(hits)):
        request = opened(stretch, head)
        if request is None:
            unsearched += search.count(head)
            continue
        found = _wanted(request, search)
        matching += len(found)
        chosen += found[: rows_max - len(chosen)]
    return chosen, matching, unsearched


def _hits(candidates: list[Candidate], search: Search) -> list[Candidate]:
    """The frames that can have what the search is for."""
    worth = {id(stretch): search.may_have_in(stretch.data) for stretch in {id(s): s for s, _ in candidates}.values()}
    return [
        (stretch, head) for stretch, head in candidates if worth[id(stretch)] and search.may_have(stretch.data, head)
    ]


def _pick(candidates: list[Candidate], search: Search, rows_max: int, opened: Open) -> Chosen:
    """Some events of frames spread over all; first rejected ones, up to half of the rows."""
    chosen: Chosen = []
    with_rejected = [each for each in candidates if each[1].rejected]
    _take(with_rejected, search, -(-rows_max // 2), opened, chosen, rejected=True)
    _take(candidates, search, rows_max, opened, chosen, rejected=False)
    return chosen


def _take(
    candidates: list[Candidate], search: Search, rows_max: int, opened: Open, chosen: Chosen, *, rejected: bool
) -> None:
    """Adds events until there are `rows_max`: of as many frames as that, an equal share of each."""
    rows_left = rows_max - len(chosen)
    if not candidates or rows_left <= 0:
        return
    taken = {place for _, place, _ in chosen}
    share = -(-rows_left // len(candidates))
    # Some of them may turn out to be of another environment.
    for stretch, head in spread(candidates, 4 * rows_left):
        found = [
            each
            for each in _some(opened(stretch, head), search, share)
            if each[1] not in taken and (isinstance(each[2], RejectedEvent) or not rejected)
        ]
        chosen += list(spread(found, share))[: rows_max - len(chosen)]
        if len(chosen) >= rows_max:
            return


def _some(request: Request | None, search: Search, share: int) -> Chosen:
    """The wanted events of a request; of one that has nothing but wanted ones no more than are needed."""
    if request is None or request.judged or not search.is_of(request):
        return _wanted(request, search)
    numbers = spread(range(len(request.events)), share)
    return [(request, place_of(request, number), request.events[number]) for number in numbers]


def _wanted(request: Request | None, search: Search) -> Chosen:
    if request is None or not search.is_of(request):
        return []
    return [(request, place, event) for place, event in events_of(request, search.takes)]


def spread(items: Sequence[Item], count: int) -> Iterator[Item]:
    """About `count` different items, evenly spread over all; all of them in order where there are no more."""
    if count >= len(items):
        yield from items
        return
    taken: set[int] = set()
    for step in range(count):
        place = int((0.5 + step * _GOLDEN) % 1 * len(items))
        if place not in taken:
            taken.add(place)
            yield items[place]


def _rows(chosen: Chosen) -> list[Row]:
    ordered = sorted(chosen, key=lambda each: (each[0].received_at_us, each[1]))
    return [row_of(request, place, event) for request, place, event in ordered]
