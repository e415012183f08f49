"""Tables on S3 whose requests and answers get lost or come late: each row stays, and stays once."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from kixo.errors import KixoError
from kixo.lake.copying import copy_lake
from kixo.lake.local import LocalLake
from kixo.lake.opening import open_lake
from kixo.lake.store import LakeStore
from kixo.loader.loader import FAILURES, Loader
from kixo.settings import Settings
from tests.contract.lake_contract import load, opened, stored
from tests.faulty_s3 import FAULTS, Fate, FaultyS3, at_random
from tests.grouping import Group, project_in
from tests.loading import as_sent, event, judged, reconcile
from tests.services import S3

WRITERS, COMMITS = 3, 12
MIB = 1024 * 1024


@pytest.fixture
def way(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Callable[[Fate], FaultyS3]:
    """Makes a way to the server on which requests have a fate."""
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    return lambda fate: FaultyS3(s3.program.host, s3.program.port, fate)


@contextmanager
def lakes(s3: S3, way: FaultyS3) -> Iterator[tuple[LakeStore, LakeStore]]:
    """A new lake, by the way that has faults and by the straight one."""
    url = s3.url()
    with way:
        yield open_lake(Settings(lake=url, s3_endpoint=way.endpoint)), open_lake(Settings(lake=url))


def fill(lake: LakeStore, writer: int) -> int:
    """Commits rows of a partition one by one; after a fault it goes on from the table. How many faults it saw."""
    faults, table = 0, None
    while True:
        try:
            table = table or opened(lake)
            position = max(table.position(writer), writer * 1000)
            if position == writer * 1000 + COMMITS:
                return faults
            load(table, writer, table.position(writer), position + 1)
        except (OSError, KixoError, DeltaError):
            faults, table = faults + 1, None


@pytest.mark.parametrize("seed", range(3))
def test_writers_whose_requests_and_answers_get_lost_commit_each_row_once(
    s3: S3, way: Callable[[Fate], FaultyS3], seed: int
) -> None:
    faulty = way(at_random(seed, 0.25, "PUT"))
    with lakes(s3, faulty) as (lake, straight), ThreadPoolExecutor(WRITERS) as pool:
        opened(straight)
        list(pool.map(lambda writer: fill(lake, writer), range(WRITERS)))
        expected = sorted(writer * 1000 + number for writer in range(WRITERS) for number in range(1, COMMITS + 1))
        assert stored(straight) == expected
    assert faulty.faults.keys() == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_commit_that_meets_a_fault_once_counts_once(s3: S3, way: Callable[[Fate], FaultyS3], fault: str) -> None:
    waiting = [fault]

    def fate(method: str, path: str) -> str:
        return waiting.pop() if waiting and method == "PUT" and "_delta_log" in path else ""

    faulty = way(fate)
    with lakes(s3, faulty) as (lake, straight):
        opened(straight)
        fill(lake, 1)
        assert stored(straight) == [*range(1001, 1001 + COMMITS)]
    assert faulty.faults == {fault: 1}


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_large_file_goes_in_parts_and_arrives_whole_or_not_at_all(
    s3: S3, way: Callable[[Fate], FaultyS3], share: float
) -> None:
    body = os.urandom(17 * MIB)
    faulty = way(at_random(5, share, "PUT POST"))
    with lakes(s3, faulty) as (lake, straight):
        for number in range(4):
            try:
                with lake.write(f"date=1/{number}") as sink:
                    sink.target.write(body)
            except OSError:
                assert share
                continue
            assert sink.size_bytes == len(body)
            assert straight.read(f"date=1/{number}") == body
        assert {file.size_bytes for file in straight.list("date=1")} <= {len(body)}
    assert faulty.asked["PUT part"] >= 8


def try_once(loader: Loader) -> bool:
    """One turn; whether it found nothing more to do."""
    try:
        return not loader.run_once().bytes
    except FAILURES:
        return False


def test_loaders_whose_requests_and_answers_get_lost_load_each_event_once(
    s3: S3, way: Callable[[Fate], FaultyS3], tmp_path: Path
) -> None:
    group = Group(tmp_path)
    group.give(one=(0, 1), two=(2, 3))
    with lakes(s3, way(at_random(1, 0.1))) as (lake, straight):
        opened(straight)
        group.store = lake
        loaders = [group.loader(name) for name in ("one", "two")]
        for round_ in range(6):
            for partition in range(4):
                project = project_in(partition)
                copy = event(f"{round_ - 1}")
                group.append(as_sent(event(f"{round_}"), copy, event(event_name=str(round_)), project=project), project)
                group.append(judged({0: event(event_name=f"judged {round_}")}, [1], project=project), project)
            for loader in loaders:
                try_once(loader)
        for loader in loaders:
            while not try_once(loader):
                pass
        copy_lake(straight, LocalLake(group.lake), with_log=True)
    reconcile(group)
