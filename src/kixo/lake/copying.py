"""Copying tables from one store to another as they are: the same files under the same names, and the same log.

A table file never changes, so one of the right size has arrived. A file that is merged away while it is being looked at
is passed over: the table's log, which comes last, does not name it.
"""

from concurrent.futures import ThreadPoolExecutor

from kixo.lake.commit import LOG_FOLDER
from kixo.lake.format import write_format
from kixo.lake.read import open_table
from kixo.lake.schema import TABLES
from kixo.lake.store import LakeStore

QUARANTINE = "quarantine"
# Files in flight; each is held in memory, and has at most about `compaction_bytes`.
COPIES_MAX = 4


def copy_lake(source: LakeStore, target: LakeStore, *, with_log: bool) -> tuple[int, int]:
    """Copies the files that are not there yet, the tables' logs too where `with_log`; how many files and bytes.

    With the logs, what the source has no more goes from the target. Raises `OSError`.
    """
    target.make()
    if with_log:
        write_format(target)
    stores = [(source.inside(table.name), target.inside(table.name)) for table in TABLES]
    sizes = [size for pair in stores for size in _copy_table(*pair, with_log=with_log)]
    sizes += _copy_files(source, target, [file.path for file in source.list(QUARANTINE)])
    return len(sizes), sum(sizes)


def differences(source: LakeStore, target: LakeStore) -> list[str]:
    """A sentence for each table that is not the same in both, or whose files are not all there."""
    found = []
    for table in TABLES:
        mine, theirs = open_table(source, table.name), open_table(target, table.name)
        there = {_name(file.path) for file in target.inside(table.name).list("")}
        missing = {_name(path) for path in mine.paths} - there
        if mine.version != theirs.version or missing or len(mine.paths) != len(theirs.paths):
            found.append(
                f"{table.name} has version {mine.version} and {len(mine.paths)} files there, and version "
                f"{theirs.version} and {len(theirs.paths)} files here, of which {len(missing)} are missing"
            )
    return found


def _copy_table(source: LakeStore, target: LakeStore, *, with_log: bool) -> list[int]:
    target.make()
    there = {file.path: file.size_bytes for file in target.list("")}
    here = {file.path: file.size_bytes for file in source.list("") if _is_kept(file.path)}
    wanted = [path for path, size in here.items() if not _is_log(path) and there.get(path) != size]
    sizes = _copy_files(source, target, wanted)
    if not with_log:
        return sizes
    # The log of a table last: whoever finds it finds all that it names.
    sizes += _copy_files(source, target, sorted(path for path in here if _is_log(path)))
    target.delete(path for path in there if path not in here)
    return sizes


def _copy_files(source: LakeStore, target: LakeStore, paths: list[str]) -> list[int]:
    def copy(path: str) -> int | None:
        try:
            data = source.read(path)
        except FileNotFoundError:
            return None
        folder, _, name = path.rpartition("/")
        (target.inside(folder) if folder else target).replace(name, data)
        return len(data)

    with ThreadPoolExecutor(COPIES_MAX) as pool:
        return [size for size in pool.map(copy, paths) if size is not None]


def _is_log(path: str) -> bool:
    return path.startswith(f"{LOG_FOLDER}/")


def _is_kept(path: str) -> bool:
    """Whether it is a file of the table, and none that is being written under another name first."""
    name = _name(path)
    return name.endswith(".parquet") if not _is_log(path) else name[:1].isdigit() or name == "_last_checkpoint"


def _name(path: str) -> str:
    return path.rpartition("/")[2]
