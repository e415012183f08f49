"""The model of a disk: what was synced is there after every power cut, and of all else any part may be."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from torture.disk import Disk, Loss, State, write_state
from torture.record import CREATED, RENAMED, SYNCED, UNLINKED, WROTE, Entry, read_record
from torture.shim import preload, recording

STATES = 200

CODE = """
import os, sys
from pathlib import Path
root = Path(sys.argv[1])
(root / "made").mkdir()
with (root / "made" / "a").open("wb") as file:
    file.write(b"12345678")
    file.flush()
    os.fsync(file.fileno())
    file.seek(4)
    file.write(b"xy")
    file.truncate(7)
os.rename(root / "made" / "a", root / "made" / "b")
os.link(root / "made" / "b", root / "c")
os.unlink(root / "made" / "b")
os.pwrite(os.open(root / "old", os.O_WRONLY), b"new", 2)
"""


def entry(kind: str, inode: int, path: Path, place: int = 0, data: bytes = b"", other: str = "") -> Entry:
    return Entry(kind, inode, place, str(path), other, data, 0)


def states(disk: Disk) -> list[State]:
    dice = Random(1)
    return [disk.crash(dice.choice(list(Loss)), dice) for _ in range(STATES)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def test_a_record_replayed_whole_gives_the_folder_that_was_left(library: Path, root: Path, tmp_path: Path) -> None:
    (root / "old").write_bytes(b"12345")
    disk = Disk(root)
    environment = {**os.environ, **preload(library), **recording(tmp_path, root)}
    subprocess.run([sys.executable, "-c", CODE, str(root)], env=environment, check=True)
    for change in read_record(tmp_path):
        disk.apply(change)
    write_state(disk.crash(Loss.NOTHING, Random(1)), tmp_path / "replayed")
    found = {path.name: path.read_bytes() for path in (tmp_path / "replayed").rglob("*") if path.is_file()}
    assert (
        found == {"old": b"12new", "c": b"1234xy7"} == {p.name: p.read_bytes() for p in root.glob("?*") if p.is_file()}
    )


def test_content_is_certain_after_a_sync_of_the_file_and_its_name_after_one_of_the_folder(root: Path) -> None:
    disk = Disk(root)
    for change in (
        entry(CREATED, 5, root / "a"),
        entry(WROTE, 5, root / "a", 0, b"synced"),
        entry(SYNCED, 5, root / "a"),
    ):
        disk.apply(change)
    assert {state.get("a") for state in states(disk)} == {None, b"synced"}
    disk.apply(entry(SYNCED, 1, root))
    assert {state.get("a") for state in states(disk)} == {b"synced"}


def test_of_what_was_written_since_any_part_may_be_there(root: Path) -> None:
    (root / "a").write_bytes(b"old")
    disk = Disk(root)
    disk.apply(entry(WROTE, (root / "a").stat().st_ino, root / "a", 3, b"new" * 400))
    found = {state["a"] for state in states(disk)}
    assert {b"old", b"old" + b"new" * 400, b"old" + bytes(1200)} < found
    assert len(found) > 5
    assert all(content is not None and content.startswith(b"old") for content in found)


def test_a_rename_is_one_change_and_changes_of_names_may_be_lost_in_any_order(root: Path) -> None:
    (root / "a").write_bytes(b"first")
    (root / "b").write_bytes(b"second")
    disk = Disk(root)
    disk.apply(entry(RENAMED, 0, root / "a", other=str(root / "c")))
    disk.apply(entry(UNLINKED, 0, root / "b"))
    names = {tuple(sorted(path for path in state if path != ".")) for state in states(disk)}
    assert names == {("a", "b"), ("a",), ("b", "c"), ("c",)}
