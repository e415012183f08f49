"""Mending what a power loss can leave of a table's log.

Our own commits are never torn (`kixo.lake.commit`). Those of other programs, and checkpoints, are written without an
fsync; and a disk can lie. So on opening, the newest entries are looked at. One that is cut off is moved aside: what it
added may still be in the event log, which is released only after an entry should be durable.
"""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from kixo.files import make_folder, sync_file, sync_folder
from kixo.lake.commit import LOG_FOLDER, is_whole
from kixo.lake.report import Report

LAST_CHECKPOINT = "_last_checkpoint"


def repair(folder: Path, report: Report, *, alone: bool = True) -> None:
    """Moves torn entries and checkpoints of the table in `folder` aside, to `torn` beside it, and reports each.

    Where we are not `alone`, files that look left behind may be those of another writer, and stay.
    """
    log = folder / LOG_FOLDER
    if not log.is_dir():
        return
    while (newest := _newest(log, "*.json")) and not is_whole(newest.read_bytes()):
        _move_aside(newest, report)
    while (newest := _newest(log, "*.checkpoint.parquet")) and not _is_parquet(newest):
        _move_aside(newest, report)
    _repair_last_checkpoint(log, report)
    for leftover in log.glob("_*.tmp") if alone else ():
        leftover.unlink()
    # Whatever is listed now will be built upon: it has to be there after a power loss as well.
    if newest := _newest(log, "*.json"):
        sync_file(newest)
    for path in (log, folder, folder.parent):
        sync_folder(path)


def _repair_last_checkpoint(log: Path, report: Report) -> None:
    hint = log / LAST_CHECKPOINT
    if not hint.exists():
        return
    try:
        version = msgspec.json.decode(hint.read_bytes(), type=dict[str, object])["version"]
    except (msgspec.MsgspecError, KeyError):
        version = None
    # Only a hint where to start reading: without it, readers list the folder.
    if not isinstance(version, int) or not list(log.glob(f"{version:020d}.checkpoint*.parquet")):
        _move_aside(hint, report)


def _newest(log: Path, pattern: str) -> Path | None:
    return max((path for path in log.glob(pattern) if path.name[:20].isdigit()), default=None)


def _is_parquet(path: Path) -> bool:
    try:
        pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return False
    return True


def _move_aside(path: Path, report: Report) -> None:
    table = path.parent.parent
    aside = table.parent / "torn"
    make_folder(aside)
    path.replace(aside / f"{table.name}-{path.name}")
    sync_folder(path.parent)
    report.warning(
        "A torn file of a table's log was moved aside. What it added is loaded again if the event log still has it.",
        table=table.name,
        file=path.name,
        aside=str(aside),
    )
