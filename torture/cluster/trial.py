"""One trial of a cluster: traffic, what is done to its parts, and the verdict.

Each client goes to the nodes that take events in turn: to the next one whenever it connects anew, which it does after
every failure and every 503. *Recovery* is the time from a fault until each client, and so each partition that has
clients, got a 200 to a request that began after the fault.
"""

import time
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Self

from kixo.errors import StartFailed
from torture.attempt import Attempt
from torture.client import Client, Habits, Traffic
from torture.cluster.cluster import INGESTS, Cluster, Endpoint
from torture.cluster.ground import Ground, Loopback
from torture.cluster.part import wait_until
from torture.oracle import reconcile
from torture.verdict import Verdict

DELIVERY_S_MAX = 180.0
DRAIN_S_MAX = 180.0


@dataclass
class ClusterTrial(Attempt):
    """See above. Closed at the end of a `with`, whatever happened."""

    habits: Habits = field(default=Habits(pause_s=0.3, moves_on=True), kw_only=True)
    ground: Ground = field(default_factory=Loopback)
    endpoint: Endpoint | None = None
    mount: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        folder = self.orders.folder / self.attack
        folder.mkdir(parents=True)
        # PostgreSQL's own user has to get through.
        for path in (self.orders.folder, folder):
            path.chmod(0o711)
        self.cluster = Cluster(folder, self.ground, self.habits.clients, endpoint=self.endpoint, mount=self.mount)
        self.traffic = Traffic([])

    def __enter__(self) -> Self:
        try:
            self.cluster.start()
        except BaseException:
            self.cluster.close()
            raise
        self.traffic = Traffic([self._client(number) for number in range(self.habits.clients)])
        return self

    def __exit__(self, *_: object) -> None:
        self.traffic.stop()
        self.cluster.close()

    def last_words(self) -> str:
        """The newest lines of the nodes that take events."""
        return " ".join(self.cluster.last_words(name) for name in INGESTS)

    def recover_all(self, since_s: float) -> None:
        """`recover`, for all clients."""
        self.recover(since_s, self.habits.clients)

    def rest(self, least_s: float, most_s: float) -> None:
        """Lets some time pass, by the dice."""
        time.sleep(self.dice.uniform(least_s, most_s))

    def wait_events(self, count: int, seconds_max: float = 60.0) -> bool:
        """Waits until so many more events were taken; whether they were."""
        return self.account.wait_for_events(self.account.taken + count, seconds_max)

    def verdict(self) -> Verdict:
        """Lets the clients deliver what is unanswered, has all of it loaded, ends all nodes, and compares."""
        if not self.traffic.finish(DELIVERY_S_MAX):
            self.broken.append(f"Clients could not deliver within {DELIVERY_S_MAX} seconds.")
        began_s = time.monotonic()
        # Nothing new comes to the log any more, not even what a node still held.
        self._end("ingest")
        differences = self._drain()
        self.figures["seconds until all was loaded"] = round(time.monotonic() - began_s, 1)
        self._end("load", "console")
        return self.judge(reconcile(self.cluster.lake, self.account, self.source), differences)

    def _drain(self) -> list[str]:
        """Waits until nothing in the log is beyond the tables; what the audit has to say then."""
        ends = time.monotonic() + DRAIN_S_MAX
        while True:
            report = self.cluster.audit()
            if not (pending := sum(project.pending for project in report.projects)):
                return report.differences
            if time.monotonic() > ends:
                words = " ".join(self.cluster.last_words(name) for name in self.cluster.of("load"))
                return [*report.differences, f"{pending} events stay in the log. {words}"]

    def _end(self, *kinds: str) -> None:
        for name in self.cluster.of(*kinds):
            if not self.cluster.parts[name].stop():
                self.broken.append(f"{name} did not end in order. {self.cluster.last_words(name)}")

    def _client(self, number: int) -> Client:
        turns = cycle(INGESTS if number % 2 else reversed(INGESTS))
        credential = self.cluster.credentials[number]
        return Client(number, credential, lambda: self.cluster.url(next(turns)), self.source, self.account, self.habits)


def back_in_sync(trial: ClusterTrial, seconds_max: float = 60.0) -> None:
    """Waits until every broker has everything again, so that the next fault meets a whole cluster; or goes on."""
    wait_until(trial.cluster.is_in_sync, seconds_max)


def serve_again(trial: ClusterTrial, names: list[str]) -> None:
    """Starts parts again; one that does not come up is broken."""
    try:
        trial.cluster.bring_up(names)
    except StartFailed as error:
        trial.broken.append(str(error))
