"""Deleting the files that a table does not need.

A file in a table's folder that is not part of the table was merged into another, or written by a load that did not
come to its commit. Its time of modification says since when it is not needed (`LakeTable.retire`). Queries
that were under way then may still read it, so it stays for a while. Nothing has to be remembered over a restart.
"""

from collections.abc import Iterator

from kixo.lake.commit import TableFile
from kixo.lake.schema import PARTITION_COLUMN
from kixo.lake.store import StoredFile
from kixo.lake.table import LakeTable


def sweep(table: LakeTable, before_s: float) -> int:
    """Deletes files that are not part of the table and were last needed before a time, in seconds since 1970.

    Not to be called between writing a file and its commit. Returns how many files went.
    """
    old = [file.path for file in _unused(table) if file.modified_s < before_s]
    table.store.delete(old)
    return len(old)


def drop_uncommitted(table: LakeTable) -> int:
    """Deletes at once what a load wrote and did not commit: its files name a version that the table has not reached.

    Without that, a load that fails over and over, on a disk that is full, would fill it. Where others write too, what
    looks like that may be theirs, and stays. Returns how many files went.
    """
    if table.store.has_many_writers:
        return 0
    never = [file.path for file in _unused(table) if (TableFile(file.path, "", 0, 0).data_version or 0) > table.version]
    table.store.delete(never)
    return len(never)


def _unused(table: LakeTable) -> Iterator[StoredFile]:
    return (file for file in table.store.list(f"{PARTITION_COLUMN}=") if file.path not in table.files)
