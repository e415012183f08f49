"""Processes killed, stopped and asked to end at random moments, under load."""

import signal
from collections.abc import Callable

from torture.installation import SUPERVISOR
from torture.trial import Orders, Trial
from torture.verdict import Verdict

KILLS, KILLS_SHORT = 100, 6
EVENTS_BETWEEN = 30
DELAY_S_MAX = 0.4
FREEZE_S_MAX = 1.5

ALL = "all"
# How often each is chosen.
VICTIMS = {"worker": 8, "loader": 8, SUPERVISOR: 3, ALL: 2, "console": 1}


def kill_at_random(orders: Orders) -> Verdict:
    """`kill -9` of each process and of all at once, with SIGSTOP, SIGCONT and SIGTERM in between."""
    with Trial("kill", orders) as trial:
        trial.installation.start()
        kills = orders.count(KILLS, KILLS_SHORT)
        with trial.traffic.flowing():
            while _killed(trial) < kills:
                trial.account.wait_for_events(trial.account.taken + EVENTS_BETWEEN, 30)
                trial.installation.wait_until(lambda: False, trial.dice.uniform(0, DELAY_S_MAX))
                _strike(trial)
        return trial.verdict()


def _killed(trial: Trial) -> int:
    return sum(count for fault, count in trial.faults.items() if fault.startswith("SIGKILL"))


def _strike(trial: Trial) -> None:
    attacks: tuple[Callable[[Trial, str], None], ...] = (_kill, _freeze, _end)
    attack = trial.dice.choices(attacks, (8, 1, 1))[0]
    attack(trial, trial.dice.choices(list(VICTIMS), list(VICTIMS.values()))[0])


def _kill(trial: Trial, victim: str) -> None:
    server = trial.installation
    if victim == ALL:
        began_s = trial.note("SIGKILL all")
        server.kill_all()
    elif (pid := _choose(trial, victim)) is None:
        return
    else:
        began_s = trial.note(f"SIGKILL {victim}")
        server.signal(pid, signal.SIGKILL)
    _serve_again(trial, victim)
    trial.recover(began_s)


def _freeze(trial: Trial, victim: str) -> None:
    pids = trial.installation.processes() if victim == ALL else [_choose(trial, victim)]
    stopped = [pid for pid in pids if pid is not None]
    began_s = trial.note(f"SIGSTOP {victim}")
    for pid in stopped:
        trial.installation.signal(pid, signal.SIGSTOP)
    trial.installation.wait_until(lambda: False, trial.dice.uniform(0.05, FREEZE_S_MAX))
    for pid in stopped:
        trial.installation.signal(pid, signal.SIGCONT)
    trial.recover(began_s)


def _end(trial: Trial, victim: str) -> None:
    pid = _choose(trial, SUPERVISOR if victim == ALL else victim)
    if pid is None:
        return
    began_s = trial.note(f"SIGTERM {SUPERVISOR if victim == ALL else victim}")
    trial.installation.signal(pid, signal.SIGTERM)
    _serve_again(trial, SUPERVISOR if victim == ALL else victim)
    trial.recover(began_s)


def _choose(trial: Trial, role: str) -> int | None:
    """One process of the role; None while it waits to be started again."""
    pids = trial.installation.pids(role)
    return trial.dice.choice(pids) if pids else None


def _serve_again(trial: Trial, victim: str) -> None:
    """What a service manager does when the process that it started has ended."""
    process = trial.installation.process
    if victim in {SUPERVISOR, ALL} and process is not None:
        process.wait()
        trial.installation.start()
