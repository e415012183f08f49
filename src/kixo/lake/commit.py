"""One commit of a Delta table, written so that it is there whole and durable, or not at all.

A Delta table is a folder of Parquet files and a log, `_delta_log/<version, 20 digits>.json`: one JSON action a line.
We use four kinds:

    commitInfo  what was done; `kixoLines` is the number of lines, so that a file cut at the end of a line shows
    add         a file is part of the table: path, partition values, size, statistics
    remove      a file is part of it no longer
    txn         an application's own version: here the log position that the table has reached (`kixo.lake.read`)

All lines of one entry count together, or none: so rows and the position they end at are one. The deltalake library
reads our tables and writes their checkpoints, but its commits are not synced, can be torn by a power loss, and cost
10 ms of CPU each; ours are put in place by `LakeStore.create`, which fails where another writer was faster. That is
the one atomic step.

Where a lake has many writers, `commitInfo` has a further member `kixoCommit`, by which a writer that got no answer
knows its own commit again.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from kixo.errors import KixoError
from kixo.lake.store import LakeStore

LOG_FOLDER = "_delta_log"


class CommitConflict(KixoError):
    """Somebody else wrote the version that this commit was to be; look at the table again."""


class Fenced(KixoError):
    """Somebody else has committed positions of a partition meanwhile: whoever reads it now, it is not us."""


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
        digits, dash, _ = PurePosixPath(self.path).name.partition("-")
        return int(digits) if dash and digits.isdigit() else None


@dataclass(frozen=True)
class Commit:
    """What one commit changes: files `added` and `removed`, and `positions` by application id.

    `changes_data` is false for a merge, which leaves the rows as they are. `time_ms` is in milliseconds since 1970.
    `id` tells it from all other commits, where there are many writers.
    """

    operation: str
    time_ms: int
    added: tuple[TableFile, ...] = ()
    removed: tuple[TableFile, ...] = ()
    positions: tuple[tuple[str, int], ...] = ()
    changes_data: bool = True
    id: str = ""


class Changes(NamedTuple):
    """What an entry of a table's log changes, read back: paths `removed`, positions by application id, and the rest.

    `reshaped` says that it is about more than files and positions: the table's columns or its protocol.
    """

    id: str
    added: list[TableFile]
    removed: list[str]
    positions: dict[str, int]
    reshaped: bool


def log_entry(version: int) -> str:
    """The log file of a version, in the table's store."""
    return f"{LOG_FOLDER}/{version:020d}.json"


def write_commit(store: LakeStore, version: int, commit: Commit) -> None:
    """Makes `commit` version `version` of the table in `store`, durably; raises `CommitConflict`."""
    try:
        store.create(log_entry(version), pack(commit))
    except FileExistsError:
        raise CommitConflict(f"Version {version} of {store.url} was written by another process.") from None


def pack(commit: Commit) -> bytes:
    """The lines of the log entry, positions last."""
    actions: list[dict[str, Any]] = [{"remove": _remove(file, commit)} for file in commit.removed]
    actions += [{"add": _add(file, commit)} for file in commit.added]
    actions += [{"txn": _position(name, position, commit)} for name, position in commit.positions]
    info = {"timestamp": commit.time_ms, "operation": commit.operation, "operationParameters": {}}
    mark = {"kixoCommit": commit.id} if commit.id else {}
    lines = [{"commitInfo": {**info, "engineInfo": "kixo", "kixoLines": len(actions) + 1, **mark}}, *actions]
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def unpack(data: bytes) -> Changes:
    """Reads an entry of anybody's; raises `ValueError` where it is no entry."""
    changes = Changes("", [], [], {}, False)
    for line in data.splitlines():
        for kind, action in msgspec.json.decode(line, type=dict[str, dict[str, Any]]).items():
            changes = _with(changes, kind, action)
    return changes


def _with(changes: Changes, kind: str, action: dict[str, Any]) -> Changes:
    if kind == "add":
        changes.added.append(_file(action))
    elif kind == "remove":
        changes.removed.append(unquote(action["path"]))
    elif kind == "txn":
        changes.positions[action["appId"]] = action["version"]
    elif kind == "commitInfo":
        return changes._replace(id=action.get("kixoCommit", ""))
    return changes._replace(reshaped=changes.reshaped or kind in {"metaData", "protocol"})


def _file(action: dict[str, Any]) -> TableFile:
    rows = msgspec.json.decode(action.get("stats") or "{}").get("numRecords", 0)
    return TableFile(unquote(action["path"]), action["partitionValues"].get("date") or "", action["size"], rows)


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
