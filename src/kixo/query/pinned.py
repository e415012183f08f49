"""Snapshots whose files stay, however long reading them takes.

Compaction deletes files some minutes after it merged them, and an export may take hours. So each file of the snapshot
gets a second name, a hard link in a folder of this export, under which it lives on. The export holds a lock on its
folder: one without a lock was left behind by a killed process and keeps disk space in use; the next export removes it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kixo.query.engine import Snapshot

PREFIX = "export-"


@contextmanager
def pinned(snapshot: Snapshot, run: Path) -> Iterator[Snapshot]:
    """A snapshot with second names in the folder `run`, which has to be on the file system of the tables.

    Where links cannot be made, it is the snapshot as it was.
    """
    try:
        folder, lock = _make_folder(run)
    except OSError:
        yield snapshot
        return
    try:
        yield lambda table: _linked(snapshot(table), folder / table)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make_folder(run: Path) -> tuple[Path, int]:
    """A folder of this export and the lock on it, with those left behind removed; raises `OSError`."""
    run.mkdir(exist_ok=True)
    # A folder has its lock some moments after its name, so nobody looks for those left behind meanwhile.
    with _locked(run):
        _remove_left_behind(run)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=run))
        return folder, _lock(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = _lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _lock(folder: Path, flags: int = fcntl.LOCK_EX) -> int:
    """Locks a folder until the descriptor that is returned is closed; raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _linked(paths: Sequence[str], folder: Path) -> Sequence[str]:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return [_link(Path(path), folder / str(number)) for number, path in enumerate(paths)]
    except OSError:
        return paths


def _link(path: Path, folder: Path) -> str:
    # The day of a file stands in the name of its folder, which has to stay.
    link = folder.resolve() / path.parent.name / path.name
    link.parent.mkdir(parents=True)
    os.link(path, link)
    return str(link)


def _remove_left_behind(run: Path) -> None:
    for folder in run.glob(f"{PREFIX}*"):
        try:
            lock = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Held by its export, or gone just now.
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
