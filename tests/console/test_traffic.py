"""How close a project is to its limit, as onlookers find it in the ring that workers write."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from kixo.console.traffic import LOOKS_KEPT, SECOND_NS, Traffic, Use, _most_in_a_second
from kixo.limits.ring_file import RingFile, read_admissions

START_NS = 1_000 * SECOND_NS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


@pytest.fixture
def limit(path: Path) -> RingFile:
    return RingFile(path, projects_max=10, requests_per_second_max=5)


def at(seconds: float) -> int:
    return START_NS + round(seconds * SECOND_NS)


def test_requests_of_the_last_second_are_counted_for_each_project(path: Path, limit: RingFile) -> None:
    traffic = Traffic(lambda projects, _: read_admissions(path, projects, 5))
    for project, seconds in ((1, 0.0), (1, 0.5), (1, 1.2), (3, 1.1)):
        limit.admit(project, at(seconds))
    traffic.look(3, at(1.3))
    assert [traffic.use(number) for number in (1, 2, 3)] == [Use(2, 2), Use(0, 0), Use(1, 1)]


def test_the_most_in_any_second_is_found_between_two_looks_and_forgotten_after_a_minute(
    path: Path, limit: RingFile
) -> None:
    traffic = Traffic(lambda projects, _: read_admissions(path, projects, 5))
    traffic.look(1, at(0))
    for seconds in (0.1, 0.2, 0.3, 0.4):
        limit.admit(1, at(seconds))
    traffic.look(1, at(1.35))
    assert traffic.use(1) == Use(1, 4)
    for second in range(2, LOOKS_KEPT + 1):
        traffic.look(1, at(second))
        assert traffic.use(1) == Use(0, 4)
    for second in range(LOOKS_KEPT + 1, LOOKS_KEPT + 4):
        traffic.look(1, at(second))
    assert traffic.use(1) == Use(0, 0)


def test_the_ring_turns_over_and_the_limit_itself_is_seen(path: Path, limit: RingFile) -> None:
    traffic = Traffic(lambda projects, _: read_admissions(path, projects, 5))
    for number in range(23):
        limit.admit(1, at(number * 0.21))
    traffic.look(1, at(23 * 0.21))
    use = traffic.use(1)
    assert use is not None
    assert use.most == 5


def test_a_project_that_was_not_looked_at_is_not_known(path: Path, limit: RingFile) -> None:
    traffic = Traffic(lambda projects, _: read_admissions(path, projects, 5))
    assert traffic.use(1) is None
    traffic.look(2, at(0))
    assert traffic.use(2) == Use(0, 0)
    assert traffic.use(3) is None
    assert traffic.use(0) is None


def test_a_file_that_is_not_there_or_of_another_limit_counts_nothing(path: Path, limit: RingFile) -> None:
    limit.admit(1, at(0))
    assert read_admissions(path, 1, 5).any()
    assert not read_admissions(path, 1, 6).any()
    assert not read_admissions(path.with_name("none"), 1, 5).any()
    path.write_bytes(path.read_bytes()[:4100])
    assert not read_admissions(path, 2, 5)[1].any()


@given(some.lists(some.integers(1, 40), max_size=12))
def test_the_most_in_a_second_is_that_of_counting_by_hand(tenths: list[int]) -> None:
    times = sorted(START_NS + tenth * SECOND_NS // 10 for tenth in tenths)
    row = np.array([[0] * (12 - len(times)) + times], np.int64)
    by_hand = max((sum(first <= other < first + SECOND_NS for other in times) for first in times), default=0)
    assert _most_in_a_second(row)[0] == by_hand
