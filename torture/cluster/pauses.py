"""Parts that stand still for up to 30 seconds and go on as if nothing had happened.

A loader that is stopped for longer than its group waits loses its partitions and does not know: when it goes on, in the
middle of whatever it did, the tables have to refuse it. Whether that ever happened is counted.
"""

import signal
import time

from torture.attempt import Orders
from torture.cluster.kills import LEADER, LOADER, WORKER, choose_parts
from torture.cluster.trial import ClusterTrial, back_in_sync
from torture.verdict import Verdict

PAUSES, PAUSES_SHORT = 14, 2
EVENTS_BETWEEN = 100
STILL_S_MAX = 30.0
# Longer than a group waits for a loader that is not heard of.
FENCED_S_MIN = 12.0
VICTIMS = {"load": 4, LOADER: 3, "kafka": 2, LEADER: 2, "ingest": 2, WORKER: 1, "s3": 1, "postgresql": 1, "redis": 1}
PROCESSES = {LOADER: ("load", "kixo.server.loader"), WORKER: ("ingest", "kixo.server.worker")}
FENCED = "kixo_loads_fenced_total"


def pause_parts(orders: Orders) -> Verdict:
    """Stops one part after the other for a while; a loader is always the first."""
    with ClusterTrial("cluster-pause", orders) as trial:
        count = orders.count(PAUSES, PAUSES_SHORT)
        victims = ["load", *trial.dice.choices(list(VICTIMS), list(VICTIMS.values()), k=count - 1)]
        with trial.traffic.flowing():
            for victim in victims:
                trial.wait_events(EVENTS_BETWEEN)
                _pause(trial, victim)
        trial.figures["loads fenced"] = sum(trial.cluster.metric(name, FENCED) for name in trial.cluster.of("load"))
        return trial.verdict()


def _pause(trial: ClusterTrial, victim: str) -> None:
    kind, word = PROCESSES.get(victim, (victim, ""))
    loads = kind == "load"
    still_s = trial.dice.uniform(FENCED_S_MIN if loads else 1.0, STILL_S_MAX)
    parts = [trial.cluster.parts[name] for name in choose_parts(trial, kind)]
    began_s = trial.note(f"SIGSTOP {victim}")
    for part in parts:
        part.signal(signal.SIGSTOP, word)
    time.sleep(still_s)
    for part in parts:
        part.signal(signal.SIGCONT, word)
    trial.recover_all(began_s)
    back_in_sync(trial)
