import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from kixo.lake.commit import Fenced
from kixo.lake.read import open_table
from kixo.loader.load import STEPS
from kixo.loader.loader import Loader
from kixo.loader.pace import INTERVAL_S_MAX, Pace
from kixo.log import partition_of
from tests.grouping import PARTITIONS, Group, load_all, project_in
from tests.loading import Killed, Setting, as_sent, event, judged, kill_after, reconcile

EVERYTHING = tuple(range(PARTITIONS))
EVENTS_A_ROUND = 3 * PARTITIONS


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(tmp_path)


def some_requests(group: Group, round_: int) -> None:
    """A few events for a project of each partition, some of them copies of the round before, and refused ones."""
    for partition in EVERYTHING:
        project = project_in(partition)
        copy = event(f"{round_ - 1}-a") if round_ else event(f"{round_}-a")
        group.append(as_sent(event(f"{round_}-a"), copy, event(event_name=str(round_)), project=project), project)
        group.append(judged({0: event(event_name=f"judged {round_}")}, [1], project=project), project)


def events_of(rounds: Collection[int]) -> int:
    """How many different events those rounds have: without the round before, its copy is new."""
    return sum(EVENTS_A_ROUND + (PARTITIONS if each and each - 1 not in rounds else 0) for each in rounds)


def fetch(group: Group, name: str) -> None:
    load_all(group.loader(name))


# Shards.


def test_projects_always_have_the_partition_they_had() -> None:
    assert [partition_of(name, 12) for name in ("kx_proj_abc123", "p", "é")] == [10, 11, 3]


def test_a_copy_is_found_by_whoever_has_the_partition_later(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    fetch(group, "one")
    group.give(one=(), two=EVERYTHING)
    some_requests(group, 0)
    fetch(group, "two")
    assert len(group.rows("events", "identity")) == EVENTS_A_ROUND
    reconcile(group)


def test_a_loader_knows_the_identities_of_its_projects_alone(group: Group) -> None:
    group.give(one=(0, 1), two=(2, 3))
    some_requests(group, 0)
    loaders = [group.loader(name) for name in ("one", "two")]
    for loader in loaders:
        load_all(loader)
    assert [loader._shards.count for loader in loaders] == [EVENTS_A_ROUND // 2] * 2
    assert [group.loader(name)._shards.count for name in ("one", "two")] == [EVENTS_A_ROUND // 2] * 2
    reconcile(group)


def test_an_index_of_hours_ago_is_brought_up_to_the_table(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    loader = group.loader("one")
    load_all(loader)
    loader.close()
    group.give(one=(), two=EVERYTHING)
    for round_ in range(1, 4):
        some_requests(group, round_)
        fetch(group, "two")
    group.give(one=EVERYTHING, two=())
    group.reports.sentences.clear()
    some_requests(group, 4)
    some_requests(group, 1)
    fetch(group, "one")
    assert not group.reports.tells("made anew")
    assert len(group.rows("events", "identity")) == 5 * EVENTS_A_ROUND
    reconcile(group)


def test_an_index_of_another_division_is_made_anew(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    loader = group.loader("one")
    load_all(loader)
    loader.close()
    group.members["one"].division = PARTITIONS + 1
    group.loader("one")
    assert group.reports.tells("made anew")


def test_copies_of_what_came_by_another_log_are_found(tmp_path: Path) -> None:
    before = Setting(tmp_path)
    for partition in EVERYTHING:
        before.log.append(as_sent(event("a"), event("b"), project=project_in(partition)))
    before.load_all()
    group = Group(tmp_path)
    group.log.log_id = "f" * 32
    group.give(one=(0, 1), two=(2, 3))
    for partition in EVERYTHING:
        group.append(as_sent(event("b"), event("c"), project=project_in(partition)), project_in(partition))
    for name in ("one", "two"):
        fetch(group, name)
    assert len(group.rows("events", "identity")) == 3 * PARTITIONS


def test_two_loaders_on_one_machine_do_not_share_a_folder(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    stopped = group.loader("one")
    load_all(stopped)
    some_requests(group, 1)
    fetch(group, "one")
    stopped.close()
    assert {path.name for path in (group.folder / "index of one").glob("*/1*")} == {"1", "1-1"}
    some_requests(group, 1)
    fetch(group, "one")
    reconcile(group)


# Changes of hands.


@pytest.mark.parametrize("step", STEPS)
def test_whoever_takes_over_from_a_loader_killed_after_any_step_loses_and_doubles_nothing(
    group: Group, step: str
) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    fetch(group, "one")
    some_requests(group, 1)
    loader = group.loader("one", kill_after(step))
    with pytest.raises(Killed):
        load_all(loader)
    # Its partitions go to two others, and more has come: it must not become part of the load that was begun.
    some_requests(group, 2)
    group.give(one=(), two=(0, 2), three=(1, 3))
    for name in ("two", "three"):
        fetch(group, name)
    assert len(group.rows("events", "identity")) == 3 * EVENTS_A_ROUND
    reconcile(group)


def meanwhile(step: str, does: Callable[[], None]) -> Callable[[str], None]:
    """Stands still after a step of the first load, while something else is done."""
    waiting = [does]

    def told(done: str) -> None:
        if done == step and waiting:
            waiting.pop()()

    return told


@pytest.mark.parametrize("step", STEPS[:-1])
@pytest.mark.parametrize("more", [False, True])
def test_a_loader_that_wakes_after_another_took_over_is_fenced(group: Group, step: str, more: bool) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)

    def take_over() -> None:
        if more:
            some_requests(group, 1)
        # The sleeper is not told: it still believes that all is its own.
        group.give(two=EVERYTHING)
        fetch(group, "two")

    sleeper = group.loader("one", meanwhile(step, take_over))
    if step != "events" or more:
        with pytest.raises(Fenced, match="Another loader"):
            load_all(sleeper)
    load_all(sleeper)
    some_requests(group, 2)
    group.give(one=(), two=EVERYTHING)
    load_all(sleeper)
    fetch(group, "two")
    rounds = {0, 2} | ({1} if more else set())
    assert len(group.rows("events", "identity")) == events_of(rounds)
    reconcile(group)


def test_only_the_partitions_that_another_took_are_opened_anew(group: Group) -> None:
    group.give(one=EVERYTHING)
    loader = group.loader("one")
    some_requests(group, 0)
    load_all(loader)
    group.give(two=(3,))
    some_requests(group, 1)
    fetch(group, "two")
    before = {number: held.index for number, held in loader._shards._held.items()}
    with pytest.raises(Fenced):
        loader.run_once()
    load_all(loader)
    after = {number: held.index for number, held in loader._shards._held.items()}
    assert {number for number in EVERYTHING if before[number] is after[number]} == {0, 1, 2}
    reconcile(group)


def test_a_partition_that_was_away_and_came_back_between_two_looks_is_opened_anew(group: Group) -> None:
    group.give(one=EVERYTHING)
    loader = group.loader("one")
    some_requests(group, 0)
    load_all(loader)
    group.give(one=())
    group.give(one=EVERYTHING, two=EVERYTHING)
    some_requests(group, 1)
    fetch(group, "two")
    some_requests(group, 1)
    load_all(loader)
    reconcile(group)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([*STEPS, "none"]), st.sets(st.sampled_from(EVERYTHING))),
        min_size=1,
        max_size=6,
    )
)
@examples(max_examples=12, deadline=None)
def test_any_changes_of_hands_with_kills_lose_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, str, set[int]]]
) -> None:
    group = Group(tmp_path_factory.mktemp("hands"), load_events_max=7)
    loaders: dict[str, Loader] = {}
    for number, (which, step, partitions) in enumerate(turns):
        name, other = ("one", "two") if which else ("two", "one")
        group.give(**{name: partitions, other: set(EVERYTHING) - partitions})
        some_requests(group, number)
        loaders[name] = loader = group.loader(name, kill_after(step))
        try:
            loader.run_once()
            loader.run_once()
        except Killed:
            del loaders[name]
        if other in loaders:
            run_on(loaders[other])
    group.give(one=EVERYTHING, two=())
    fetch(group, "one")
    assert len(group.rows("events", "identity")) == len(turns) * EVENTS_A_ROUND
    reconcile(group)


def run_on(loader: Loader) -> None:
    """One turn of a loader that was killed in none: it may be fenced, and goes on from the tables."""
    try:
        loader.run_once()
    except Fenced:
        loader.run_once()
    except Killed:
        pass


def test_a_load_that_was_begun_waits_for_its_frames_and_the_others_go_on(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    with pytest.raises(Killed):
        group.loader("one", kill_after("loads")).run_once()
    group.give(one=(), two=EVERYTHING)
    member = group.members["two"]
    member.away = {1}
    loader = group.loader("two")
    load_all(loader)
    events = open_table(group.lake, "events")
    assert [events.position(group.log.log_id, number) for number in EVERYTHING] == [2, 0, 2, 2]
    member.away = set()
    load_all(loader)
    reconcile(group)


def test_positions_are_released_to_the_group_as_they_are_committed(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    fetch(group, "one")
    assert group.members["one"].released == dict.fromkeys(EVERYTHING, 2)


# One for all.


def test_only_the_owner_of_the_first_partition_keeps_the_tables_in_shape(tmp_path: Path) -> None:
    group = Group(tmp_path, compaction_files_min=2, checkpoint_commits=5)
    group.give(one=(1,), two=(0, 2, 3))
    others, leader = group.loader("one"), group.loader("two")
    project = project_in(1)
    for number in range(12):
        group.append(as_sent(event(str(number)), project=project), project)
        others.run_once()
    assert others.table_files == 12
    assert list((group.lake / "events" / "_delta_log").glob("*.checkpoint*")) == []
    files = merged(group, leader, others)
    assert files < 12
    # Whoever gets the partition next leads, and what the one before was about to merge does no harm.
    group.give(one=(0, 1), two=(2, 3))
    for number in range(12, 24):
        group.append(as_sent(event(str(number)), project=project), project)
        others.run_once()
    assert merged(group, others, leader) < files + 12
    reconcile(group)


def merged(group: Group, leader: Loader, other: Loader) -> int:
    """Lets both turn until the leader has merged files; how many there are then."""
    found = len(open_table(group.lake, "events").paths)
    for _ in range(2000):
        group.clock.now_us += 3_000_000
        leader.run_once()
        other.run_once()
        if (left := len(open_table(group.lake, "events").paths)) < found:
            return left
        threading.Event().wait(0.005)
    raise AssertionError("nothing was merged")


def test_loaders_that_meet_each_other_wait_longer_between_commits() -> None:
    pace = Pace(0.25)
    assert pace.interval_s == 0.25
    for _ in range(30):
        pace.note(0.1)
    assert 0.4 < pace.interval_s <= 0.5
    for _ in range(30):
        pace.note(60.0)
    assert pace.interval_s == INTERVAL_S_MAX


def test_a_lost_cache_costs_time_and_no_event(group: Group) -> None:
    group.give(one=EVERYTHING)
    some_requests(group, 0)
    fetch(group, "one")
    shutil.rmtree(group.folder / "index of one")
    some_requests(group, 0)
    fetch(group, "one")
    assert len(group.rows("events", "identity")) == EVENTS_A_ROUND
    reconcile(group)
