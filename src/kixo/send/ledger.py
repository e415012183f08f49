"""What became of each row, and the place up to which every row is settled: from there another run goes on.

Batches are settled in any order. A row counts for good once all rows before it are settled, so the numbers that are
kept in the bookmark are exact, whenever the process is killed.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Struct

from kixo.send.rows import Place

EXAMPLES_MAX = 3
# Rows that are settled, or on their way, behind one that is not settled.
WAITING_ROWS_MAX = 200_000


class Counts(Struct):
    """Rows up to a place: how many there were, and how many of them were not taken."""

    rows: int = 0
    refused: int = 0

    @property
    def accepted(self) -> int:
        """Events that the server took."""
        return self.rows - self.refused


class Entry(NamedTuple):
    """A row on its way: the number of its line, and its event."""

    line: int
    event: bytes


class Refusal(NamedTuple):
    """A row that was not taken: by the server, or before it was sent. `record` is what is written to be mended."""

    line: int
    field: str | None
    code: str
    message: str
    record: bytes


class Reason(Struct):
    """Why rows were not taken: the code, how many, and the first examples as (line, message)."""

    code: str
    rows: int
    examples: list[tuple[int, str]]


class Ledger:
    """Safe for many threads. `tell` hears of every refusal, under the lock.

    `halts`: a row that was not taken is never passed, so that another run begins with it.
    """

    def __init__(self, start: Place, counts: Counts, tell: Callable[[Refusal], object], *, halts: bool = False) -> None:
        self._halts = halts
        self._lock = threading.Condition()
        self._tell = tell
        self._open: set[int] = set()
        self._rows: deque[tuple[int, Place]] = deque()
        self._refused: set[int] = set()
        self._passed = start
        self._before = counts
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, list[tuple[int, str]]] = {}
        self.rows = 0
        self.refused = 0

    @property
    def crowded(self) -> bool:
        """Whether so many rows wait for one before them that reading has to wait too."""
        return len(self._rows) >= WAITING_ROWS_MAX

    def begin(self, line: int, end: Place) -> None:
        """A row is read, which ends at a place."""
        with self._lock:
            self.rows += 1
            self._rows.append((line, end))
            self._open.add(line)

    def wait(self, seconds: float) -> None:
        """Waits for rows to be settled, or so long."""
        with self._lock:
            self._lock.wait(seconds)

    def settle(self, lines: Sequence[int], refusals: Sequence[Refusal]) -> None:
        """Rows have found their end, some of them refused."""
        with self._lock:
            for refusal in refusals:
                self._note(refusal)
            stays = {refusal.line for refusal in refusals} if self._halts else set()
            self._open.difference_update(set(lines) - stays if stays else lines)
            self._pass()
            self._lock.notify_all()

    def bookmark(self) -> tuple[Place, Counts]:
        """The place before which every row is settled, and what became of those."""
        with self._lock:
            return self._passed, Counts(self._before.rows, self._before.refused)

    def reasons(self) -> list[Reason]:
        """Why rows of this run were not taken, the most frequent reason first."""
        with self._lock:
            return [Reason(code, rows, self._examples[code]) for code, rows in self._reasons.most_common()]

    def _note(self, refusal: Refusal) -> None:
        self.refused += 1
        self._refused.add(refusal.line)
        self._reasons[refusal.code] += 1
        examples = self._examples.setdefault(refusal.code, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append((refusal.line, refusal.message))
        self._tell(refusal)

    def _pass(self) -> None:
        """Moves the place on to the first row that is still open."""
        while self._rows and self._rows[0][0] not in self._open:
            line, self._passed = self._rows.popleft()
            self._before.rows += 1
            self._before.refused += line in self._refused
            self._refused.discard(line)
