"""Snapshots whose files stay, however long reading them takes.

Compaction deletes files some minutes after it merged them, and an export may take hours. So each file of the snapshot
gets a second name, a hard link in a folder of this process, under which it lives on. A folder that a killed process
left behind keeps disk space in use; the next export removes it.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kixo.query.engine import Snapshot

PREFIX = "export-"


@contextmanager
def pinned(snapshot: Snapshot, run: Path) -> Iterator[Snapshot]:
    """A snapshot with second names in the folder `run`, which has to be on the file system of the tables.

    Where links cannot be made, it is the snapshot as it was.
    """
    _remove_left_behind(run)
    folder = run / f"{PREFIX}{os.getpid()}"
    try:
        yield lambda table: _linked(snapshot(table), folder / table)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        if not _is_alive(folder.name.removeprefix(PREFIX)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: str) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, ValueError):
            return False
    return True
