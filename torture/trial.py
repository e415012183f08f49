"""One trial: an installation under traffic, what is done to it, and the verdict on it.

An attack opens a `Trial`, hurts `trial.installation` while `trial.traffic` flows, and ends with `trial.verdict()`,
which lets every client deliver, has everything loaded, and compares. All choices come from `trial.dice`.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

from kixo.timestamp import now_us
from torture.account import Account
from torture.client import Client, Habits, Traffic
from torture.event import Source
from torture.installation import Installation
from torture.oracle import Findings, reconcile
from torture.verdict import Verdict

RECOVERY_S_MAX = 120.0
DELIVERY_S_MAX = 180.0
DRAINS_MAX = 5
SHOWN = 20


@dataclass(frozen=True)
class Orders:
    """What a run is asked for: an empty `folder`, the `seed`, how many faults (None: as many as usual), how long."""

    folder: Path
    seed: int
    faults: int | None = None
    short: bool = False

    def count(self, usual: int, short: int) -> int:
        """How many faults to make."""
        return self.faults if self.faults is not None else short if self.short else usual

    def tools(self) -> Path:
        """A folder beside the data, for what the attack itself needs."""
        folder = self.folder / "tools"
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()


@dataclass
class Trial:
    """See above. Closed at the end of a `with`, whatever happened."""

    attack: str
    orders: Orders
    environment: Mapping[str, str] | None = None
    workers: int = 2
    habits: Habits = Habits()
    skews_us: tuple[int, ...] = (0,)
    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.began_s = time.monotonic()
        self.dice = Random(f"{self.orders.seed}/{self.attack}")
        self.source = Source(self.orders.seed, now_us(), self.skews_us)
        self.account = Account()
        folder = self.orders.folder / self.attack
        folder.mkdir(parents=True)
        clients = self.habits.clients
        self.installation = Installation(folder, self.environment, workers=self.workers, projects=clients + 1)
        server = self.installation
        # A project that no client uses.
        self.idle = server.credentials[-1]
        self.traffic = Traffic(
            [
                Client(number, credential, lambda: server.url, self.source, self.account, self.habits)
                for number, credential in enumerate(server.credentials[:-1])
            ]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.traffic.stop()
        self.installation.kill_all()

    def note(self, fault: str) -> float:
        """Counts something done to the server; the time of the monotonic clock, for `recover`."""
        self.faults[fault] += 1
        return time.monotonic()

    def recover(self, since_s: float) -> None:
        """Waits for the first 200 to a request that began after `since_s`; a failure to give one is broken."""
        seconds = self.account.wait_for_answer(since_s, RECOVERY_S_MAX)
        if seconds is None:
            self.broken.append(f"No event was taken for {RECOVERY_S_MAX} seconds. {self.installation.last_lines()}")
        else:
            self.recovery_s.append(round(seconds, 3))

    def verdict(self) -> Verdict:
        """Lets the clients deliver what is unanswered, has all of it loaded, stops the server, and compares."""
        if not self.traffic.finish(DELIVERY_S_MAX):
            self.broken.append(f"Clients could not deliver within {DELIVERY_S_MAX} seconds.")
        differences = self.load_all()
        return self._judge(reconcile(self.installation.layout.lake, self.account, self.source), differences)

    def load_all(self) -> list[str]:
        """Stops the server when nothing is left in its log; what the audit has to say then."""
        for _ in range(DRAINS_MAX):
            if self.installation.stop() != 0:
                self.broken.append(f"The server did not end in order. {self.installation.last_lines()}")
            report = self.installation.audit()
            if not sum(project.pending for project in report.projects):
                return report.differences
            self.installation.start()
        self.installation.stop()
        return [*report.differences, "Events stay in the log."]

    def _judge(self, findings: Findings, differences: list[str]) -> Verdict:
        account = self.account
        named = {
            "lost": findings.lost,
            "doubled": findings.doubled,
            "foreign": findings.foreign,
            "altered": findings.altered,
            "unrecorded": findings.unrecorded,
            "wrongly rejected": sorted(account.wrongly_rejected),
            "let in": sorted(account.let_in),
        }
        details = [f"{what}: {', '.join(names[:SHOWN])}" for what, names in named.items() if names]
        return Verdict(
            attack=self.attack,
            seed=self.orders.seed,
            seconds=round(time.monotonic() - self.began_s, 1),
            faults=dict(self.faults),
            requests=account.outcomes.total(),
            answers=dict(account.outcomes),
            acknowledged=len(account.accepted),
            copies=account.accepted.total() - len(account.accepted),
            rejected=len(account.rejected),
            lost=len(findings.lost),
            doubled=len(findings.doubled),
            foreign=len(findings.foreign),
            altered=len(findings.altered),
            unrecorded=len(findings.unrecorded),
            wrongly_rejected=len(account.wrongly_rejected),
            let_in=len(account.let_in),
            unacknowledged=findings.unacknowledged,
            recovery_s=self.recovery_s,
            audit=differences,
            broken=[*self.broken, *dict.fromkeys(account.faults), *details],
            figures=self.figures,
        )
