"""Deleting the files that a table does not need.

A file in a table's folder that is not part of the table was merged into another, or written by a load that did not
come to its commit. Its time of modification says since when it is not needed (`LakeTable.retire`). Queries
that were under way then may still read it, so it stays for a while. Nothing has to be remembered over a restart.

Where there are many writers, such a file may be one that another is about to commit, and on object storage it bears no
mark. So it has to be seen unused for an hour by one process; after a restart, the hour begins again. A writer that was
stopped for that long looks at the table again before it commits, see `kixo.lake.table`.
"""

from collections.abc import Iterator, Mapping

from kixo.lake.commit import TableFile
from kixo.lake.schema import PARTITION_COLUMN
from kixo.lake.store import StoredFile
from kixo.lake.table import LakeTable

# Seconds.
UNUSED_S_MIN = 3600.0


def sweep(table: LakeTable, before_s: float) -> int:
    """Deletes files that are not part of the table and were last needed before a time, in seconds since 1970.

    Not to be called between writing a file and its commit. Returns how many files went.
    """
    old = [file.path for file in _unused(table) if file.modified_s < before_s]
    table.store.delete(old)
    return len(old)


def sweep_among_others(
    table: LakeTable, unused_since_s: Mapping[str, float], now_s: float, grace_s: float
) -> dict[str, float]:
    """Deletes files that were seen unused for longer than `grace_s` and an hour, by a timer that only rises.

    Returns since when each of the others has been unused: that is `unused_since_s` for the next call.
    """
    # The other way round, a file committed between the two would seem to be unused.
    found = list(table.store.list())
    table.refresh()
    since_s = {
        file.path: unused_since_s.get(file.path, now_s)
        for file in found
        if _is_data(file.path) and file.path not in table.files
    }
    old = [path for path, seen_s in since_s.items() if now_s - seen_s > max(grace_s, UNUSED_S_MIN)]
    table.store.delete(old)
    return {path: seen_s for path, seen_s in since_s.items() if path not in old}


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
    return (file for file in table.store.list() if _is_data(file.path) and file.path not in table.files)


def _is_data(path: str) -> bool:
    return path.startswith(f"{PARTITION_COLUMN}=")
