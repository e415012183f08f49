"""One commit of a Delta table, written so that it is there whole and durable, or not at all.

A Delta table is a folder of Parquet files and a log, `_delta_log/<version, 20 digits>.json`: one JSON action a line.
We use four kinds:

    commitInfo  what was done; `kixoLines` is the number of lines, so that a file cut at the end of a line shows
    add         a file is part of the table: path, partition values, size, statistics
    remove      a file is part of it no longer
    txn         an application's own version: here the log position that the table has reached (`kixo.lake.read`)

All lines of one entry count together, or none: so rows and the position they end at are one. The deltalake library
reads our tables and writes their checkpoints, but its commits are not synced, can be torn by a power loss, and cost
10 ms of CPU each; ours are synced under another name first and then linked into place, which fails where another
writer was faster. That link is the one atomic step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kixo.errors import KixoError
from kixo.lake.durable import create_durably

LOG_FOLDER = "_delta_log"


class CommitConflict(KixoError):
    """Somebody else wrote the version that this commit was to be; look at the table again."""


@dataclass(frozen=True)
class TableFile:
    """A Parquet file of a table.

    `path` is relative to the table's folder, `date` the ISO text of its partition, `stats` Delta's statistics as JSON
    text. `data_version` is the table version whose rows it holds at the latest, or None where its name does not say.
    """

    path: str
    date: str
    size_bytes: int
    rows: int
    stats: str = ""

    @property
    def data_version(self) -> int | None:
        """From the name, `<data version>-<id>.parquet`."""
        digits, dash, _ = Path(self.path).name.partition("-")
        return int(digits) if dash and digits.isdigit() else None


@dataclass(frozen=True)
class Commit:
    """What one commit changes: files `added` and `removed`, and `positions` by application id.

    `changes_data` is false for a merge, which leaves the rows as they are. `time_ms` is in milliseconds since 1970.
    """

    operation: str
    time_ms: int
    added: tuple[TableFile, ...] = ()
    removed: tuple[TableFile, ...] = ()
    positions: tuple[tuple[str, int], ...] = ()
    changes_data: bool = True


def log_entry(folder: Path, version: int) -> Path:
    """The log file of a version of the table in `folder`."""
    return folder / LOG_FOLDER / f"{version:020d}.json"


def write_commit(folder: Path, version: int, commit: Commit) -> None:
    """Makes `commit` version `version` of the table in `folder`, durably; raises `CommitConflict`."""
    try:
        create_durably(log_entry(folder, version), pack(commit))
    except FileExistsError:
        raise CommitConflict(f"Version {version} of {folder} was written by another process.") from None


def pack(commit: Commit) -> bytes:
    """The lines of the log entry, positions last."""
    actions: list[dict[str, Any]] = [{"remove": _remove(file, commit)} for file in commit.removed]
    actions += [{"add": _add(file, commit)} for file in commit.added]
    actions += [{"txn": _position(name, position, commit)} for name, position in commit.positions]
    info = {"timestamp": commit.time_ms, "operation": commit.operation, "operationParameters": {}}
    lines = [{"commitInfo": {**info, "engineInfo": "kixo", "kixoLines": len(actions) + 1}}, *actions]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def is_whole(data: bytes) -> bool:
    """Whether a log entry is all there: every line is JSON, and there are as many as the first one says."""
    lines = data.splitlines()
    try:
        actions = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    except msgspec.MsgspecError:
        return False
    info = actions[0].get("commitInfo", {}) if actions else {}
    return bool(actions) and info.get("kixoLines", len(lines)) == len(lines) and data.endswith((b"}", b"\n"))


def _add(file: TableFile, commit: Commit) -> dict[str, Any]:
    return {
        "path": file.path,
        "partitionValues": {"date": file.date},
        "size": file.size_bytes,
        "modificationTime": commit.time_ms,
        "dataChange": commit.changes_data,
        "stats": file.stats,
    }


def _remove(file: TableFile, commit: Commit) -> dict[str, Any]:
    return {
        "path": file.path,
        "deletionTimestamp": commit.time_ms,
        "dataChange": commit.changes_data,
        "extendedFileMetadata": True,
        "partitionValues": {"date": file.date},
        "size": file.size_bytes,
    }


def _position(application: str, position: int, commit: Commit) -> dict[str, Any]:
    return {"appId": application, "version": position, "lastUpdated": commit.time_ms}
