import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo import metrics as catalogue
from kixo.errors import DataFolderError
from kixo.log import REPLAYS
from kixo.rejected.change import Change
from kixo.rejected.reading import EVENTS_MAX, parts
from kixo.rejected.replay import STEPS
from kixo.rejected.selection import Place, Selection, listed, one, over_time, shown_over_time
from tests.replaying import ALL, NOW_US, Folder, event, without

DEVICE = Change(set={"device_id": b'"d"'})
DAY_US = 86_400_000_000
# All that makes an event what it is; where it stands in the log is another thing.
COLUMNS = (
    "project_id, environment, bundle_id, platform, event_type, event_name, device_id, session_id, timestamp, "
    "client_timestamp, sent_at, received_at, clock_rule, event_id, identity, properties, date"
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_replayed_event_is_the_one_it_would_have_been(folder: Folder, tmp_path: Path) -> None:
    sent: dict[str, Any] = {"sent_at": "2026-04-07T11:00:00Z", "environment": "staging"}
    folder.receive(event(event_name="good"), without("device_id", event_name="bad"), **sent)
    folder.load()
    assert folder.replay(change=DEVICE) == 1
    folder.load()
    at_first = Folder(tmp_path / "other")
    at_first.receive(event(event_name="good"), event(event_name="bad"), **sent)
    at_first.load()
    assert folder.rows(COLUMNS) == at_first.rows(COLUMNS)
    assert folder.rows("event_name, log_index") == at_first.rows("event_name, log_index")
    assert folder.differences() == []


def test_the_times_are_those_of_the_request_however_late_the_replay(folder: Folder) -> None:
    then_us = NOW_US - 30 * DAY_US
    folder.receive(without("device_id", timestamp="2026-03-09T11:00:00Z"), received_at_us=then_us)
    folder.load()
    folder.replay(change=DEVICE)
    folder.load()
    (row,) = folder.ask("SELECT epoch_us(received_at) AS received, timestamp::TEXT AS t, date::TEXT AS day FROM events")
    assert row == {"received": then_us, "t": "2026-03-09 11:00:00+00", "day": "2026-03-09"}


def test_replayed_twice_is_once(folder: Folder) -> None:
    folder.receive(without("device_id"), without("device_id", event_id="e"))
    folder.load()
    assert folder.replay(change=DEVICE) == 2
    folder.load()
    assert folder.replay(change=DEVICE) == 0
    # Even where nobody knows any more that there was a replay.
    folder.record.places.clear()
    folder.root.joinpath("log", str(REPLAYS)).rename(folder.root / "gone")
    assert folder.replay(change=DEVICE) == 2
    folder.load()
    assert len(folder.rows()) == 2
    assert folder.differences() == []


def test_replayed_again_with_another_change_is_still_once(folder: Folder) -> None:
    folder.receive(without("device_id"))
    folder.load()
    folder.replay(change=DEVICE)
    assert folder.replay(change=Change(set={"device_id": b'"another"'})) == 0
    folder.load()
    assert folder.rows("device_id") == [("d",)]


def test_what_the_sender_mends_and_sends_itself_counts_once(folder: Folder) -> None:
    folder.receive(without("device_id", event_id="e"))
    folder.receive(event(event_id="e", device_id="its own"))
    folder.load()
    folder.replay(change=DEVICE)
    folder.load()
    assert folder.rows("device_id") == [("its own",)]
    (totals,) = folder.ask(f"SELECT sum(stored) AS s, sum(duplicate) AS d FROM loads WHERE log_partition = {REPLAYS}")
    assert totals == {"s": 0, "d": 1}
    assert folder.differences() == []


def test_what_was_rejected_again_and_again_comes_in_once(folder: Folder) -> None:
    for _ in range(3):
        folder.receive(without("device_id"), without("device_id"), without("device_id", event_name="other"))
    folder.load()
    assert folder.replay(change=DEVICE) == 9
    folder.load()
    # Two equal events in one request are two; the same request sent again adds none.
    assert folder.rows("event_name") == [("Button",), ("Button",), ("other",)]


def test_equal_events_of_a_request_are_told_apart_when_they_come_one_by_one(folder: Folder) -> None:
    folder.receive(event(), *[without("device_id")] * 3)
    folder.load()
    for index in (2, 1, 3):
        place = Place(folder.log_id, 0, 0, index)
        assert folder.replay(Selection(places=(place,)), DEVICE) == 1
        folder.load()
    assert folder.rows("log_index") == [(0,), (1,), (2,), (3,)]


def test_events_that_are_not_mended_stay_as_they_are_and_are_told(folder: Folder) -> None:
    folder.receive(without("device_id"), without("session_id"), 7, "text", event(timestamp="soon", device_id=""))
    folder.load()
    judged = folder.judged(change=DEVICE)
    assert [(each.outcome, each.refusal and each.refusal.code) for each in judged] == [
        ("replayed", None),
        ("rejected", "missing"),
        ("rejected", "invalid_event"),
        ("rejected", "invalid_event"),
        ("rejected", "invalid_timestamp"),
    ]
    assert folder.replay(change=DEVICE) == 1
    folder.load()
    assert len(folder.rows()) == 1
    assert len(folder.rows(table="rejected")) == 5


def test_an_event_can_be_replaced(folder: Folder) -> None:
    folder.receive(7, without("device_id"))
    folder.load()
    place = Place(folder.log_id, 0, 0, 0)
    text = b'{"event_type":"tap","event_name":"x","device_id":"d","session_id":"s","timestamp":"2026-04-08T11:00:00Z"}'
    assert folder.replay(Selection(places=(place,)), Change(replace={place: text})) == 1
    folder.load()
    assert folder.rows("event_name, log_index") == [("x", 0)]


def test_a_selection_takes_what_it_names_and_nothing_else(folder: Folder) -> None:
    folder.receive(without("device_id"), without("session_id"), project_id="a")
    folder.receive(without("device_id"), project_id="b", received_at_us=NOW_US - DAY_US)
    folder.receive(without("device_id", properties={"app_version": "2.1"}), environment="staging", platform="web")
    folder.load()

    def selected(**values: Any) -> list[tuple[str, str | None]]:
        return sorted((each.row.project_id, each.row.field) for each in folder.judged(Selection(**values)))

    assert len(selected()) == 4
    assert selected(project_id=("a",)) == [("a", "device_id"), ("a", "session_id")]
    assert selected(field=("session_id",)) == [("a", "session_id")]
    assert selected(to_us=NOW_US) == [("b", "device_id")]
    assert selected(from_us=NOW_US, project_id=("b",)) == []
    assert selected(app_version=("2.1",)) == selected(environment=("staging",)) == [("p", "device_id")]
    assert selected(app_version=("",), code=("missing",), platform=("ios",), project_id=("b",)) == [("b", "device_id")]
    assert selected(code=("too_long",)) == []


def test_many_events_come_in_bounded_parts(folder: Folder) -> None:
    for number in range(5):
        folder.receive(*[without("device_id", event_name=f"{number}-{n}") for n in range(400)])
    folder.load()
    with folder.opened() as replay:
        written = [replay.write(part.judgements) for part in parts(folder.source, ALL, DEVICE)]
    assert sum(written) == 2000
    assert max(written) <= EVENTS_MAX
    folder.load()
    assert len(folder.rows("identity")) == 2000


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("part", range(3))
def test_a_replay_that_ends_anywhere_and_is_repeated_loses_and_doubles_nothing(
    folder: Folder, step: str, part: int
) -> None:
    for number in range(3):
        folder.receive(*[without("device_id", event_name=f"{number}-{n}") for n in range(600)])
    folder.load()
    reached = itertools.count()

    def stop(name: str) -> None:
        if name == step and next(reached) == part:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.replay(change=DEVICE, step=stop)
    # Whether the loader comes in between or not, and whatever is set the second time.
    if part % 2:
        folder.load()
    written = folder.replay(change=Change(set={"device_id": b'"second"'}))
    folder.load()
    assert written == 600 * (2 - part)
    assert len({name for (name,) in folder.rows("event_name")}) == len(folder.rows()) == 1800
    assert folder.differences() == []


def test_one_replay_writes_at_a_time(folder: Folder) -> None:
    with folder.opened(), pytest.raises(DataFolderError, match="Another replay"):
        folder.opened()


def test_a_full_disk_is_one_sentence_and_keeps_what_was_replayed(folder: Folder) -> None:
    folder.receive(without("device_id"))
    folder.load()
    folder.settings = type(folder.settings)(data_dir=folder.root, log_free_bytes_min=2**60)
    with pytest.raises(DataFolderError, match=r"must keep .* Mend the disk and repeat"):
        folder.replay(change=DEVICE)
    assert folder.record.places == set()


def test_the_log_of_another_user_is_left_alone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: folder.root.stat().st_uid + 1)
    with pytest.raises(DataFolderError, match="Replay as that user"):
        folder.opened()
    assert not (folder.root / "log" / str(REPLAYS)).exists()


def test_old_events_that_are_replayed_are_no_lag(folder: Folder) -> None:
    folder.receive(without("device_id"), received_at_us=NOW_US - DAY_US)
    folder.load()
    folder.replay(change=DEVICE)
    with folder.loader() as loader:
        assert loader.run_once().stored == 1
        assert folder.metric(catalogue.LOAD_LAG_SECONDS) == 0


names = st.sampled_from(["a", "b"])
ids = st.sampled_from([None, None, "1", "2"])
times = st.sampled_from(["2026-04-08T11:59:00Z", "2026-04-08T11:59:00+00:00", "2026-04-08 14:00", "0001-01-01"])
good = st.builds(
    lambda name, time, id, properties: event(event_name=name, timestamp=time, event_id=id, properties=properties),
    names,
    times,
    ids,
    st.sampled_from([None, {}, {"a": 1}]),
)
requests = st.fixed_dictionaries(
    {
        "events": st.lists(st.tuples(good, st.booleans()), min_size=1, max_size=6),
        "sent_at": st.sampled_from([None, "2026-04-08T11:00:00Z", "2026-04-08T11:59:59.5Z", "2027-01-01"]),
        "received_at_us": st.sampled_from([NOW_US, NOW_US - 3 * DAY_US]),
    }
)


@settings(max_examples=25, deadline=None)
@given(st.lists(requests, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_whatever_was_rejected_becomes_what_it_would_have_been(sent: list[dict[str, Any]], dice: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        mended, at_first = Folder(Path(name) / "mended"), Folder(Path(name) / "first")
        for each in sent:
            members = {"sent_at": each["sent_at"], "received_at_us": each["received_at_us"]}
            at_first.receive(*[found for found, _ in each["events"]], **members)
            broken = [{**found, "device_id": 7} if is_broken else found for found, is_broken in each["events"]]
            mended.receive(*broken, **members)
        at_first.load()
        mended.load()
        # In any order and in any portions.
        places = [judgement.row.place for judgement in mended.judged()]
        dice.shuffle(places)
        while places:
            few = places[: dice.randint(1, 3)]
            del places[: len(few)]
            assert mended.replay(Selection(places=tuple(few)), DEVICE) == len(few)
            if dice.random() < 0.3:
                mended.load()
        mended.load()
        identity = "hex(identity) AS identity"
        assert mended.rows(identity) == at_first.rows(identity)
        assert mended.differences() == []


def test_what_is_listed_and_counted_over_time_is_what_is_selected(folder: Folder) -> None:
    for number in range(3):
        folder.receive(without("device_id"), event(timestamp=number), received_at_us=NOW_US - number * DAY_US)
    folder.load()
    pages: list[list[int]] = [[]]
    found: list[dict[str, Any]] = []
    while page := folder.ask(listed(Selection(code=("missing",)), folder.log_id, pages[-1], 2)):
        found += page
        pages.append([page[-1][name] for name in ("received_at_us", "log_partition", "log_offset", "log_index")])
    assert [row["received_at_us"] for row in found] == [NOW_US - number * DAY_US for number in range(3)]
    assert {row["sample"] for row in found} == {None}
    assert len(pages) == 3
    selection = Selection(project_id=("p",), environment=("production",), from_us=NOW_US - DAY_US)
    counted = folder.ask(over_time(selection, folder.log_id, DAY_US))
    assert [(row["code"], row["events"]) for row in counted] == [("invalid_timestamp", 1), ("missing", 1)] * 2
    shown = folder.ask(f"SELECT code, epoch_us(moment) AS at_us, events FROM ({shown_over_time(selection, DAY_US)})")
    assert [(row["code"], row["at_us"]) for row in shown] == [(row["code"], row["at_us"]) for row in counted]
    (whole,) = folder.ask(
        one(Selection(places=(Place(folder.log_id, 0, found[1]["log_offset"], 1),)), folder.log_id, NOW_US - DAY_US)
    )
    assert whole["code"] == "invalid_timestamp"
