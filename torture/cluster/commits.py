"""Loaders killed in the middle of a load, at chosen requests to S3: data files, the commits of each table, checkpoints.

Each loader reaches S3 by a relay, which sees the request that makes something happen, and has the loader killed before
S3 gets it or after S3 did it; or loses only the answer, so that the loader meets its own commit; or delivers the
commit of a dead loader late, when another may have its partitions.
"""

import signal
from collections import Counter
from contextlib import ExitStack
from typing import NamedTuple

from torture.attempt import Orders
from torture.cluster.cluster import LOADS
from torture.cluster.relay import AFTER, BEFORE, LATE, LOST, Relay, Trap
from torture.cluster.trial import ClusterTrial, serve_again
from torture.verdict import Verdict

ROUNDS, POINTS_SHORT = 2, 3
REACHED_S_MAX = 20.0
# About as long as a group takes to notice that a loader is gone.
LATE_S_MAX = 15.0
LOADER = "kixo.server.loader"


class Point(NamedTuple):
    """Which request, which moment of it, how often it may pass before, and what that is in words."""

    head: str
    moment: str
    times: int
    sentence: str


def _put(path: str) -> str:
    return rf"PUT /[^ ]*/lake/{path}"


def _points() -> list[Point]:
    found = []
    for table in ("rejected", "loads", "events"):
        head = _put(rf"{table}/_delta_log/[0-9]{{20}}\.json[ ?]")
        found += [
            Point(head, BEFORE, 6, f"killed between the data files and the commit of {table}"),
            Point(head, AFTER, 6, f"killed after the commit of {table}, before its answer"),
            Point(head, LOST, 6, f"the answer to the commit of {table} lost"),
            Point(head, LATE, 6, f"killed, and the commit of {table} late"),
        ]
    data = _put(r"events/date[^ ]*\.parquet[ ?]")
    checkpoint = _put(r"[a-z]*/_delta_log/_last_checkpoint[ ?]")
    return [
        *found,
        Point(data, BEFORE, 12, "killed before a data file is there"),
        Point(data, AFTER, 12, "killed when a data file is there"),
        Point(checkpoint, BEFORE, 2, "killed before a checkpoint is named"),
        Point(checkpoint, AFTER, 2, "killed when a checkpoint is named"),
    ]


class Relays:
    """The relays of those nodes that load, each made when its node is."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._relays: list[Relay] = []

    def endpoint(self, name: str, url: str) -> str:
        """Where a node finds S3."""
        if name not in LOADS:
            return url
        self._relays.append(self._stack.enter_context(Relay(name, url)))
        return self._relays[-1].url

    def set(self, trap: Trap | None) -> None:
        """Sets one trap for all of them, or takes it away."""
        for relay in self._relays:
            relay.trap = trap

    def close(self) -> None:
        """Ends them."""
        self._stack.close()


def kill_in_commits(orders: Orders) -> Verdict:
    """Visits each point some times, in an order that the seed chooses."""
    relays = Relays()
    missed: Counter[str] = Counter()
    try:
        with ClusterTrial("cluster-commit", orders, endpoint=relays.endpoint) as trial:
            points = _points() * ROUNDS
            trial.dice.shuffle(points)
            with trial.traffic.flowing():
                for point in points[: orders.count(len(points), POINTS_SHORT)]:
                    _visit(trial, relays, point, missed)
            trial.broken += [f"Never reached: {name}." for name in missed if not trial.faults[name]]
            trial.figures["visits in vain"] = missed.total()
            return trial.verdict()
    finally:
        relays.close()


def _visit(trial: ClusterTrial, relays: Relays, point: Point, missed: Counter[str]) -> None:
    word = trial.dice.choice(["", LOADER])
    struck: list[str] = []

    def strike(name: str) -> None:
        trial.cluster.parts[name].signal(signal.SIGKILL, word)
        struck.append(name)

    trap = Trap(point.head, trial.dice.randint(1, point.times), point.moment, strike, trial.dice.uniform(0, LATE_S_MAX))
    relays.set(trap)
    reached = trap.shut.wait(REACHED_S_MAX)
    relays.set(None)
    if not reached:
        missed[point.sentence] += 1
        return
    began_s = trial.note(point.sentence)
    if not word:
        serve_again(trial, struck)
    trial.recover_all(began_s)
    trap.over.wait(2 * LATE_S_MAX)
