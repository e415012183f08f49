"""One trial: an installation under traffic, what is done to it, and the verdict on it.

An attack opens a `Trial`, hurts `trial.installation` while `trial.traffic` flows, and ends with `trial.verdict()`,
which lets every client deliver, has everything loaded, and compares. All choices come from `trial.dice`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torture.attempt import Attempt, Orders
from torture.client import Client, Traffic
from torture.installation import Installation
from torture.oracle import reconcile
from torture.verdict import Verdict

__all__ = ("Orders", "Trial")

DELIVERY_S_MAX = 180.0
DRAINS_MAX = 5


@dataclass
class Trial(Attempt):
    """See above. Closed at the end of a `with`, whatever happened."""

    environment: Mapping[str, str] | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
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

    def last_words(self) -> str:
        """The newest lines of the server's log."""
        return self.installation.last_lines()

    def verdict(self) -> Verdict:
        """Lets the clients deliver what is unanswered, has all of it loaded, stops the server, and compares."""
        if not self.traffic.finish(DELIVERY_S_MAX):
            self.broken.append(f"Clients could not deliver within {DELIVERY_S_MAX} seconds.")
        differences = self.load_all()
        return self.judge(reconcile(self.installation.layout.lake, self.account, self.source), differences)

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
