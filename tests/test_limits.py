import errno
import multiprocessing
import os
import signal
import struct
import time
from bisect import bisect_right
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo.errors import Unavailable
from kixo.limits import SECOND_NS, Verdict
from kixo.limits.ring_file import RING, SLOTS_AT, WORD, RingFile
from tests.conftest import PATIENCE_S

START_NS = 1_000 * SECOND_NS
spawn = multiprocessing.get_context("spawn")


def opened(path: Path, *, projects_max: int = 10, requests_max: int = 3) -> RingFile:
    return RingFile(path, projects_max=projects_max, requests_per_second_max=requests_max)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


@pytest.fixture
def limit(path: Path) -> Iterator[RingFile]:
    limit = opened(path)
    yield limit
    limit.close()


def admissions(limit: RingFile, times: list[int], project: int = 1) -> list[bool]:
    return [limit.admit(project, now).admitted for now in times]


class Oracle:
    """The rule as the contract says it: keep every admission, count those of the last second."""

    def __init__(self, requests_max: int) -> None:
        self.requests_max = requests_max
        self.times: list[int] = []

    def admit(self, now: int) -> tuple[bool, int]:
        now = max([now, *self.times[-1:]])
        used = sum(time > now - SECOND_NS for time in self.times)
        if used >= self.requests_max:
            return False, 0
        self.times.append(now)
        return True, self.requests_max - used - 1


# Gaps around the second and around its Nth part, where a rule that is off by one shows; a few go back in time.
gaps = st.one_of(
    st.integers(-SECOND_NS // 2, 2 * SECOND_NS),
    st.sampled_from([0, 1, SECOND_NS - 1, SECOND_NS, SECOND_NS + 1, SECOND_NS // 3, SECOND_NS // 7, -1, -1000]),
)


@settings(deadline=None)
@given(requests_max=st.integers(1, 7), steps=st.lists(st.tuples(st.integers(1, 3), gaps), max_size=200))
def test_the_ring_agrees_with_counting_every_admission(requests_max: int, steps: list[tuple[int, int]]) -> None:
    oracles = {project: Oracle(requests_max) for project in (1, 2, 3)}
    now = START_NS
    with TemporaryDirectory() as folder:
        limit = opened(Path(folder) / "limits", requests_max=requests_max)
        for project, gap in steps:
            now += gap
            # No caller's clock is a whole second behind an admission; that is the mark of another boot.
            now = max([now, *(oracle.times[-1] - SECOND_NS for oracle in oracles.values() if oracle.times)])
            verdict = limit.admit(project, now)
            assert (verdict.admitted, verdict.left) == oracles[project].admit(now)
        limit.close()
    for oracle in oracles.values():
        for first, later in zip(oracle.times, oracle.times[requests_max:], strict=False):
            assert later - first >= SECOND_NS


def test_the_nth_is_admitted_the_next_is_not_and_the_header_counts_down(limit: RingFile) -> None:
    verdicts = [limit.admit(1, START_NS + n) for n in range(4)]
    assert verdicts == [
        Verdict(admitted=True, left=2, reset_s=1, retry_after_s=0),
        Verdict(admitted=True, left=1, reset_s=1, retry_after_s=0),
        Verdict(admitted=True, left=0, reset_s=1, retry_after_s=0),
        Verdict(admitted=False, left=0, reset_s=1, retry_after_s=1),
    ]


def test_one_place_is_free_exactly_a_second_after_it_was_taken(limit: RingFile) -> None:
    assert admissions(limit, [START_NS, START_NS + 10, START_NS + 20]) == [True] * 3
    assert admissions(limit, [START_NS + SECOND_NS - 1, START_NS + SECOND_NS]) == [False, True]
    assert admissions(limit, [START_NS + SECOND_NS, START_NS + SECOND_NS + 10]) == [False, True]


def test_refused_requests_do_not_count(limit: RingFile) -> None:
    assert admissions(limit, [START_NS] * 1000).count(True) == 3
    assert admissions(limit, [START_NS + SECOND_NS] * 3) == [True] * 3


@given(st.lists(st.integers(0, SECOND_NS // 2), min_size=1, max_size=5), st.data())
def test_what_is_taken_back_leaves_the_ring_as_if_it_had_never_been(gaps: list[int], data: st.DataObject) -> None:
    times = [START_NS + sum(gaps[: n + 1]) for n in range(len(gaps))]
    gone = data.draw(st.integers(0, len(times) - 1))
    later = times[-1] + data.draw(st.integers(0, 2 * SECOND_NS))
    with TemporaryDirectory() as folder:
        retracted, never = opened(Path(folder) / "a", requests_max=5), opened(Path(folder) / "b", requests_max=5)
        admitted = admissions(retracted, times)
        assert all(admitted)
        retracted.retract(1, times[gone], times[-1])
        admissions(never, times[:gone] + times[gone + 1 :])
        assert retracted.peek(1, later) == never.peek(1, later)
        assert admissions(retracted, [later] * 6) == admissions(never, [later] * 6)
        retracted.close()
        never.close()


def test_taking_back_what_the_ring_has_forgotten_does_nothing(limit: RingFile) -> None:
    admissions(limit, [START_NS])
    later = START_NS + 2 * SECOND_NS
    admissions(limit, [later])
    limit.retract(1, later + 1, later + 1)
    assert limit.peek(1, later).left == 2


def test_taking_back_what_no_longer_counts_frees_nobody_elses_place(limit: RingFile) -> None:
    half = START_NS + SECOND_NS // 2
    admissions(limit, [START_NS, half, START_NS + SECOND_NS])
    limit.retract(1, START_NS, START_NS + SECOND_NS)
    assert limit.peek(1, START_NS + SECOND_NS).left == 1


def test_projects_do_not_count_for_one_another(limit: RingFile) -> None:
    admissions(limit, [START_NS] * 9, project=5)
    for project in (4, 6, 1, 10):
        assert admissions(limit, [START_NS] * 4, project) == [True, True, True, False]


def test_a_peek_takes_nothing(limit: RingFile) -> None:
    assert limit.peek(1, START_NS) == Verdict(admitted=True, left=3, reset_s=0, retry_after_s=0)
    limit.admit(1, START_NS)
    assert [limit.peek(1, START_NS) for _ in range(5)] == [
        Verdict(admitted=True, left=2, reset_s=1, retry_after_s=0)
    ] * 5
    admissions(limit, [START_NS] * 2)
    assert limit.peek(1, START_NS) == limit.admit(1, START_NS)
    assert limit.peek(1, START_NS + SECOND_NS).left == 3


@pytest.mark.parametrize("project", [0, -1, 11, 2**40])
def test_a_project_beyond_the_file_is_not_a_crash(limit: RingFile, project: int) -> None:
    with pytest.raises(Unavailable, match="projects_max") as refused:
        limit.admit(project, START_NS)
    assert refused.value.retry_after_s is not None


def test_the_counts_outlive_a_process(path: Path) -> None:
    for _ in range(3):
        limit = opened(path)
        assert limit.admit(1, START_NS).admitted
        limit.close()
    limit = opened(path)
    assert not limit.admit(1, START_NS).admitted
    limit.close()


def test_times_of_an_earlier_boot_block_nobody(limit: RingFile) -> None:
    admissions(limit, [START_NS] * 3)
    for now in (0, 5, START_NS - SECOND_NS - 1):
        assert limit.peek(1, now).left == 3
    assert admissions(limit, [5] * 4) == [True, True, True, False]


def test_a_process_that_was_overtaken_on_its_way_counts_as_of_the_one_before(limit: RingFile) -> None:
    assert admissions(limit, [START_NS + 500, START_NS, START_NS + 100]) == [True] * 3
    assert admissions(limit, [START_NS + SECOND_NS + 499, START_NS + SECOND_NS + 500]) == [False, True]


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4, 7])
def test_a_death_between_head_and_time_costs_at_most_one_place_for_a_second(path: Path, taken: int) -> None:
    limit = opened(path)
    admissions(limit, [START_NS + n * SECOND_NS // 3 for n in range(taken)])
    now = START_NS + taken * SECOND_NS // 3 + SECOND_NS
    advance_head(path)
    assert admissions(limit, [now] * 4).count(True) in (2, 3)
    assert admissions(limit, [now + SECOND_NS] * 4).count(True) == 3
    limit.close()


def advance_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(SLOTS_AT)
        (head,) = struct.unpack("<Q", file.read(WORD))
        file.seek(SLOTS_AT)
        file.write(struct.pack("<Q", head + 1))


@given(words=st.lists(st.one_of(st.integers(0, 2**62), st.integers(0, 10)), min_size=5, max_size=5))
def test_a_slot_of_nonsense_heals(words: list[int]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "limits"
        limit = opened(path)
        with path.open("r+b") as file:
            file.seek(SLOTS_AT)
            file.write(struct.pack("<5Q", *words))
        now = 2**62 + 5 * SECOND_NS
        limit.admit(1, now)
        assert admissions(limit, [now + SECOND_NS] * 4) == [True, True, True, False]
        limit.close()


def test_another_limit_makes_another_file_and_leaves_the_old_one_to_its_users(path: Path, limit: RingFile) -> None:
    admissions(limit, [START_NS] * 3)
    other = opened(path, requests_max=5)
    assert admissions(other, [START_NS] * 6).count(True) == 5
    assert not limit.admit(1, START_NS).admitted
    again = opened(path, requests_max=5)
    assert not again.admit(1, START_NS).admitted
    other.close()
    again.close()


def test_more_projects_make_the_file_longer_and_fewer_leave_it(path: Path, limit: RingFile) -> None:
    admissions(limit, [START_NS] * 3, project=10)
    for projects_max in (1000, 10):
        other = opened(path, projects_max=projects_max)
        assert not other.admit(10, START_NS).admitted
        assert path.stat().st_size == SLOTS_AT + 1000 * (RING + 3) * WORD
        other.close()


def test_the_file_takes_no_room_for_projects_that_send_nothing(path: Path) -> None:
    limit = opened(path, projects_max=65_536, requests_max=100)
    limit.admit(1, START_NS)
    assert path.stat().st_size > 50_000_000
    assert path.stat().st_blocks * 512 < 100_000
    limit.close()


def test_a_full_disk_is_an_answer_and_no_signal(limit: RingFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(Unavailable, match="disk is full"):
            limit.admit(1, START_NS)
    assert limit.admit(1, START_NS).left == 2


def test_a_file_system_that_cannot_claim_blocks_is_good_enough(
    limit: RingFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert limit.admit(1, START_NS).admitted


def ask_without_pause(path: Path, barrier: Barrier, answers: Connection, until_s: float) -> None:
    """Answers with what was admitted, and with the first refusal after each; each as when it was begun and ended."""
    limit = opened(path, requests_max=100)
    barrier.wait(PATIENCE_S)
    end_ns = time.monotonic_ns() + int(until_s * SECOND_NS)
    asked: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    before = False
    while (now := time.monotonic_ns()) < end_ns:
        admitted = limit.admit(1, now).admitted
        if admitted or before:
            asked[admitted].append((now, time.monotonic_ns()))
        before = admitted
    limit.close()
    answers.send(asked)


def test_four_processes_together_stay_within_the_limit_and_use_all_of_it(path: Path) -> None:
    barrier = spawn.Barrier(4)
    pipes = [spawn.Pipe(duplex=False) for _ in range(4)]
    processes = [spawn.Process(target=ask_without_pause, args=(path, barrier, end, 2.5)) for _, end in pipes]
    for process in processes:
        process.start()
    asked = [receiver.recv() for receiver, _ in pipes]
    for process in processes:
        process.join(PATIENCE_S)
    begins = sorted(begun for of_one in asked for begun, _ in of_one[True])
    ends = sorted(ended for of_one in asked for _, ended in of_one[True])
    # A process may be stopped between its clock and the ring, so all that is sure is that it was between the two.
    assert all(later - first >= SECOND_NS for first, later in zip(begins, ends[100:], strict=False))
    refused = [times for of_one in asked for times in of_one[False]]
    assert refused
    for begun, ended in refused:
        assert bisect_right(begins, ended) - bisect_right(ends, begun - SECOND_NS) >= 100


def hold_the_lock(path: Path, ready: Connection) -> None:
    limit = opened(path)
    look = RingFile._look

    def stand_still(self: RingFile, slot: int, now_ns: int) -> tuple[int, int, int]:
        found = look(self, slot, now_ns)
        ready.send("locked")
        signal.pause()
        return found

    RingFile._look = stand_still  # type: ignore[method-assign]
    limit.admit(1, START_NS)


def test_a_process_killed_with_the_lock_held_lets_go_and_other_projects_never_waited(
    path: Path, limit: RingFile
) -> None:
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=hold_the_lock, args=(path, sender))
    process.start()
    assert receiver.recv() == "locked"
    assert limit.admit(2, START_NS).admitted
    process.kill()
    assert limit.admit(1, START_NS).left == 2
    process.join(PATIENCE_S)


def race_to_open(path: Path, barrier: Barrier, answers: Connection) -> None:
    barrier.wait(PATIENCE_S)
    limit = opened(path, requests_max=7)
    answers.send(sum(limit.admit(1, START_NS).admitted for _ in range(7)))
    limit.close()


def test_processes_that_replace_an_old_file_at_once_end_up_with_the_same_one(path: Path, limit: RingFile) -> None:
    barrier = spawn.Barrier(4)
    pipes = [spawn.Pipe(duplex=False) for _ in range(4)]
    processes = [spawn.Process(target=race_to_open, args=(path, barrier, end)) for _, end in pipes]
    for process in processes:
        process.start()
    assert sum(receiver.recv() for receiver, _ in pipes) == 7
    for process in processes:
        process.join(PATIENCE_S)
