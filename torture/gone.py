"""Folders that vanish while the server runs: moved away and put back, and deleted for good.

Moved away and put back, nothing is lost. What is deleted is lost, with what was only there: the tables' rows with the
lake, and with the log what was acknowledged and not loaded yet, which is the last second or so. That is not promised.
Promised is: nothing is acknowledged that cannot be kept, an error says what is wrong, and all that is acknowledged
afterwards is stored, once.
"""

import shutil
import time
from pathlib import Path

from torture.installation import Installation
from torture.trial import Orders, Trial
from torture.verdict import Verdict

TAKEN_S_MAX = 30.0
HELD_S = 1.5
EVENTS = 300
LOAD_FAILED, LOG_FAILED = "A load failed and is repeated", "log_commit_failed"


def lose_lake(orders: Orders) -> Verdict:
    """The lake: events are taken as if nothing were wrong, and wait in the log."""
    with Trial("lake-gone", orders) as trial:
        lake = trial.installation.folder / "lake"
        trial.installation.start()
        with trial.traffic.flowing():
            _take_some(trial)
            trial.note("moved away and back")
            lake.rename(_beside(lake))
            _expect_taken(trial)
            _expect_said(trial, LOAD_FAILED)
            _beside(lake).rename(lake)
            _take_some(trial)
        trial.note("deleted")
        _delete(lake, trial.installation)
        _forget(trial)
        with trial.traffic.flowing():
            _expect_taken(trial)
            _take_some(trial)
        # New, empty tables are made by a start, never by a running loader: the folder could come back.
        trial.installation.restart()
        return trial.verdict()


def lose_log(orders: Orders) -> Verdict:
    """The log: nothing is taken until it is back, or until a start has made a new one."""
    with Trial("log-gone", orders) as trial:
        log = trial.installation.folder / "log"
        trial.installation.start()
        with trial.traffic.flowing():
            _take_some(trial)
            trial.note("moved away and back")
            log.rename(_beside(log))
            _expect_refused(trial)
            _expect_said(trial, LOG_FAILED)
            _beside(log).rename(log)
            trial.recover(time.monotonic())
            _take_some(trial)
        trial.note("deleted")
        _delete(log, trial.installation)
        _forget(trial)
        with trial.traffic.flowing():
            _expect_refused(trial)
            trial.installation.restart()
            trial.recover(time.monotonic())
            _take_some(trial)
        return trial.verdict()


def _beside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-away")


def _take_some(trial: Trial) -> None:
    if not trial.account.wait_for_events(trial.account.taken + EVENTS, TAKEN_S_MAX):
        trial.broken.append(f"Fewer than {EVENTS} events were taken in {TAKEN_S_MAX} seconds.")


def _expect_taken(trial: Trial) -> None:
    if trial.account.wait_for_answer(time.monotonic(), TAKEN_S_MAX) is None:
        trial.broken.append("Without its lake the server took no events.")


def _expect_refused(trial: Trial) -> None:
    if trial.account.wait_for_answer(time.monotonic(), HELD_S) is not None:
        trial.broken.append("Events were acknowledged without a log.")


def _expect_said(trial: Trial, words: str) -> None:
    server = trial.installation
    if not server.wait_until(lambda: words in server.log.read_text("utf-8", "replace"), TAKEN_S_MAX):
        trial.broken.append(f"The server did not say {words!r}.")


def _delete(folder: Path, server: Installation) -> None:
    """Deletes a folder in which somebody may just be making files."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    server.wait_until(is_gone, TAKEN_S_MAX)


def _forget(trial: Trial) -> None:
    """From here on only what is acknowledged later, or once more, has to be in the tables."""
    trial.figures["acknowledged before it was deleted"] = len(trial.account.accepted)
    trial.account.accepted.clear()
    trial.account.rejected.clear()
