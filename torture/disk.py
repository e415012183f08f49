"""What a file system may hold after a power cut: a model of it that is fed with a record of changes.

The model promises no more than POSIX does, and journals of real file systems promise more:

- What was written to a file is there after a power cut if the file was synced since. Of later writes anything may be
  there: each wholly, not at all, or in any of its sectors; a new length may be there without its data. What is missing
  reads as what was there before, or as zeros where there was nothing.
- A name (made, linked, renamed, removed) is there after a power cut if its folder was synced since. Of later changes of
  names any may be there and any missing, in whatever order they were made. Only a rename is one change: never is a
  file without its old name before it has the new one.
- Syncing a file says nothing of its name, and syncing a folder nothing of the content of its files.

`Disk.crash` picks one such state with dice; a few `Loss`es are kept apart, since each is how some system behaves.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple

from torture import record
from torture.record import Entry

SECTOR_BYTES = 512

State = dict[str, bytes | None]
"""What is there, by path: the content of a file, None for a folder."""


class Loss(StrEnum):
    """What becomes of all that was not synced."""

    ALL = "all of it is lost"
    NOTHING = "all of it is there"
    DATA = "names are there, data is not"
    ZEROS = "names and lengths are there, data reads as zeros"
    NAMES = "data is there, names are not"
    LATEST = "what is newer than some moment is lost"
    ANY = "any part of it is lost"


class Change(NamedTuple):
    """A change of a file's content: `data` written at `place`, or cut (or grown) to `place` bytes where it is None."""

    place: int
    data: bytes | None
    order: int


@dataclass
class File:
    """A file's content as it is on the disk for certain, and what was done to it since, oldest first."""

    synced: bytes = b""
    since: list[Change] = field(default_factory=list)


@dataclass
class Folder:
    """A folder; what is in it is said by the names."""


Node = File | Folder


class Naming(NamedTuple):
    """A change of names: `removed` goes, and `made` comes to stand for `node`; either may be empty."""

    made: str
    removed: str
    node: Node | None
    order: int


class Disk:
    """The folder `root` with its content at the start, all of it durable, and then whatever `apply` is given."""

    def __init__(self, root: Path) -> None:
        self._root = str(root.resolve())
        self._names: dict[str, Node] = {}
        self._pending: list[Naming] = []
        self._now: dict[str, Node] = {self._root: Folder()}
        self._files: dict[int, File] = {}
        self._order = 0
        for path in sorted(root.resolve().rglob("*")):
            self._adopt(path)
        self._names = dict(self._now)

    def apply(self, entry: Entry) -> None:
        """Takes in the next change; kinds that change nothing on the disk are passed over."""
        self._order += 1
        if entry.kind in {record.WROTE, record.TRUNCATED}:
            data = entry.data if entry.kind == record.WROTE else None
            self._file(entry.inode).since.append(Change(entry.place, data, self._order))
        elif entry.kind == record.SYNCED:
            self._sync(entry)
        elif entry.kind != record.SENT:
            self._rename(entry)

    def crash(self, loss: Loss, dice: Random) -> State:
        """One of the states that a power cut now could leave, by path below the root."""
        moment = dice.randint(0, self._order)
        names = dict(self._names)
        for naming in self._pending:
            if _keeps_name(loss, naming, moment, dice):
                _follow(names, naming)
        return {
            str(PurePosixPath(path).relative_to(self._root)): _content(node, loss, moment, dice)
            for path, node in _reachable(names, self._root)
        }

    def _adopt(self, path: Path) -> None:
        if path.is_dir():
            self._now[str(path)] = Folder()
        else:
            self._now[str(path)] = self._files[path.stat().st_ino] = File(path.read_bytes())

    def _file(self, inode: int) -> File:
        return self._files.setdefault(inode, File())

    def _sync(self, entry: Entry) -> None:
        if isinstance(self._now.get(entry.path), Folder):
            done = [naming for naming in self._pending if entry.path in _folders(naming)]
            for naming in done:
                _follow(self._names, naming)
            self._pending = [naming for naming in self._pending if naming not in done]
        else:
            file = self._file(entry.inode)
            file.synced, file.since = _written(file.synced, file.since), []

    def _rename(self, entry: Entry) -> None:
        naming = self._naming(entry)
        _follow(self._now, naming)
        self._pending.append(naming)

    def _naming(self, entry: Entry) -> Naming:
        if entry.kind == record.CREATED:
            # A number that was another file's before.
            self._files[entry.inode] = File()
            return Naming(entry.path, "", self._files[entry.inode], self._order)
        if entry.kind == record.MADE_FOLDER:
            return Naming(entry.path, "", Folder(), self._order)
        if entry.kind == record.LINKED:
            return Naming(entry.other, "", self._now[entry.path], self._order)
        if entry.kind == record.RENAMED:
            return Naming(entry.other, entry.path, self._now[entry.path], self._order)
        return Naming("", entry.path, None, self._order)


def write_state(state: State, folder: Path) -> None:
    """Makes a folder with what the state says."""
    for name, content in sorted(state.items()):
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.write_bytes(content)


def _follow(names: dict[str, Node], naming: Naming) -> None:
    if naming.removed:
        names.pop(naming.removed, None)
    if naming.made and naming.node is not None:
        names[naming.made] = naming.node


def _folders(naming: Naming) -> set[str]:
    return {str(PurePosixPath(path).parent) for path in (naming.made, naming.removed) if path}


def _reachable(names: dict[str, Node], root: str) -> Iterator[tuple[str, Node]]:
    """Names whose folders are all there; what was in a folder that is lost cannot be found."""
    found = {root}
    for path in sorted(names):
        if path == root or str(PurePosixPath(path).parent) in found:
            node = names[path]
            if isinstance(node, Folder):
                found.add(path)
            yield path, node


def _keeps_name(loss: Loss, naming: Naming, moment: int, dice: Random) -> bool:
    if loss is Loss.LATEST:
        return naming.order <= moment
    if loss is Loss.ANY:
        return dice.random() < 0.5
    return loss in {Loss.NOTHING, Loss.DATA, Loss.ZEROS}


def _content(node: Node, loss: Loss, moment: int, dice: Random) -> bytes | None:
    if isinstance(node, Folder):
        return None
    ways: dict[Loss, Callable[[], bytes]] = {
        Loss.ALL: lambda: node.synced,
        Loss.DATA: lambda: node.synced,
        Loss.NOTHING: lambda: _written(node.synced, node.since),
        Loss.NAMES: lambda: _written(node.synced, node.since),
        Loss.ZEROS: lambda: _written(node.synced, map(_blank, node.since)),
        Loss.LATEST: lambda: _written(node.synced, _until(node.since, moment, dice)),
        Loss.ANY: lambda: _written(node.synced, _some(node.since, dice)),
    }
    return ways[loss]()


def _written(content: bytes, changes: Iterable[Change]) -> bytes:
    result = bytearray(content)
    for place, data, _ in changes:
        end = place if data is None else place + len(data)
        if len(result) < end:
            result += bytes(end - len(result))
        if data is None:
            del result[place:]
        else:
            result[place:end] = data
    return bytes(result)


def _blank(change: Change) -> Change:
    """The length that the change leaves the file, without its data; what was there before stays."""
    return change if change.data is None else Change(change.place + len(change.data), b"", change.order)


def _until(changes: list[Change], moment: int, dice: Random) -> Iterator[Change]:
    """Those up to a moment; of the first one after it, a beginning that ends anywhere."""
    for change in changes:
        if change.order <= moment:
            yield change
        else:
            if change.data is not None:
                yield change._replace(data=change.data[: dice.randint(0, len(change.data))])
            return


def _some(changes: list[Change], dice: Random) -> Iterator[Change]:
    """Any of the changes: whole, not at all, only in length, or in some sectors."""
    for change in changes:
        fate = dice.choice(("whole", "whole", "lost", "length", "sectors"))
        if fate == "whole" or (change.data is None and fate != "lost"):
            yield change
        elif fate == "length":
            yield _blank(change)
        elif fate == "sectors":
            yield from _sectors(change, dice)


def _sectors(change: Change, dice: Random) -> Iterator[Change]:
    assert change.data is not None
    start = 0
    while start < len(change.data):
        # Sectors lie in the file, not in what was written.
        end = start + SECTOR_BYTES - (change.place + start) % SECTOR_BYTES
        if dice.random() < 0.5:
            yield Change(change.place + start, change.data[start:end], change.order)
        start = end
