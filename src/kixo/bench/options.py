"""What a measurement is asked to be, and what it has found."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kixo.bench.driver import Plan
from kixo.bench.schedule import LIMIT_WINDOW_S
from kixo.bench.traffic import Credential, Shape

LIMIT_PER_PROJECT = 100
# Far more than one core has been seen to answer, so that no project ever comes near its limit.
REQUESTS_PER_CORE_MAX = 30_000
EVENTS_PER_CORE_MAX = 1_250_000

Identity = Literal["event_id", "fingerprint"]


@dataclass(frozen=True)
class Options:
    """What a scenario may be told. None means that the scenario chooses.

    `seconds` of measuring per server, `batch` events per request, `rate` events per second (None: as many as can be),
    `warm_up_s` before the measuring of sustained and latency, `workers` of the server (0: its own choice), `folder`
    for the temporary data.
    """

    seconds: float | None = None
    batch: int | None = None
    connections: int | None = None
    rate: float | None = None
    loader: bool | None = None
    identity: Identity = "event_id"
    workers: int = 0
    rounds: int = 3
    seed: int = 1
    folder: Path | None = None
    warm_up_s: float | None = None

    def shape(self, batch: int) -> Shape:
        """Requests of so many events, unless the options say otherwise."""
        return Shape(batch if self.batch is None else self.batch, self.identity)

    def plan(self, url: str, credentials: list[Credential], shape: Shape, seconds: float) -> Plan:
        """A closed loop of that length."""
        return Plan(
            url=url,
            credentials=credentials,
            shape=shape,
            connections=self.connections or connections(shape.batch),
            seconds=seconds,
            seed=self.seed,
            limit_per_project=LIMIT_PER_PROJECT,
        )


@dataclass
class Finding:
    """What a scenario has found: figures by name, with their units in the names, and checks that held or not."""

    scenario: str
    figures: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        """The checks that did not hold."""
        return [name for name, held in self.checks.items() if not held]


def connections(batch: int) -> int:
    """Connections that keep a server busy without a queue that only adds latency."""
    return 128 if batch < 10 else 32 if batch < 500 else 8


def projects(batch: int) -> int:
    """Projects it takes to send at full speed with none over its limit."""
    per_core = min(REQUESTS_PER_CORE_MAX, EVENTS_PER_CORE_MAX // max(batch, 1))
    per_project = LIMIT_PER_PROJECT / LIMIT_WINDOW_S
    return max(2, round((os.cpu_count() or 1) * per_core / per_project))
