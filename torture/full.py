"""Disks that fill up for real: the data folder on a small mounted file system, filled by somebody else, and freed.

Both kinds are tried, one with a journal on a block device (ext4 on a loop device), one without (tmpfs). Mounting takes
root; where that is not allowed, the attack is skipped.
"""

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torture.skipped import Skipped
from torture.trial import Orders, Trial
from torture.verdict import Verdict

MIB = 1024 * 1024
SIZE_BYTES = 96 * MIB
FILLINGS, FILLINGS_SHORT = 6, 1
REFUSED_S_MAX = 30.0
HELD_S = 1.5
NO_ROOM = "503 unavailable"


class NotMounted(Skipped):
    """A file system cannot be mounted here."""


def fill_ext4(orders: Orders) -> Verdict:
    """Fills an ext4 file system."""
    return _fill(orders, "full-ext4", "ext4")


def fill_tmpfs(orders: Orders) -> Verdict:
    """Fills a tmpfs."""
    return _fill(orders, "full-tmpfs", "tmpfs")


def _fill(orders: Orders, name: str, kind: str) -> Verdict:
    with mounted(orders.folder / f"{name}-mount", kind) as mount:
        return _fill_and_free(Orders(mount, orders.seed, orders.faults, orders.short), name)


def _fill_and_free(orders: Orders, name: str) -> Verdict:
    with Trial(name, orders) as trial:
        trial.installation.start()
        ballast = orders.folder / "ballast"
        with trial.traffic.flowing():
            for number in range(orders.count(FILLINGS, FILLINGS_SHORT)):
                trial.account.wait_for_answer(time.monotonic(), REFUSED_S_MAX)
                _suffer(trial, ballast, kill=number % 3 == 2)
        return trial.verdict()


def _suffer(trial: Trial, ballast: Path, *, kill: bool) -> None:
    refused = trial.account.outcomes[NO_ROOM]
    trial.note("disk full, all killed" if kill else "disk full")
    take_all(ballast)
    if not trial.installation.wait_until(lambda: _is_refused(trial, ballast, refused), REFUSED_S_MAX):
        trial.broken.append("The disk was full, and no request was refused.")
    trial.installation.wait_until(lambda: take_all(ballast), HELD_S)
    if kill:
        trial.installation.kill_all()
        _start_without_room(trial)
    ballast.unlink()
    began_s = time.monotonic()
    process = trial.installation.process
    if process is not None and process.poll() is not None:
        trial.installation.start()
    trial.recover(began_s)


def _is_refused(trial: Trial, ballast: Path, before: int) -> bool:
    take_all(ballast)
    return trial.account.outcomes[NO_ROOM] > before


def take_all(ballast: Path) -> bool:
    """Takes what is free, also what was freed meanwhile; always False, so that it can be done again and again."""
    size = MIB
    with ballast.open("ab", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 8
    return False


def _start_without_room(trial: Trial) -> None:
    """A start on a full disk may fail, in a sentence, or wait; it may not show a traceback of the supervisor."""
    server = trial.installation
    before = server.log.stat().st_size
    process = server.launch()
    server.wait_until(lambda: process.poll() is not None, HELD_S)
    said = server.log.read_bytes()[before:].decode("utf-8", "replace")
    if process.poll() is not None and "Traceback" in said:
        trial.broken.append(f"A start on a full disk ended with a traceback: {said[-300:]}")
    if process.poll() is None:
        server.signal(process.pid, signal.SIGKILL)
        server.kill_all()


@contextmanager
def mounted(folder: Path, kind: str) -> Iterator[Path]:
    """A small file system of a kind in a new folder while the block runs. Raises `NotMounted`."""
    folder.mkdir(parents=True)
    image = folder.with_suffix(".image")
    if kind == "ext4":
        _run("truncate", "-s", str(SIZE_BYTES), str(image))
        _run("mkfs.ext4", "-q", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
    else:
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "kixo-torture", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        image.unlink(missing_ok=True)


def _run(*command: str) -> None:
    if os.geteuid() or shutil.which(command[0]) is None:
        raise NotMounted(f"This takes root and {command[0]}.")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotMounted(f"{' '.join(command)} said: {done.stderr.strip()}")
