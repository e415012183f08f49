"""What every trial counts, whatever server it hurts: faults, answers, times to recover; and the verdict on them."""

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from kixo.timestamp import now_us
from torture.account import Account
from torture.client import Habits
from torture.event import Source
from torture.oracle import Findings
from torture.verdict import Verdict

RECOVERY_S_MAX = 120.0
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
class Attempt:
    """One run of an attack. All choices come from `dice`."""

    attack: str
    orders: Orders
    habits: Habits = field(default=Habits(), kw_only=True)
    skews_us: tuple[int, ...] = field(default=(0,), kw_only=True)
    faults: Counter[str] = field(default_factory=Counter, kw_only=True)
    recovery_s: list[float] = field(default_factory=list, kw_only=True)
    broken: list[str] = field(default_factory=list, kw_only=True)
    figures: dict[str, float] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        self.began_s = time.monotonic()
        self.dice = Random(f"{self.orders.seed}/{self.attack}")
        self.source = Source(self.orders.seed, now_us(), self.skews_us)
        self.account = Account()

    def last_words(self) -> str:
        """What the server said last, for sentences about what is broken."""
        return ""

    def note(self, fault: str) -> float:
        """Counts something done to the server; the time of the monotonic clock, for `recover`."""
        self.faults[fault] += 1
        return time.monotonic()

    def recover(self, since_s: float, clients: int = 1) -> None:
        """Waits until so many clients got a 200 to a request that began after `since_s`; if not, that is broken."""
        seconds = self.account.wait_for_answer(since_s, RECOVERY_S_MAX, clients)
        if seconds is None:
            self.broken.append(f"No event was taken for {RECOVERY_S_MAX} seconds. {self.last_words()}")
        else:
            self.recovery_s.append(round(seconds, 3))

    def judge(self, findings: Findings, differences: list[str]) -> Verdict:
        """The verdict, with what the oracle found and what the audit has to say."""
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
