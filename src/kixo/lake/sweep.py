"""Deleting the files that a table does not need.

A file in a table's folder that is not part of the table was merged into another, or written by a load that did not
come to its commit. Its time of modification says since when it is not needed (`kixo.lake.compaction.retire`). Queries
that were under way then may still read it, so it stays for a while. Nothing has to be remembered over a restart.
"""

from collections.abc import Iterator
from pathlib import Path

from kixo.lake.commit import LOG_FOLDER, TableFile
from kixo.lake.table import LakeTable


def sweep(table: LakeTable, before_s: float) -> int:
    """Deletes files that are not part of the table and were last needed before a time, in seconds since 1970.

    Not to be called between writing a file and its commit. Returns how many files went.
    """
    old = [path for path in _unused(table) if path.stat().st_mtime < before_s]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def drop_uncommitted(table: LakeTable) -> int:
    """Deletes at once what a load wrote and did not commit: its files name a version that the table has not reached.

    Without that, a load that fails over and over, on a disk that is full, would fill it. Returns how many files went.
    """
    never = [path for path in _unused(table) if (TableFile(path.name, "", 0, 0).data_version or 0) > table.version]
    for path in never:
        path.unlink(missing_ok=True)
    return len(never)


def _unused(table: LakeTable) -> Iterator[Path]:
    for folder in table.folder.iterdir():
        if folder.name != LOG_FOLDER and folder.is_dir():
            yield from (path for path in folder.iterdir() if f"{folder.name}/{path.name}" not in table.files)
