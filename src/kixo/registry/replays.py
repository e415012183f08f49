"""Which rejected events were sent again, when, and what came of it.

A rejected event is known by its place: the log, the partition, the request's offset and its index in the batch.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, tuple_

from kixo.errors import BadArgument
from kixo.registry import Registry
from kixo.registry.schema import NAME_LENGTH_MAX, REPLAYS

REPLAYS_MAX = 1_000_000
# Places in one statement: SQLite takes 32,766 parameters.
PLACES_PER_STATEMENT = 2000

RejectedPlace = tuple[int, int, int]
"""Partition, offset and index of a rejected event in its log."""


class Replay(Struct, frozen=True):
    """A rejected event that was sent again. `outcome` is `accepted` or why not; the time is in microseconds."""

    log_id: str
    log_partition: int
    log_offset: int
    log_index: int
    replayed_at_us: int
    outcome: str

    @property
    def place(self) -> RejectedPlace:
        """Where it stands in its log."""
        return self.log_partition, self.log_offset, self.log_index


def record_replays(registry: Registry, log_id: str, outcomes: Iterable[tuple[RejectedPlace, str]]) -> None:
    """Keeps what came of sending these again; what an earlier replay of them came to is forgotten.

    Raises `BadArgument` where there would be more than `REPLAYS_MAX`; then none of them is kept.
    """
    now_us = registry.now_us()
    replays = {place: Replay(log_id, *place, now_us, outcome[:NAME_LENGTH_MAX]) for place, outcome in outcomes}
    with registry.writing() as connection:
        for places in _pieces(list(replays)):
            connection.execute(delete(REPLAYS).where(_is_one_of(log_id, places)))
            connection.execute(insert(REPLAYS), [asdict(replays[place]) for place in places])
        if count_replays(connection) > REPLAYS_MAX:
            raise BadArgument(f"{REPLAYS_MAX} replays are kept, which is the most.", "Replay fewer events.")


def find_replays(registry: Registry, log_id: str, places: Iterable[RejectedPlace]) -> dict[RejectedPlace, Replay]:
    """What came of those of these events that were sent again, by their place."""
    found: dict[RejectedPlace, Replay] = {}
    with registry.reading() as connection:
        for piece in _pieces(list(places)):
            rows = connection.execute(select(REPLAYS).where(_is_one_of(log_id, piece))).mappings()
            found.update((replay.place, replay) for replay in (Replay(**row) for row in rows))
    return found


def list_replays(registry: Registry, log_id: str) -> list[Replay]:
    """Every replay of events of this log, in the log's order."""
    order = (REPLAYS.c.log_partition, REPLAYS.c.log_offset, REPLAYS.c.log_index)
    with registry.reading() as connection:
        rows = connection.execute(select(REPLAYS).where(REPLAYS.c.log_id == log_id).order_by(*order)).mappings()
        return [Replay(**row) for row in rows]


def count_replays(connection: Connection) -> int:
    """How many are kept."""
    return connection.scalar(select(func.count()).select_from(REPLAYS)) or 0


def _is_one_of(log_id: str, places: Sequence[RejectedPlace]) -> ColumnElement[bool]:
    columns = tuple_(REPLAYS.c.log_partition, REPLAYS.c.log_offset, REPLAYS.c.log_index)
    return (REPLAYS.c.log_id == log_id) & columns.in_(places)


def _pieces(places: Sequence[RejectedPlace]) -> Iterable[list[RejectedPlace]]:
    rest = iter(places)
    while piece := list(islice(rest, PLACES_PER_STATEMENT)):
        yield piece
