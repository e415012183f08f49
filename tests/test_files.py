"""What has to survive a power cut is synced, name by name."""

import os
from pathlib import Path

import pytest

from kixo.files import make_folder
from kixo.layout import Layout
from kixo.log.folder import ensure_log
from kixo.server.data_folder import DataFolder


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """The files and folders that were synced."""
    paths: set[Path] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        paths.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return paths


def test_each_new_folder_is_synced_into_the_one_above_it(tmp_path: Path, synced: set[Path]) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert synced == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}


def test_a_folder_that_was_made_by_one_who_was_killed_is_synced_after_all(tmp_path: Path, synced: set[Path]) -> None:
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a")
    assert synced == {tmp_path}


def test_the_folder_above_an_existing_one_need_not_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(folder)

    monkeypatch.setattr("kixo.files.sync_folder", refuse)
    make_folder(tmp_path)
    with pytest.raises(PermissionError):
        make_folder(tmp_path / "new")


def test_a_new_data_folder_and_its_log_cannot_vanish_with_what_is_in_them(tmp_path: Path, synced: set[Path]) -> None:
    layout = Layout(tmp_path / "above" / "data")
    DataFolder(layout).close()
    ensure_log(layout.log)
    assert {tmp_path, tmp_path / "above", layout.root, layout.log} <= synced
