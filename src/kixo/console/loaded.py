"""How far the tables have come: by the loader's own record, where it loads a local log, and else by the tables.

Loaders of a shared log run anywhere, each with some of the partitions; what all of them have done stands in the tables
alone. Of copies these say nothing, so a page leaves an event as accepted until somebody opens it.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from kixo.console.feed.outcome import ReadLoads
from kixo.layout import Layout
from kixo.load_record import Loaded, read_loads
from kixo.log.opening import read_log_id
from kixo.places import log_place
from kixo.settings import Settings

# A look at a table costs some reads of a store that may be far away.
AGE_S = 0.5


def open_loads(settings: Settings) -> ReadLoads:
    """What tells how far the tables have come."""
    if log_place(settings.log) is None:
        return partial(read_loads, Layout(settings.data_dir).load_record)
    return TableLoads(settings).read


class TableLoads:
    """Reads the positions of the events table, for all who ask within `AGE_S` seconds once. For any thread."""

    def __init__(self, settings: Settings, timer_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._timer_s = timer_s
        self._lock = threading.Lock()
        self._log_id: str | None = None
        self._read_s = -AGE_S
        self._version = -1
        self._positions: dict[int, int] = {}

    def read(self, since: int | None) -> Loaded | None:
        """The positions; what was found to be a copy since, nobody can say. Raises `OperatorError`."""
        with self._lock:
            if self._timer_s() - self._read_s >= AGE_S:
                self._refresh()
            missed = 0 if since == self._version else 1
            return Loaded(self._log_id or "", self._positions, [], missed, self._version)

    def _refresh(self) -> None:
        if self._log_id is None:
            self._log_id = read_log_id(self._settings)
        view = _open_events(self._settings)
        if view.version != self._version:
            self._positions = view.positions(self._log_id, range(self._settings.log_partitions))
            self._version = view.version
        self._read_s = self._timer_s()


def _open_events(settings: Settings) -> Any:
    # Here, so that a console that needs no tables for this does without the library, and its memory.
    from kixo.lake.opening import open_lake
    from kixo.lake.read import open_table

    return open_table(open_lake(settings), "events")
