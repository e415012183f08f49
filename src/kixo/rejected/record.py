"""The record of replays in the registry."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from kixo.errors import BadArgument
from kixo.registry import Registry
from kixo.registry.replays import REPLAYS_MAX, RejectedPlace, count_replays, find_replays, list_replays, record_replays
from kixo.rejected.selection import Place

OUTCOME = "replayed"


class RegistryRecord:
    """What was replayed of any log, as `kixo.rejected.reading.ReplayRecord`. Each event takes a row for good."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def known(self, places: Collection[Place]) -> set[Place]:
        """Those of the places whose events were replayed."""
        return {
            Place(log_id, *found)
            for log_id, of_log in _by_log(places).items()
            for found in find_replays(self._registry, log_id, of_log)
        }

    def check_room(self, events: int) -> None:
        """Raises `BadArgument` where so many more could not be recorded."""
        with self._registry.reading() as connection:
            count = count_replays(connection)
        if count + events > REPLAYS_MAX:
            raise BadArgument(
                f"{count} events were replayed, and {REPLAYS_MAX} is the most.", "Send what is left as new events."
            )

    def add(self, places: Sequence[Place]) -> None:
        """Says, durably, that these were replayed."""
        for log_id, of_log in _by_log(places).items():
            record_replays(self._registry, log_id, [(place, OUTCOME) for place in of_log])

    def of_log(self, log_id: str) -> set[Place]:
        """All of one log that were replayed."""
        return {Place(log_id, *replay.place) for replay in list_replays(self._registry, log_id)}


def _by_log(places: Collection[Place]) -> dict[str, list[RejectedPlace]]:
    by_log: dict[str, list[RejectedPlace]] = defaultdict(list)
    for place in places:
        by_log[place.log_id].append((place.partition, place.offset, place.index))
    return by_log
