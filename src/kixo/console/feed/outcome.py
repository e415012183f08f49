"""What became of events after they were accepted: stored, or found to be a copy, once the loader says so.

The loader keeps a record of how far it has come and of the last copies it found (`kixo.load_record`). An event that was
shown as accepted is waited for until its position is loaded. Where the record has lost copies that it could not yet
tell of, nothing is said of the events loaded meanwhile: accepted stays true of them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from kixo.console.feed.row import Place
from kixo.load_record import Loaded
from kixo.log.preview import Stretch

WAITED_FOR_MAX = 1000
COPIES_KEPT_MAX = 16_384
RECENT_BYTES_MAX = 16 * 1024 * 1024


ReadLoads = Callable[[int | None], Loaded | None]
"""Gives what the loader has done since: see `kixo.load_record.read_loads`."""


class Settled(Struct, frozen=True, omit_defaults=True):
    """Ids of rows of which is known now what became of them."""

    stored: list[str] = []
    duplicate: list[str] = []


class LoadNews:
    """The news of the loader, asked for at each turn."""

    def __init__(self, read: ReadLoads) -> None:
        self._read = read
        self._next: int | None = None
        self.positions: Mapping[int, int] = {}
        self.copies: deque[Place] = deque(maxlen=COPIES_KEPT_MAX)
        self.new_copies: list[Place] = []
        self.missed = False
        self._copies: set[Place] = set()

    def ask(self) -> bool:
        """Asks what is new; whether anything is. Raises `OSError`."""
        self.new_copies, self.missed = [], False
        loads = self._read(self._next)
        if loads is None or (loads.next == self._next and loads.positions == self.positions):
            return False
        self.new_copies = [Place(*each) for each in loads.copies]
        self.missed = loads.missed > 0
        self.copies.extend(self.new_copies)
        self._copies = set(self.copies)
        self._next, self.positions = loads.next, loads.positions
        return True

    def is_loaded(self, place: Place) -> bool:
        """Whether the event has been loaded."""
        return place.offset < self.positions.get(place.partition, 0)

    def is_copy(self, place: Place) -> bool:
        """Whether the event was found to be a copy, as far as is still known."""
        return place in self._copies


class Waiting:
    """Events that were shown as accepted and of which one watcher is to hear again, the last thousand."""

    def __init__(self) -> None:
        self._places: deque[Place] = deque(maxlen=WAITED_FOR_MAX)

    def add(self, places: Iterable[Place]) -> None:
        """Waits for more."""
        self._places.extend(places)

    def settle(self, news: LoadNews) -> Settled | None:
        """What is known now of those waited for; None where that is nothing."""
        loaded = [place for place in self._places if news.is_loaded(place)]
        if not loaded:
            return None
        self._places = deque((place for place in self._places if not news.is_loaded(place)), WAITED_FOR_MAX)
        duplicate = [str(place) for place in loaded if news.is_copy(place)]
        stored = [] if news.missed else [str(place) for place in loaded if not news.is_copy(place)]
        return Settled(stored, duplicate)


class Recent:
    """The last stretches of the log, so that an event that turns out to be a copy can still be shown."""

    def __init__(self) -> None:
        self._stretches: deque[Stretch] = deque()
        self._size = 0

    def add(self, stretches: Sequence[Stretch]) -> None:
        """Keeps stretches, and lets go of the oldest beyond the bound."""
        self._stretches.extend(stretches)
        self._size += sum(len(stretch.data) for stretch in stretches)
        while self._size > RECENT_BYTES_MAX and len(self._stretches) > 1:
            self._size -= len(self._stretches.popleft().data)

    @property
    def stretches(self) -> list[Stretch]:
        """Those that are kept, oldest first."""
        return list(self._stretches)
