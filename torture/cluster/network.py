"""Networks cut between parts, each of which has a network of its own, and healed again.

What is sent over a cut is lost in silence, as with a broken switch: connections stay, and nobody is told.
"""

import time
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from torture.attempt import Orders
from torture.cluster.cluster import BROKERS, INGESTS, LOADS, NODES
from torture.cluster.ground import Namespaces
from torture.cluster.trial import ClusterTrial, back_in_sync
from torture.verdict import Verdict

ROUNDS, CUTS_SHORT = 2, 2
EVENTS_BETWEEN = 100
CUT_S = (10.0, 30.0)

Pairs = list[tuple[str, str]]


class Cut(NamedTuple):
    """A cut in words, and the pairs of parts between which it is, given the trial."""

    sentence: str
    pairs: Callable[[ClusterTrial], Pairs]


def _one_broker(trial: ClusterTrial) -> Pairs:
    one = trial.dice.choice(BROKERS)
    return [(one, other) for other in BROKERS if other != one]


def _one_of(names: tuple[str, ...], others: tuple[str, ...]) -> Callable[[ClusterTrial], Pairs]:
    return lambda trial: list(product([trial.dice.choice(names)], others))


def _all_of(names: tuple[str, ...], others: tuple[str, ...]) -> Callable[[ClusterTrial], Pairs]:
    return lambda _: list(product(names, others))


CUTS = (
    Cut("one broker from the others", _one_broker),
    Cut("one broker from everybody", lambda trial: _from_all(trial, trial.dice.choice(BROKERS))),
    Cut("a node that takes events from Kafka", _one_of(INGESTS, BROKERS)),
    Cut("a node that loads from Kafka", _one_of(LOADS, BROKERS)),
    Cut("a node that loads from S3", _one_of(LOADS, ("s3",))),
    Cut("all nodes from S3", _all_of(NODES, ("s3",))),
    Cut("all nodes from PostgreSQL", _all_of(NODES, ("postgresql",))),
    Cut("all nodes from Redis", _all_of(NODES, ("redis",))),
)


def _from_all(trial: ClusterTrial, name: str) -> Pairs:
    return [(name, other) for other in trial.cluster.parts if other != name]


def cut_networks(orders: Orders) -> Verdict:
    """Makes each cut some times, in an order that the seed chooses. Raises `Skipped` where no network can be made."""
    ground = Namespaces()
    with ClusterTrial("cluster-network", orders, ground=ground) as trial:
        cuts = list(CUTS) * ROUNDS
        trial.dice.shuffle(cuts)
        with trial.traffic.flowing():
            for cut in cuts[: orders.count(len(cuts), CUTS_SHORT)]:
                trial.wait_events(EVENTS_BETWEEN)
                _cut(trial, ground, cut)
        return trial.verdict()


def _cut(trial: ClusterTrial, ground: Namespaces, cut: Cut) -> None:
    pairs = cut.pairs(trial)
    until_s = time.monotonic() + trial.dice.uniform(*CUT_S)
    began_s = trial.note(f"cut: {cut.sentence}")
    for one, other in pairs:
        ground.cut(one, other)
    # Whether everybody was served while it lasted.
    served_s = trial.account.wait_for_answer(began_s, until_s - time.monotonic(), trial.habits.clients)
    time.sleep(max(0.0, until_s - time.monotonic()))
    for one, other in pairs:
        ground.heal(one, other)
    if served_s is None:
        name = f"not all served until it healed: {cut.sentence}"
        trial.figures[name] = trial.figures.get(name, 0) + 1
        trial.recover_all(began_s)
    else:
        trial.recovery_s.append(round(served_s, 3))
    back_in_sync(trial)
