"""A cluster under traffic to which nothing is done: what the oracle says then is what it says of the attacks' own."""

from torture.attempt import Orders
from torture.cluster.trial import ClusterTrial
from torture.verdict import Verdict

EVENTS, EVENTS_SHORT = 10_000, 500
TAKEN_S_MAX = 180.0


def run_quietly(orders: Orders) -> Verdict:
    """Takes some thousand events and hurts nobody."""
    with ClusterTrial("cluster-quiet", orders) as trial:
        with trial.traffic.flowing():
            if not trial.wait_events(EVENTS_SHORT if orders.short else EVENTS, TAKEN_S_MAX):
                trial.broken.append(f"Only {trial.account.taken} events were taken in {TAKEN_S_MAX} seconds.")
        return trial.verdict()
