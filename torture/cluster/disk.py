"""Brokers' disks that fill up for real, each a small ext4 of its own, and have space again.

A broker whose only disk fails ends by itself. With one of three gone events go on being taken; with two gone
nothing can be acknowledged until one is back. Mounting takes root.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from services.program import runs
from torture.attempt import Orders
from torture.cluster.cluster import BROKERS
from torture.cluster.part import wait_until
from torture.cluster.trial import ClusterTrial, back_in_sync, serve_again
from torture.full import mounted, take_all
from torture.verdict import Verdict

FILLINGS, FILLINGS_SHORT = 6, 1
EVENTS_BETWEEN = 200
FAILED_S_MAX = 60.0
HELD_S = (2.0, 8.0)


def fill_disks(orders: Orders) -> Verdict:
    """Fills the disk of one broker, then of two, and so on."""
    with ExitStack() as mounts:
        trial = ClusterTrial("cluster-disk", orders, mount=partial(_mount, mounts))
        with trial:
            with trial.traffic.flowing():
                for number in range(orders.count(FILLINGS, FILLINGS_SHORT)):
                    trial.wait_events(EVENTS_BETWEEN)
                    _fill(trial, trial.dice.sample(BROKERS, 1 + number % 2))
            return trial.verdict()


def _mount(mounts: ExitStack, _name: str, folder: Path) -> None:
    mounts.enter_context(mounted(folder, "ext4"))


def _fill(trial: ClusterTrial, names: list[str]) -> None:
    trial.note(f"disk of {len(names)} of {len(BROKERS)} brokers full")
    ballasts = [trial.cluster.parts[name].program.folder / "ballast" for name in names]
    if not wait_until(lambda: _all_failed(trial, names, ballasts), FAILED_S_MAX):
        # It wrote nothing that needed room; what it has not noticed it need not survive.
        trial.figures["full disks unnoticed"] = trial.figures.get("full disks unnoticed", 0) + 1
    if trial.dice.random() < 0.5:
        _start_without_room(trial, names)
    trial.rest(*HELD_S)
    for ballast in ballasts:
        ballast.unlink()
    began_s = trial.note("space again")
    serve_again(trial, [name for name in names if not runs(trial.cluster.parts[name].program)])
    trial.recover_all(began_s)
    back_in_sync(trial)


def _all_failed(trial: ClusterTrial, names: list[str], ballasts: list[Path]) -> bool:
    for ballast in ballasts:
        take_all(ballast)
    return not any(runs(trial.cluster.parts[name].program) for name in names)


def _start_without_room(trial: ClusterTrial, names: list[str]) -> None:
    """What a service manager does: starts it again, which ends again, or not."""
    for name in names:
        part = trial.cluster.parts[name]
        if not runs(part.program):
            trial.note("started on a full disk")
            part.launch()
