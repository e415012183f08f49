"""Copies: repeated after lost answers, in other groups, and long after the first ones were stored and merged.

What tells copies from new events is an index that is derived from the table. So its files are lost and damaged too.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from kixo.metrics import COMPACTIONS, EVENTS
from torture.client import Habits
from torture.trial import Orders, Trial
from torture.verdict import Verdict

ROUNDS, ROUNDS_SHORT = 12, 2
EVENTS_BETWEEN = 400
WAIT_S_MAX = 60.0
HABITS = Habits(pause_s=0.05, again_share=0.3, hang_up_share=0.15)


def repeat_everything(orders: Orders) -> Verdict:
    """Everything that was acknowledged is sent again, after merges, restarts, deaths and the loss of the index."""
    with Trial("duplicates", orders, habits=HABITS) as trial:
        trial.installation.start()
        occasions = list(OCCASIONS)
        for number in range(orders.count(ROUNDS, ROUNDS_SHORT)):
            if number % len(occasions) == 0:
                trial.dice.shuffle(occasions)
            with trial.traffic.flowing():
                trial.account.wait_for_events(trial.account.taken + EVENTS_BETWEEN, WAIT_S_MAX)
            occasion = occasions[number % len(occasions)]
            trial.note(occasion.__doc__ or "")
            occasion(trial)
            if not trial.traffic.repeat_kept(WAIT_S_MAX):
                trial.broken.append(f"Clients could not repeat within {WAIT_S_MAX} seconds.")
        return trial.verdict()


def _after_merges(trial: Trial) -> None:
    """after files were merged"""
    server = trial.installation
    _wait_loaded(trial)
    before = server.subject.metric(COMPACTIONS)
    with trial.traffic.flowing():
        if not server.wait_until(lambda: server.subject.metric(COMPACTIONS) > before, WAIT_S_MAX):
            trial.broken.append("No files were merged.")


def _after_restart(trial: Trial) -> None:
    """after a restart"""
    trial.installation.restart()


def _after_death(trial: Trial) -> None:
    """after the death of all processes"""
    trial.installation.kill_all()
    trial.installation.start()


def _after_loss(trial: Trial) -> None:
    """after the index was lost"""
    _change_index(trial, shutil.rmtree)


def _after_loss_of_manifest(trial: Trial) -> None:
    """after the index's manifest was lost"""
    _change_index(trial, lambda index: (index / "manifest.json").unlink())


def _after_loss_of_run(trial: Trial) -> None:
    """after a file of the index was lost"""
    _change_index(trial, lambda index: trial.dice.choice(_runs(index)).unlink())


def _after_cut(trial: Trial) -> None:
    """after a file of the index was cut short"""

    def cut(index: Path) -> None:
        path = trial.dice.choice(_runs(index))
        with path.open("r+b") as file:
            file.truncate(trial.dice.randrange(path.stat().st_size))

    _change_index(trial, cut)


def _after_flip(trial: Trial) -> None:
    """after a bit of the index was flipped"""

    def flip(index: Path) -> None:
        path = trial.dice.choice(_runs(index))
        data = bytearray(path.read_bytes())
        data[trial.dice.randrange(len(data))] ^= 1 << trial.dice.randrange(8)
        path.write_bytes(data)

    _change_index(trial, flip)


def _after_old_index(trial: Trial) -> None:
    """after an index of long ago was put back"""
    copy = trial.orders.tools() / "index"

    def put_back(index: Path) -> None:
        if copy.exists():
            shutil.rmtree(index)
            copy.replace(index)
        else:
            shutil.copytree(index, copy)

    _change_index(trial, put_back)


def _after_loss_while_running(trial: Trial) -> None:
    """after the index was lost while the loader ran"""
    shutil.rmtree(trial.installation.folder / "index")


OCCASIONS: tuple[Callable[[Trial], None], ...] = (
    _after_merges,
    _after_restart,
    _after_death,
    _after_loss,
    _after_loss_of_manifest,
    _after_loss_of_run,
    _after_cut,
    _after_flip,
    _after_old_index,
    _after_old_index,
    _after_loss_while_running,
)


def _change_index(trial: Trial, change: Callable[[Path], object]) -> None:
    """Ends the server in order, which writes the index, changes it, and starts the server again."""
    index = trial.installation.folder / "index"
    if trial.installation.stop() != 0:
        trial.broken.append(f"The server did not end in order. {trial.installation.last_lines()}")
    # One that was lost while the loader ran is not there before the next start.
    if index.exists():
        change(index)
    trial.installation.start()


def _runs(index: Path) -> list[Path]:
    return sorted(index.glob("*.run"))


def _wait_loaded(trial: Trial) -> None:
    """Waits until something was stored."""
    subject = trial.installation.subject
    trial.installation.wait_until(lambda: subject.metric(EVENTS, "stored") > 0, WAIT_S_MAX)
