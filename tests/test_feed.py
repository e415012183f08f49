"""The feed: what is shown of what arrives, that a filter misses nothing, and that nobody who watches costs too much."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo.console.feed import follower as feed_follower
from kixo.console.feed.backlog import ReadRefused, Sources, look
from kixo.console.feed.filter import Filter, Search, wants_refused
from kixo.console.feed.follower import Follower
from kixo.console.feed.following import parse_positions
from kixo.console.feed.row import Reason, Row
from kixo.console.feed.sample import Decoding, newest, sample, spread
from kixo.console.feed.stream import told
from kixo.console.feed.watch import ROWS_AT_ONCE_MAX
from kixo.console.feed.watcher import QUEUED_ROWS_MAX, Message, Watcher, message
from kixo.load_record import Loaded
from kixo.log.folder import ensure_log
from kixo.log.preview import LogPreview, Stretch
from kixo.log.segment import FrameHead, heads, pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.stored import AS_SENT, JUDGED, JudgedBatch, JudgedEvent, RejectedEvent, encode_judged

RECEIVED_US = 1_775_649_600_000_000
MIB = 1024 * 1024
PLENTY = 2**40


def event(**members: Any) -> dict[str, Any]:
    return {
        "event_type": "tap",
        "event_name": "Buy",
        "device_id": "d_1",
        "session_id": "s_1",
        "timestamp": "2026-04-08T12:00:00Z",
        **members,
    }


def sent(*events: dict[str, Any], ascii_only: bool = False, **members: Any) -> bytes:
    envelope = {"project_id": "kx_proj_a", "api_key": "*" * 9, "bundle_id": "com.example.app", "platform": "ios"}
    return json.dumps({**envelope, **members, "batch": events}, ensure_ascii=ascii_only).encode()


def judged(*texts: str, accepted: int = 0) -> bytes:
    """A JUDGED payload with events that were taken, and after them those of these texts, which were not."""
    events = [JudgedEvent(n, "tap", "Good", "d_1", "s_1", "2026-04-08") for n in range(accepted)]
    rejected = [
        RejectedEvent(accepted + n, "timestamp", "invalid_timestamp", "no instant", text)
        for n, text in enumerate(texts)
    ]
    return encode_judged(JudgedBatch("kx_proj_a", "staging", "com.example.app", "web", None, events, rejected))


class Log:
    """A log of one partition."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ensure_log(folder)
        self.writer = LocalLogWriter(
            folder, 0, segment_bytes=64 * MIB, free_bytes_min=0, now_us=lambda: 1, report=lambda sentence, size: None
        )
        self._at_us = RECEIVED_US

    def append(self, *payloads: bytes, kind: int = AS_SENT) -> None:
        buffers: list[bytes | memoryview] = []
        for payload in payloads:
            body = json.loads(payload)
            counts = (len(body["batch"]), 0) if kind == AS_SENT else (len(body["events"]), len(body["rejected"]))
            self._at_us += 1
            buffers += pack_frame(self.writer.next_offset(), self._at_us, kind, *counts, [payload])
        self.writer.commit(buffers)

    def stretches(self) -> list[Stretch]:
        return LogPreview(self.folder).read(0, PLENTY)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path / "log")
    yield made
    made.writer.close()


def shown(log: Log, rows_max: int = 100, **wanted: Any) -> list[Row]:
    return sample(log.stretches(), Search(Filter(**wanted)), rows_max, Decoding(PLENTY).open).rows


class TestSample:
    def test_all_is_shown_in_order_where_all_can_be(self, log: Log) -> None:
        log.append(sent(event(event_name="a"), event(event_name="b")), sent(event(event_name="c")))
        log.append(judged('{"event_name": "d"}', accepted=1), kind=JUDGED)
        assert [(row.id, row.outcome, row.name) for row in shown(log)] == [
            ("0:0:0", "accepted", "a"),
            ("0:0:1", "accepted", "b"),
            ("0:1:0", "accepted", "c"),
            ("0:2:0", "accepted", "Good"),
            ("0:2:1", "rejected", "d"),
        ]

    def test_a_rejected_row_says_why_and_what(self, log: Log) -> None:
        log.append(judged('{"timestamp": "yesterday", "event_type": 5}'), kind=JUDGED)
        (row,) = shown(log)
        assert row.reason is not None
        assert (row.reason.code, row.reason.field, row.reason.value) == (
            "invalid_timestamp",
            "timestamp",
            '"yesterday"',
        )
        assert (row.type, row.name, row.device) == ("5", None, None)

    def test_of_more_than_can_be_shown_a_sample_is_and_it_says_of_how_many(self, log: Log) -> None:
        log.append(*(sent(*(event(event_name=f"{n}-{k}") for k in range(10))) for n in range(100)))
        found = sample(log.stretches(), Search(Filter()), 20, Decoding(PLENTY).open)
        assert len(found.rows) == 20
        assert (found.among, found.matching, found.unsearched) == (1000, 1000, 0)
        offsets = [int(row.id.split(":")[1]) for row in found.rows]
        assert offsets == sorted(offsets)
        assert min(offsets) < 20
        assert max(offsets) > 80

    def test_of_one_large_request_the_sample_is_spread_too(self, log: Log) -> None:
        log.append(sent(*(event(event_name=str(n)) for n in range(1000))))
        names = [int(row.name or "") for row in shown(log, 10)]
        assert len(set(names)) == 10
        assert max(names) - min(names) > 700

    def test_rejected_events_come_first_up_to_half_of_a_sample(self, log: Log) -> None:
        log.append(*(sent(event()) for _ in range(500)))
        log.append(judged('{"event_name": "one"}', '{"event_name": "two"}', accepted=50), kind=JUDGED)
        outcomes = [row.outcome for row in shown(log, 10)]
        assert outcomes.count("rejected") == 2
        log.append(*(judged("{}", "{}") for _ in range(50)), kind=JUDGED)
        outcomes = [row.outcome for row in shown(log, 10)]
        assert 5 <= outcomes.count("rejected") < 10

    def test_nothing_is_decoded_beyond_the_budget_and_what_was_not_searched_is_said(self, log: Log) -> None:
        log.append(*(sent(event(device_id="d_x", event_name=str(n))) for n in range(10)))
        size = len(sent(event(device_id="d_x", event_name="0")))
        found = sample(log.stretches(), Search(Filter(device="d_x")), 100, Decoding(3 * size).open)
        assert (len(found.rows), found.matching, found.unsearched) == (3, 3, 7)

    def test_a_rare_event_is_found_among_many_with_a_budget_for_few(self, log: Log) -> None:
        log.append(*(sent(event(device_id=f"d_{n}")) for n in range(3000)))
        log.append(sent(event(device_id="d_rare"), event()))
        log.append(*(sent(event(device_id=f"d_{n}")) for n in range(3000)))
        found = sample(log.stretches(), Search(Filter(device="d_rare")), 100, Decoding(2000).open)
        assert [row.device for row in found.rows] == ["d_rare"]
        assert (found.among, found.matching, found.unsearched) == (6002, 1, 0)

    def test_a_damaged_frame_is_not_shown(self, log: Log) -> None:
        log.append(sent(event(event_name="first")), sent(event(event_name="second")))
        (stretch,) = log.stretches()
        broken = stretch._replace(data=stretch.data.replace(b"first", b"thirs"))
        rows = sample([broken], Search(Filter()), 10, Decoding(PLENTY).open).rows
        assert [row.name for row in rows] == ["second"]

    def test_a_frame_that_nobody_can_read_is_seen(self, log: Log) -> None:
        log.writer.commit(pack_frame(log.writer.next_offset(), RECEIVED_US, AS_SENT, 1, 0, [b"{"]))
        (row,) = shown(log)
        assert row.reason is not None
        assert row.reason.code == "unreadable_frame"

    def test_the_newest_are_the_last_ones(self, log: Log) -> None:
        log.append(*(sent(event(event_name=f"{n}a"), event(event_name=f"{n}b")) for n in range(20)))
        rows = newest(log.stretches(), Search(Filter()), 3, Decoding(PLENTY).open)
        assert [row.name for row in rows] == ["18b", "19a", "19b"]

    @given(st.integers(0, 300), st.integers(0, 300))
    def test_a_spread_has_no_item_twice_and_nothing_far_from_all_of_them(self, length: int, count: int) -> None:
        found = list(spread(range(length), count))
        assert len(found) == len(set(found)) <= count or count >= length
        if count >= length:
            assert found == list(range(length))
        elif count > 5:
            assert max(b - a for a, b in zip([0, *sorted(found)], [*sorted(found), length], strict=True)) < 3 * (
                length / len(found) + 1
            )


class TestFilter:
    @pytest.mark.parametrize(
        ("wanted", "names"),
        [
            ({"project": "kx_proj_b"}, ["b"]),
            ({"environment": "production"}, ["a", "b", "d"]),
            ({"environment": "staging"}, ["c", "Good", "e"]),
            ({"platform": "web"}, ["d", "Good", "e"]),
            ({"type": "scroll"}, ["c"]),
            ({"name": "oo"}, ["Good"]),
            ({"device": "d_7"}, ["d", "e"]),
            ({"outcome": "rejected"}, ["e"]),
            ({"outcome": "accepted", "environment": "staging"}, ["c", "Good"]),
            ({"outcome": "refused"}, []),
            ({"project": "kx_proj_a", "device": "d_1", "platform": "ios"}, ["a", "c"]),
        ],
    )
    def test_each_member_of_a_filter(self, log: Log, wanted: dict[str, Any], names: list[str]) -> None:
        log.append(
            sent(event(event_name="a")),
            sent(event(event_name="b"), project_id="kx_proj_b"),
            sent(event(event_name="c", event_type="scroll"), environment="staging"),
            sent(event(event_name="d", device_id="d_7"), platform="web"),
        )
        log.append(judged('{"event_name": "e", "device_id": "d_7"}', accepted=1), kind=JUDGED)
        assert [row.name for row in shown(log, 100, **wanted)] == names

    @pytest.mark.parametrize("ascii_only", [True, False])
    @pytest.mark.parametrize("text", ["Café", "日本", "🙂 buy", 'a "quoted" one', "back\\slash", "/a/b", "tab\there"])
    def test_a_text_is_found_however_json_writes_it(self, log: Log, text: str, ascii_only: bool) -> None:
        log.append(sent(event(event_name=text, device_id=text), ascii_only=ascii_only), sent(event()))
        texts = [json.dumps(event(event_name=text, device_id=text), ensure_ascii=ascii_only)]
        log.append(judged(*texts), kind=JUDGED)
        for wanted in ({"name": text}, {"device": text}):
            assert [row.outcome for row in shown(log, 100, **wanted)] == ["accepted", "rejected"]

    def test_letters_that_nobody_needs_to_escape_are_found_too(self, log: Log) -> None:
        log.append(sent(event(device_id="d_rare")).replace(b"d_rare", rb"\u0064_r\u0061re"))
        log.append(sent(event(event_name="/a/b")).replace(b"/a/b", rb"\/a\/b"))
        assert len(shown(log, device="d_rare")) == 1
        assert len(shown(log, name="a/b")) == 1

    def test_escapes_of_other_letters_do_not_make_a_payload_worth_decoding(self, log: Log) -> None:
        log.append(sent(event(event_name='say "x"\n\u0007'), ascii_only=True))
        (stretch,) = log.stretches()
        assert not Search(Filter(device="d_rare")).may_have(stretch.data, stretch.heads[0])

    @settings(max_examples=200, deadline=None)
    @given(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        st.integers(0, 8),
        st.integers(0, 8),
        st.booleans(),
    )
    def test_no_payload_that_has_a_text_is_passed_over(
        self, text: str, start: int, length: int, as_ascii: bool
    ) -> None:
        payload = sent(event(event_name=text, device_id=text), ascii_only=as_ascii)
        data = b"".join(pack_frame(0, 1, AS_SENT, 1, 0, [payload]))
        within = judged(json.dumps(event(event_name=text, device_id=text), ensure_ascii=as_ascii))
        both = data + b"".join(pack_frame(1, 1, JUDGED, 0, 1, [within]))
        part = text[start : start + length]
        for search in (Search(Filter(device=text)), Search(Filter(name=part or text))):
            assert [search.may_have(both, head) for head in feed_heads(both)] == [True, True]


def feed_heads(data: bytes) -> list[FrameHead]:
    return list(heads(data, 0))


class Silence:
    """A log of the program that takes everything."""

    def warning(self, _event: str, **_facts: object) -> None:
        """Says nothing."""


class Loader:
    """A loader that has loaded what a test says."""

    def __init__(self) -> None:
        self.loaded = Loaded("", {}, [], 0, 0)

    def __call__(self, since: int | None) -> Loaded:
        return self.loaded._replace(copies=self.loaded.copies[since or 0 :], next=len(self.loaded.copies))


class Door:
    """Refused requests, as a test says."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def open(self) -> ReadRefused:
        told = len(self.rows)

        def read() -> tuple[list[Row], list[Row]]:
            nonlocal told
            known, new = self.rows[:told], self.rows[told:]
            told = len(self.rows)
            return known, new

        return read


def follower(log: Log, loader: Loader | None = None, door: Door | None = None, watchers_max: int = 3) -> Follower:
    return Follower(
        Sources(lambda: LogPreview(log.folder), loader or Loader(), (door or Door()).open), watchers_max, Silence()
    )


def watching(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(bounded())


async def next_of(messages: AsyncIterator[Message | None], event: str) -> Any:
    async for each in messages:
        if each is not None and each.event == event:
            return json.loads(each.data)
    raise EOFError(event)


class TestFollower:
    def test_a_watcher_sees_the_end_of_what_was_there_and_then_what_comes(self, log: Log) -> None:
        log.append(*(sent(event(event_name=f"old{n}")) for n in range(150)))

        async def test() -> None:
            feed = follower(log)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            first = await next_of(messages, "rows")
            assert [row["name"] for row in first] == [f"old{n}" for n in range(50, 150)]
            log.append(sent(event(event_name="new")))
            assert [row["name"] for row in await next_of(messages, "rows")] == ["new"]
            assert (await next_of(messages, "rate"))["shown"] >= 0
            feed.close()

        watching(test)

    def test_one_that_comes_back_sees_only_what_it_missed(self, log: Log) -> None:
        log.append(*(sent(event(event_name=f"n{n}")) for n in range(5)))

        async def test() -> None:
            feed = follower(log)
            watcher = Watcher(Search(Filter()), parse_positions("0:3"))
            assert feed.watch(watcher)
            async for each in watcher.messages(1):
                assert each is not None
                assert each.id == "0:5"
                assert [row["name"] for row in json.loads(each.data)] == ["n3", "n4"]
                break
            feed.close()

        watching(test)

    def test_the_thread_lives_only_while_somebody_watches(self, log: Log) -> None:
        # Those of other tests may still be ending.
        others = set(threading.enumerate())

        def threads() -> list[threading.Thread]:
            return [each for each in threading.enumerate() if each.name == "live-follower" and each not in others]

        async def test() -> None:
            feed = follower(log)
            assert threads() == []
            for _ in range(2):
                watchers = [Watcher(Search(Filter()), None) for _ in range(2)]
                for watcher in watchers:
                    assert feed.watch(watcher)
                (thread,) = threads()
                await next_of(watchers[1].messages(1), "rows")
                for watcher in watchers:
                    feed.leave(watcher)
                await asyncio.to_thread(thread.join, 10)
                assert threads() == []

        watching(test)

    def test_there_are_never_more_watchers_than_may_be(self, log: Log) -> None:
        async def test() -> None:
            feed = follower(log, watchers_max=2)
            watchers = [Watcher(Search(Filter()), None) for _ in range(3)]
            assert [feed.watch(watcher) for watcher in watchers] == [True, True, False]
            feed.leave(watchers[0])
            assert feed.watch(watchers[2])
            feed.close()

        watching(test)

    def test_closing_ends_every_stream_and_lets_nobody_in(self, log: Log) -> None:
        async def test() -> None:
            feed = follower(log)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            feed.close()
            assert [part[:6] async for part in told(watcher, live(), 5)][:1] == [b"retry:"]
            assert not feed.watch(Watcher(Search(Filter()), None))

        watching(test)

    def test_a_log_that_cannot_be_read_is_told_and_tried_again(self, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        real = LogPreview.partitions
        failures = iter([OSError("the disk is gone")])

        def fail_once(preview: LogPreview) -> list[int]:
            for failure in failures:
                raise failure
            return real(preview)

        monkeypatch.setattr(LogPreview, "partitions", fail_once)
        monkeypatch.setattr(feed_follower, "FAULT_WAIT_S", 0.01)

        async def test() -> None:
            feed = follower(log)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            assert "the disk is gone" in (await next_of(messages, "fault"))["message"]
            assert await next_of(messages, "rows") == []
            feed.close()

        watching(test)

    def test_a_flood_shows_a_sample_with_its_rate(self, log: Log) -> None:
        async def test() -> None:
            feed = follower(log)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            assert await next_of(messages, "rows") == []
            log.append(*(sent(event()) for _ in range(5000)))
            rows = await next_of(messages, "rows")
            assert 0 < len(rows) <= ROWS_AT_ONCE_MAX
            rate = await next_of(messages, "rate")
            assert rate["arriving"] > 1000 > rate["shown"] > 0
            assert rate["matching"] == rate["among"] == rate["arriving"]
            feed.close()

        watching(test)


def refusal(number: int, project: str | None = "kx_proj_a") -> Row:
    return Row(
        id=f"r{number}", at="2026-01-01", outcome="refused", project=project, reason=Reason("unauthorized", "No.")
    )


class TestOutcomes:
    def test_an_accepted_event_is_said_to_be_stored_or_a_copy_once_it_is_loaded(self, log: Log) -> None:
        log.append(sent(event(), event()), sent(event()))

        async def test() -> None:
            loader = Loader()
            feed = follower(log, loader)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            assert len(await next_of(messages, "rows")) == 3
            loader.loaded = Loaded("", {0: 1}, [(0, 0, 1)], 0, 0)
            assert await next_of(messages, "settled") == {"stored": ["0:0:0"], "duplicate": ["0:0:1"]}
            loader.loaded = Loaded("", {0: 2}, [(0, 0, 1)], 0, 0)
            assert await next_of(messages, "settled") == {"stored": ["0:1:0"]}
            feed.close()

        watching(test)

    def test_what_was_loaded_before_somebody_looked_is_told_with_the_first_rows(self, log: Log) -> None:
        log.append(sent(event()))
        log.append(judged("{}"), kind=JUDGED)
        log.append(sent(event()))

        async def test() -> None:
            loader = Loader()
            loader.loaded = Loaded("", {0: 3}, [(0, 2, 0)], 0, 0)
            feed = follower(log, loader)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            assert await next_of(watcher.messages(1), "settled") == {"stored": ["0:0:0"], "duplicate": ["0:2:0"]}
            feed.close()

        watching(test)

    def test_nothing_is_said_of_events_whose_copies_the_record_has_lost(self, log: Log) -> None:
        log.append(sent(event(), event()))

        async def test() -> None:
            loader = Loader()
            feed = follower(log, loader)
            watcher = Watcher(Search(Filter()), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            await next_of(messages, "rows")
            loader.loaded = Loaded("", {0: 1}, [(0, 0, 1)], 5, 0)
            assert await next_of(messages, "settled") == {"duplicate": ["0:0:1"]}
            feed.close()

        watching(test)

    def test_who_asks_for_copies_sees_old_ones_and_new_ones_and_nothing_else(self, log: Log) -> None:
        log.append(sent(event(event_name="first"), event(event_name="copy")))

        async def test() -> None:
            loader = Loader()
            loader.loaded = Loaded("", {0: 1}, [(0, 0, 1)], 0, 0)
            feed = follower(log, loader)
            watcher = Watcher(Search(Filter(outcome="duplicate", type="tap")), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            rows = await next_of(messages, "rows")
            assert [(row["name"], row["outcome"]) for row in rows] == [("copy", "duplicate")]
            log.append(sent(event(event_name="again"), event(event_name="new"), event(event_type="other")))
            log.append(sent(event(event_name="tells that the one before was read")))
            await next_of(messages, "rate")
            loader.loaded = Loaded("", {0: 3}, [(0, 0, 1), (0, 1, 0), (0, 1, 2)], 0, 0)
            rows = await next_of(messages, "rows")
            assert [(row["name"], row["outcome"]) for row in rows] == [("again", "duplicate")]
            feed.close()

        watching(test)


class TestLook:
    def test_a_look_gives_the_newest_first_with_what_is_known_of_them(self, log: Log) -> None:
        log.append(sent(event(event_name="a"), event(event_name="b")))
        log.append(judged('{"event_name": "c"}'), kind=JUDGED)
        log.append(sent(event(event_name="d")))
        loader, door = Loader(), Door()
        loader.loaded = Loaded("", {0: 2}, [(0, 0, 1)], 0, 0)
        door.rows = [refusal(1)]
        sources = Sources(lambda: LogPreview(log.folder), loader, door.open)
        assert [(row.name, row.outcome) for row in look(sources, Filter())] == [
            ("d", "accepted"),
            ("c", "rejected"),
            ("b", "duplicate"),
            ("a", "stored"),
            (None, "refused"),
        ]
        assert [row.name for row in look(sources, Filter(name="d"))] == ["d"]
        assert [row.name for row in look(sources, Filter(outcome="duplicate"))] == ["b"]


class TestRefused:
    def test_refused_requests_are_shown_among_the_rest(self, log: Log) -> None:
        async def test() -> None:
            door = Door()
            door.rows = [refusal(1), refusal(2, "kx_proj_b")]
            feed = follower(log, door=door)
            watcher = Watcher(Search(Filter(project="kx_proj_a", environment="production")), None)
            assert feed.watch(watcher)
            messages = watcher.messages(1)
            assert [row["id"] for row in await next_of(messages, "rows")] == ["r1"]
            door.rows += [refusal(3), refusal(4, None)]
            assert [row["id"] for row in await next_of(messages, "rows")] == ["r3"]
            feed.close()

        watching(test)

    @pytest.mark.parametrize(
        ("wanted", "is_shown"),
        [
            ({}, True),
            ({"outcome": "refused"}, True),
            ({"outcome": "accepted"}, False),
            ({"device": "d_1"}, False),
            ({"project": "kx_proj_b"}, False),
            ({"platform": "ios"}, True),
        ],
    )
    def test_which_refusals_a_filter_takes(self, wanted: dict[str, Any], is_shown: bool) -> None:
        assert wants_refused(Filter(**wanted), "kx_proj_a", None, "ios") == is_shown

    def test_those_of_nobody_knows_whom_are_shown_to_who_asks_for_them(self) -> None:
        assert not wants_refused(Filter(project="kx_proj_a"), None, None, None)
        assert wants_refused(Filter(project="kx_proj_a", strangers=True), None, None, None)
        assert not wants_refused(Filter(project="kx_proj_a", strangers=True), "kx_proj_b", None, None)


def live(*answers: bool) -> Callable[[], Awaitable[bool]]:
    """A session that is live as said, one time after the other, and then for ever."""
    left = iter(answers)

    async def ask() -> bool:
        return next(left, True)

    return ask


class TestWatcher:
    def test_one_that_does_not_keep_up_loses_rows_and_is_told_how_many(self) -> None:
        async def test() -> None:
            watcher = Watcher(Search(Filter()), None)
            for number in range(12):
                watcher.tell(message("rows", [number], rows=QUEUED_ROWS_MAX // 10))
            watcher.end()
            await asyncio.sleep(0)
            found = [each async for each in watcher.messages(1) if each is not None]
            assert [each.event for each in found] == ["dropped", *["rows"] * 10]
            assert json.loads(found[0].data) == {"rows": QUEUED_ROWS_MAX // 10 * 2}

        watching(test)

    def test_silence_is_filled_with_beats_and_ends_with_the_session(self) -> None:
        async def test() -> None:
            watcher = Watcher(Search(Filter()), None)
            parts = [part async for part in told(watcher, live(True, False), 0.01)]
            assert parts[0] == b"retry: 1000\n\n"
            assert parts[1] == b": still here\n\n"
            assert parts[-1] == b"event: ended\ndata: {}\n\n"

        watching(test)

    def test_a_stream_that_is_never_silent_ends_with_the_session_too(self) -> None:
        async def test() -> None:
            watcher = Watcher(Search(Filter()), None)
            told_to = asyncio.create_task(chatter(watcher))
            parts = [part async for part in told(watcher, live(False), 0.05)]
            told_to.cancel()
            assert parts[-1] == b"event: ended\ndata: {}\n\n"
            assert b": still here\n\n" not in parts

        watching(test)

    def test_a_message_is_a_server_sent_event(self) -> None:
        assert message("rows", ["a\nb"], rows=1, id="0:1").encode() == b'id: 0:1\nevent: rows\ndata: ["a\\nb"]\n\n'


async def chatter(watcher: Watcher) -> None:
    while True:
        watcher.tell(message("rate", {}))
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("text", "positions"),
    [("", None), ("0:12", {0: 12}), ("0:12,3:4", {0: 12, 3: 4}), ("x", None), ("0:1,", None), ("0:-1", None)],
)
def test_positions_in_the_id_of_a_message(text: str, positions: dict[int, int] | None) -> None:
    assert parse_positions(text) == positions
