"""Snapshots whose files stay, however long reading them takes.

Compaction deletes files some minutes after it merged them, and an export may take hours. So each file of the snapshot
gets a second name, a hard link in a folder of this export, under which it lives on. The export holds a lock on its
folder: one without a lock was left behind by a killed process and keeps disk space in use; the next export removes it.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kixo.files import lock_folder, remove_unlocked
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
        for folder in run.glob(f"{PREFIX}*"):
            remove_unlocked(folder)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=run))
        return folder, lock_folder(folder, wait=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = lock_folder(folder, wait=True)
    try:
        yield
    finally:
        os.close(lock)


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
