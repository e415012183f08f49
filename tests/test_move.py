"""`kixo move`: out of the data folder and back, under traffic, without losing or doubling an event."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import duckdb
import httpx
import pytest

from kixo.errors import BadArgument, DataFolderError
from kixo.lake.create import create_tables
from kixo.lake.move_card import check_not_moving, read_move, write_move
from kixo.lake.opening import open_lake
from kixo.lake.read import open_table
from kixo.layout import Layout
from kixo.moved import check_not_moved, mark_moved, unmark_moved
from kixo.registry import open_registry
from kixo.registry.copying import copy_registry
from kixo.server.logs import open_log
from kixo.server.moving import Move, copy, finish, plan
from kixo.settings import Settings
from tests.conftest import Project, event, make_projects, running
from tests.test_server import kixo, query, wait_until


class Traffic:
    """Sends events, each with an id of its own, one request after the other; `acked` are those that were taken."""

    def __init__(self, url: str, project: Project, name: str) -> None:
        self.acked: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(url, project, name))

    def _send(self, url: str, project: Project, name: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            for number in count():
                if self._stop.is_set():
                    return
                ids = [f"{name}-{number}-{place}" for place in range(5)]
                try:
                    answer = client.post("/v1/batch", content=project.body(*(event(event_id=one) for one in ids)))
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.acked += ids

    @contextmanager
    def flowing(self) -> Iterator["Traffic"]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Sends nothing more."""
        self._stop.set()
        self._thread.join()


def settings_of(folder: Path, lake: Path) -> Settings:
    return Settings(data_dir=folder, lake=str(lake))


def ignore(_sentence: str) -> None: ...


def stored(settings: Settings) -> list[str]:
    """The ids of all events in the tables of a lake in a folder."""
    paths = list(open_table(open_lake(settings), "events").paths)
    with duckdb.connect() as connection:
        return [row[0] for row in connection.execute("SELECT event_id FROM read_parquet(?)", [paths]).fetchall()]


def hand_over(move: Move) -> None:
    finish(move, ignore, open_log(move.source, "move"))


def test_a_move_out_and_back_under_traffic_loses_and_doubles_nothing(tmp_path: Path) -> None:
    out = settings_of(tmp_path / "old", tmp_path / "lake")
    (tmp_path / "old").mkdir()
    with running(tmp_path / "old", {"KIXO_COMPACTION_FILES_MIN": "3"}, loader=True, status=-9) as server:
        project = server.project()
        with Traffic(server.url, project, "old").flowing() as traffic:
            wait_until(lambda: len(query(tmp_path / "old", "SELECT 1 AS one FROM events")) > 20)
            for _ in range(2):
                copy(plan(out, back=False), ignore)
            taken = len(traffic.acked)
            wait_until(lambda: len(traffic.acked) > taken)
            with pytest.raises(DataFolderError, match="Another Kixo server uses"):
                hand_over(plan(out, back=False))
            os.kill(server.process.pid, signal.SIGKILL)
    # What was in the log and in no table is not lost either.
    hand_over(plan(out, back=False))
    hand_over(plan(out, back=False))
    assert set(traffic.acked) <= set(stored(out))
    assert len(stored(out)) == len(set(stored(out)))
    done = kixo("serve", "--data-dir", tmp_path / "old", "--port", "0", "--console-port", "0")
    assert (done.returncode, "KIXO_LAKE is not set" in done.stderr) == (4, True)
    # And back, into another folder, where copies of what is there add nothing.
    back = settings_of(tmp_path / "new", tmp_path / "lake")
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "old" / "registry.sqlite", tmp_path / "new")
    copy(plan(back, back=True), ignore)
    for _ in range(2):
        hand_over(plan(back, back=True))
    with pytest.raises(DataFolderError, match="were moved to"):
        check_not_moving(open_lake(out))
    copies = [event(event_id=one) for one in traffic.acked[:500]]
    with running(tmp_path / "new", {}, loader=True) as server:
        body = project.body(*copies, event(event_id="another"))
        assert httpx.post(f"{server.url}/v1/batch", content=body, timeout=30).status_code == 200
        found = "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events"
        wait_until(lambda: query(tmp_path / "new", found) == [dict.fromkeys(("n", "ids"), len(stored(out)) + 1)])
    assert query(tmp_path / "new", "SELECT sum(duplicate) AS n FROM loads") == [{"n": len(copies)}]
    assert kixo("audit", "--data-dir", tmp_path / "new").returncode == 0


def filled(folder: Path) -> Settings:
    """A data folder with a registry and empty tables, and a place next to it."""
    make_projects(folder, 2)
    create_tables(folder / "lake")
    return settings_of(folder, folder.parent / "lake")


def test_tables_that_are_still_arriving_are_kept_from_loaders(tmp_path: Path) -> None:
    out = filled(tmp_path / "old")
    copy(plan(out, back=False), ignore)
    with pytest.raises(DataFolderError, match="still being moved"):
        check_not_moving(open_lake(out))
    hand_over(plan(out, back=False))
    check_not_moving(open_lake(out))
    assert read_move(open_lake(Settings(data_dir=out.data_dir))) == {"state": "moved", "to": str(tmp_path / "lake")}


def test_a_move_that_was_cut_off_between_its_marks_is_finished_by_repeating_it(tmp_path: Path) -> None:
    out = filled(tmp_path / "old")
    copy(plan(out, back=False), ignore)
    hand_over(plan(out, back=False))
    write_move(open_lake(out), {"state": "arriving", "from": str(tmp_path / "old" / "lake")})
    hand_over(plan(out, back=False))
    check_not_moving(open_lake(out))


def test_a_place_with_tables_of_its_own_is_not_moved_to(tmp_path: Path) -> None:
    out = filled(tmp_path / "old")
    create_tables(tmp_path / "lake")
    with pytest.raises(DataFolderError, match=r"There are tables in .* already"):
        copy(plan(out, back=False), ignore)


def test_a_place_that_another_move_has_begun_to_fill_is_not_moved_to(tmp_path: Path) -> None:
    copy(plan(filled(tmp_path / "old"), back=False), ignore)
    other = filled(tmp_path / "other")
    with pytest.raises(DataFolderError, match="Another move"):
        copy(plan(other, back=False), ignore)


def test_without_a_place_there_is_nothing_to_move(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="Set KIXO_LOG"):
        plan(Settings(data_dir=tmp_path), back=False)


def test_a_place_that_moved_is_refused_in_its_old_form_only(tmp_path: Path) -> None:
    mark_moved(Layout(tmp_path), {"registry": "postgresql://u@h/db"})
    with pytest.raises(DataFolderError, match="Set KIXO_REGISTRY=postgresql://u@h/db"):
        check_not_moved(Settings(data_dir=tmp_path))
    check_not_moved(Settings(data_dir=tmp_path, registry="postgresql://u@h/db"))
    unmark_moved(Layout(tmp_path))
    check_not_moved(Settings(data_dir=tmp_path))


def test_a_registry_is_copied_whole_and_workers_hear_of_it(tmp_path: Path) -> None:
    old, new = Settings(data_dir=tmp_path / "old"), Settings(data_dir=tmp_path / "new")
    projects = make_projects(old.data_dir, 2)
    with open_registry(old) as source, open_registry(new, make=True) as target:
        before = target.revision()
        assert copy_registry(source, target) == 2
        source.revoke_key(projects[0].key)
        assert copy_registry(source, target) == 2
        assert target.list_projects() == source.list_projects()
        assert target.list_keys() == source.list_keys()
        assert target.snapshot().keys.keys() == source.snapshot().keys.keys()
        assert target.revision() > max(before, source.revision())


def test_a_registry_with_others_in_it_is_not_overwritten(tmp_path: Path) -> None:
    old, new = Settings(data_dir=tmp_path / "old"), Settings(data_dir=tmp_path / "new")
    make_projects(old.data_dir, 1)
    make_projects(new.data_dir, 1)
    with (
        open_registry(old) as source,
        open_registry(new) as target,
        pytest.raises(DataFolderError, match="never merged"),
    ):
        copy_registry(source, target)
