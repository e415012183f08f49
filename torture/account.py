"""What clients sent and what they were told, event by event: one half of what the oracle compares."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from torture.event import BAD

NO_ANSWER = "no answer"
NO_CONNECTION = "no connection"


class Answer(NamedTuple):
    """What came back for a request: the status, or 0 for nothing; the code; events taken, and the code of each not."""

    status: int
    code: str
    accepted: int = 0
    rejected: dict[int, str] = {}

    @property
    def outcome(self) -> str:
        """Its name in counts, such as `200 ok`."""
        return f"{self.status} {self.code}" if self.status else self.code


class Account:
    """The accounts of all clients together. Safe for their threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._answered_begin_s: dict[str, float] = {}
        self._failures: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.taken = 0
        self.longest_failures = 0
        self.wrongly_rejected: set[str] = set()
        self.let_in: set[str] = set()
        self.faults: list[str] = []

    def note_sent(self, tokens: Iterable[str]) -> None:
        """Before the first byte of a request leaves: from here on its events may be in the tables."""
        with self._changed:
            self.sent.update(tokens)

    def note_answer(self, tokens: list[str], answer: Answer, began_s: float) -> None:
        """What a client was told of a request that it began at a time of the monotonic clock."""
        with self._changed:
            self.outcomes[answer.outcome] += 1
            client = tokens[0].partition("-")[0] if tokens else ""
            self._failures[client] = self._failures[client] + 1 if answer.status in {0, 503} else 0
            self.longest_failures = max(self.longest_failures, self._failures[client])
            if answer.status == 200 or answer.code == "no_valid_events":
                self._judge(tokens, answer)
                self._answered_begin_s[client] = max(self._answered_begin_s.get(client, 0.0), began_s)
                self._changed.notify_all()

    def note_fault(self, sentence: str) -> None:
        """Something that a client must never see."""
        with self._changed:
            self.faults.append(sentence)

    def wait_for_answer(self, since_s: float, seconds_max: float, clients: int = 1) -> float | None:
        """Waits until `clients` of them got an answer to a request that began after `since_s`.

        Gives the seconds from then, None if they did not.
        """
        with self._changed:
            answered = self._changed.wait_for(lambda: self._answered_since(since_s) >= clients, seconds_max)
        return time.monotonic() - since_s if answered else None

    def wait_for_events(self, count: int, seconds_max: float) -> bool:
        """Waits until at least `count` events were accepted, counted with their copies."""
        with self._changed:
            return self._changed.wait_for(lambda: self.taken >= count, seconds_max)

    def _answered_since(self, since_s: float) -> int:
        return sum(began_s > since_s for began_s in self._answered_begin_s.values())

    def _judge(self, tokens: list[str], answer: Answer) -> None:
        taken = [token for place, token in enumerate(tokens) if place not in answer.rejected]
        refused = [tokens[place] for place in answer.rejected]
        if len(taken) != answer.accepted:
            self.faults.append(f"An answer takes {answer.accepted} events where {len(taken)} were not rejected.")
        self.taken += len(taken)
        self.accepted.update(set(taken))
        self.rejected.update(refused)
        self.let_in.update(token for token in taken if token.endswith(BAD))
        self.wrongly_rejected.update(token for token in refused if not token.endswith(BAD))
