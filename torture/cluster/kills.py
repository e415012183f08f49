"""`kill -9` of the parts of a cluster at random moments, one by one and all at once, each started again after a moment.

A killed node loses all its processes, as a machine does; of a loader or worker sometimes only the one process, which
its supervisor then starts again.
"""

import signal

from torture.attempt import Orders
from torture.cluster.trial import ClusterTrial, back_in_sync, serve_again
from torture.verdict import Verdict

KILLS, KILLS_SHORT = 25, 3
EVENTS_BETWEEN = 100
AWAY_S = (0.2, 4.0)
LEADER, ALL, LOADER, WORKER = "leader of a partition", "all", "loader process", "worker process"
# How often each is chosen.
VICTIMS = {"kafka": 3, LEADER: 3, "ingest": 3, "load": 4, LOADER: 3, WORKER: 2, ALL: 2, "s3": 1, "postgresql": 1}
VICTIMS |= {"redis": 1, "console": 1}
PROCESSES = {LOADER: ("load", "kixo.server.loader"), WORKER: ("ingest", "kixo.server.worker")}
# Short runs have one of each of these, in this order.
SHORT = (LEADER, "load", "ingest")


def kill_parts(orders: Orders) -> Verdict:
    """Kills parts by the dice until there were enough kills."""
    with ClusterTrial("cluster-kill", orders) as trial:
        count = orders.count(KILLS, KILLS_SHORT)
        victims = list(SHORT) if orders.short else _victims(trial, count)
        with trial.traffic.flowing():
            for victim in victims[:count]:
                trial.wait_events(EVENTS_BETWEEN)
                trial.rest(0, 1)
                _kill(trial, victim)
        return trial.verdict()


def _victims(trial: ClusterTrial, count: int) -> list[str]:
    return trial.dice.choices(list(VICTIMS), list(VICTIMS.values()), k=count)


def _kill(trial: ClusterTrial, victim: str) -> None:
    if victim in PROCESSES:
        _kill_process(trial, victim)
        return
    names = choose_parts(trial, victim)
    began_s = trial.note(f"SIGKILL {victim}")
    if victim == ALL:
        trial.cluster.kill_all()
    for name in names:
        trial.cluster.parts[name].kill()
    trial.rest(*AWAY_S)
    serve_again(trial, names)
    trial.recover_all(began_s)
    # Half of the time the next fault comes while replicas still catch up.
    if trial.dice.random() < 0.5:
        back_in_sync(trial)


def _kill_process(trial: ClusterTrial, victim: str) -> None:
    kind, word = PROCESSES[victim]
    name = trial.dice.choice(trial.cluster.of(kind))
    began_s = trial.note(f"SIGKILL {victim}")
    trial.cluster.parts[name].signal(signal.SIGKILL, word)
    trial.recover_all(began_s)


def choose_parts(trial: ClusterTrial, victim: str) -> list[str]:
    """The parts that a victim means: one of a kind, the leader of some partition, or all."""
    if victim == ALL:
        return list(trial.cluster.parts)
    if victim == LEADER:
        credential = trial.dice.choice(trial.cluster.credentials)
        return [trial.cluster.leader(credential.project_id) or trial.dice.choice(trial.cluster.of("kafka"))]
    return [trial.dice.choice(trial.cluster.of(victim))]
