"""Imports: what is made of rows, what becomes of them, and that nothing is lost or doubled on the way."""

import csv
import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kixo import decode
from kixo.cli import run
from kixo.client.surroundings import Answer, Surroundings
from kixo.conformance import judge
from kixo.conformance.task import KEY, PROJECT
from kixo.errors import BadArgument, EventsRejected, RequestError, SendFailed
from kixo.identity import scope
from kixo.lake.schema import EVENTS
from kixo.query import QueryCaps, lake_snapshot, open_query
from kixo.query.selection import Selection, select
from kixo.query.write import WRITERS
from kixo.send.bookmark import Bookmarks
from kixo.send.delivery import Target
from kixo.send.gathering import HELD_EVENTS_MAX, Gathering
from kixo.send.importing import Plan, Summary, send_file
from kixo.send.ledger import Counts, Entry, Ledger, Refusal
from kixo.send.rows import BadRow, Place, Row, read_rows
from kixo.send.shaping import parse_maps
from kixo.timestamp import EARLIEST_US, LATEST_US, MICROSECOND, parse_us
from tests.conftest import KIXO, running
from tests.test_query import append
from tests.test_query import event as lake_row

TARGET = Target("http://nowhere.example/v1/batch", PROJECT, KEY)
FULL = {
    "event_type": "custom",
    "event_name": "buy",
    "device_id": "d",
    "session_id": "s",
    "timestamp": "2026-04-08T12:00:00Z",
    "bundle_id": "b",
    "platform": "web",
}


class FakeServer:
    """Judges requests as the server does, and keeps what it takes. `answers` come first, one for each request."""

    def __init__(self, *answers: Answer | OSError) -> None:
        self.answers = list(answers)
        self.batches: list[dict[str, Any]] = []
        self.texts: list[bytes] = []
        self.attempts = 0
        self.lock = threading.Lock()

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        with self.lock:
            self.attempts += 1
            if self.answers:
                answer = self.answers.pop(0)
                if isinstance(answer, OSError):
                    raise answer
                return answer
            return self._take(judge.unpack(body, headers["Content-Type"], headers["Content-Encoding"]))

    def _take(self, body: bytes) -> Answer:
        try:
            opened = judge.judge(body)
        except RequestError as error:
            if error.code != "no_valid_events":
                status, words = judge.failure(error)
                return Answer(status, {}, words)
            return Answer(*_split(judge.failure(error)))
        self.texts.append(body)
        events = [seen.members for place, seen in enumerate(opened.events) if place not in opened.rejections]
        self.batches.append({**opened.envelope, "events": events})
        return Answer(*_split(judge.answer(len(opened.events), opened.rejections)))

    def close(self) -> None:
        pass

    def events(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches for event in batch["events"]]


def _split(found: tuple[int, bytes]) -> tuple[int, dict[str, str], bytes]:
    return found[0], {}, found[1]


class Import:
    """Imports of one file into one fake server."""

    def __init__(self, path: Path, server: FakeServer | None = None) -> None:
        self.path = path
        self.server = server or FakeServer()
        self.rejected: list[dict[str, Any]] = []

    def run(self, *maps: str, bookmark: Path | None = None, **plan: Any) -> Summary:
        shape = replace(parse_maps(maps), **plan.pop("shape", {}))
        suffix = {".csv": "csv", ".parquet": "parquet"}.get(self.path.suffix, "json")
        made = Plan(target=TARGET, format=suffix, shape=shape, **plan)  # type: ignore[arg-type]
        outside = Surroundings(open_transport=lambda url, timeout_s: self.server, random=lambda: 0.0)
        with self.path.open("rb") as file:
            bookmarks = None if bookmark is None else Bookmarks(bookmark, file, "purpose", suffix == "parquet")
            return send_file(
                file, made, bookmarks, lambda line: self.rejected.append(json.loads(line)), lambda _: None, outside
            )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Import]:
    def written(name: str, *lines: object, server: FakeServer | None = None) -> Import:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_bytes("".join(text + "\n" for text in texts).encode("utf-8", "surrogateescape"))
        return Import(path, server)

    return written


Write = Callable[..., Import]


class TestRows:
    def test_an_event_as_the_api_has_it_arrives_as_it_is(self, write: Write) -> None:
        properties = '{"a" : 1e999, "b":"\\u0000", "c": [1.0, {"d":null}]}'
        line = json.dumps(FULL)[:-1] + f', "event_id": "e", "properties": {properties}}}'
        imported = write("x.jsonl", line)
        assert imported.run().rejected == 0
        assert f'"properties":{properties}'.encode() in imported.server.texts[0]
        assert imported.server.batches[0]["bundle_id"] == "b"
        assert imported.server.batches[0]["sent_at"] is None
        assert imported.server.events()[0]["event_id"] == "e"

    def test_rows_are_sent_by_environment_bundle_and_platform(self, write: Write) -> None:
        rows = [FULL | {"bundle_id": f"b{number % 2}", "environment": "staging"} for number in range(6)]
        imported = write("x.jsonl", *rows, FULL)
        imported.run()
        found = {(batch["environment"], batch["bundle_id"]): len(batch["events"]) for batch in imported.server.batches}
        assert found == {("staging", "b0"): 3, ("staging", "b1"): 3, ("production", "b"): 1}

    @pytest.mark.parametrize(("member", "flag"), [("bundle_id", "--bundle"), ("platform", "--platform")])
    def test_a_row_without_its_app_is_refused_with_what_to_give(self, write: Write, member: str, flag: str) -> None:
        imported = write("x.jsonl", {name: value for name, value in FULL.items() if name != member}, FULL)
        summary = imported.run()
        assert (summary.rejected, len(imported.server.events())) == (1, 1)
        rejected = imported.rejected[0]["rejected"]
        assert (rejected["field"], rejected["code"]) == (member, "missing")
        assert flag in rejected["message"]

    def test_defaults_stand_in_for_what_is_missing_or_null_and_only_then(self, write: Write) -> None:
        imported = write("x.jsonl", {"event_name": "n", "device_id": None, "timestamp": "2026-04-08"}, FULL)
        defaults = dict.fromkeys(("event_type", "event_name", "device_id", "session_id", "bundle_id"), "default")
        imported.run(shape={"defaults": {**defaults, "platform": "ios", "environment": "development"}})
        first, second = sorted(imported.server.batches, key=lambda batch: str(batch["platform"]))
        assert (first["platform"], first["bundle_id"], first["environment"]) == ("ios", "default", "development")
        assert (first["events"][0]["event_name"], first["events"][0]["device_id"]) == ("n", "default")
        assert (second["platform"], second["events"][0]["device_id"]) == ("web", "d")

    def test_columns_of_csv_are_mapped_and_nested(self, write: Write) -> None:
        imported = write(
            "x.csv",
            "\ufeffuser,when,price,properties.city,properties.address.zip,other",
            'ü,1712577600,9.5,"a ""b"",\nc",01234,kept',
            "v,1712577601,,,,",
        )
        shape = {"defaults": dict.fromkeys(FULL, "x") | {"platform": "web"}, "epoch": "s"}
        maps = ("user=device_id", "when=timestamp", "price=properties.price", "*=properties.*")
        imported.run(*maps, typed=True, shape=shape)
        first, second = imported.server.events()
        assert first["device_id"] == "ü"
        assert first["timestamp"] == "2024-04-08T12:00:00.000000Z"
        assert first["properties"] == {"city": 'a "b",\nc', "address": {"zip": "01234"}, "price": 9.5, "other": "kept"}
        assert "properties" not in second

    def test_columns_that_go_into_nothing_are_named(self, write: Write) -> None:
        assert write("x.jsonl", FULL | {"extra": 1, "date": "x"}).run().unused == ["extra"]

    def test_parquet_is_read_with_its_types(self, tmp_path: Path) -> None:
        at = datetime(2026, 4, 8, 12, tzinfo=UTC)
        table = pa.Table.from_pylist([FULL | {"timestamp": at, "properties": {"n": 1, "deep": {"x": None}}}])
        pq.write_table(table, tmp_path / "x.parquet")
        imported = Import(tmp_path / "x.parquet")
        imported.run()
        (found,) = imported.server.events()
        assert found["timestamp"] == "2026-04-08T12:00:00.000000Z"
        assert found["properties"] == {"n": 1, "deep": {"x": None}}

    @pytest.mark.parametrize("text", ["user", "=device_id", "user=nothing", "a=properties.", "*=device.*"])
    def test_a_mapping_that_says_nothing_is_refused(self, text: str) -> None:
        with pytest.raises(BadArgument, match="COLUMN=MEMBER"):
            parse_maps((text,))


class TestBadRows:
    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("nonsense", "not_json"),
            ("[1]", "not_an_object"),
            ('{"a": NaN}', "not_json"),
            ('{"a": "\udcff"}', "not_utf8"),
            ('{"a": ' + "[" * 100_000 + "}", "too_deep"),
            (json.dumps(FULL | {"properties": "no object"}), "not_json"),
            (json.dumps(FULL | {"properties": 1, "properties.a": 1}), "not_an_object"),
            (json.dumps(FULL | {"properties.a": 1, "properties.a.b": 1}), "not_an_object"),
            (json.dumps(FULL | {"timestamp": "soon"}), "invalid_timestamp"),
            (json.dumps(FULL | {"device_id": 5}), "wrong_type"),
            (json.dumps({name: value for name, value in FULL.items() if name != "session_id"}), "missing"),
            (json.dumps(FULL | {"platform": "windows"}), "invalid_request"),
        ],
    )
    def test_one_is_named_with_its_line_and_the_others_are_sent(self, write: Write, line: str, code: str) -> None:
        imported = write("x.jsonl", FULL, "", line, FULL)
        summary = imported.run()
        assert len(imported.server.events()) == 2
        assert (summary.sent, summary.rejected) == (3, 1)
        assert [(reason.code, reason.rows, reason.examples[0][0]) for reason in summary.reasons] == [(code, 1, 3)]
        assert imported.rejected[0]["rejected"]["line"] == 3

    def test_a_line_that_is_longer_than_any_event_is_passed_over(self, write: Write) -> None:
        imported = write("x.jsonl", FULL, '{"a":"' + "x" * (11 * 1024 * 1024) + '"}', FULL)
        assert imported.run().reasons[0].code == "too_long"
        assert len(imported.server.events()) == 2

    @pytest.mark.parametrize("row", ["a,b", "a,b,c,d", 'a,"b"x,c', "a,b,\udcff"])
    def test_a_bad_row_of_csv_costs_no_other(self, write: Write, row: str) -> None:
        imported = write("x.csv", "device_id,session_id,event_name", "a,b,c", row, "a,b,c")
        summary = imported.run(shape={"defaults": {name: FULL[name] for name in FULL}})
        assert (summary.sent, summary.rejected, len(imported.server.events())) == (3, 1, 2)

    @pytest.mark.parametrize("cell", ["x" * 100 + "\n", "a,b\n", 'say ""so""\n', "x"])
    def test_a_cell_that_is_longer_than_any_event_is_one_bad_row(self, write: Write, cell: str) -> None:
        long = f'tap,"{cell * (12_000_000 // len(cell))}",d,s,2026-04-08T12:00:00Z'
        rows = [long, "tap,good,d,s,2026-04-08T12:00:00Z"]
        importing = write("x.csv", "event_type,event_name,device_id,session_id,timestamp", *rows)
        summary = importing.run(shape={"defaults": {"bundle_id": "b", "platform": "web"}})
        assert (summary.sent, summary.rejected) == (2, 1)
        assert summary.reasons[0].code == "too_long"
        assert [event["event_name"] for event in importing.server.events()] == ["good"]

    def test_a_half_emoji_is_mended_as_the_server_mends_it(self, write: Write) -> None:
        imported = write("x.jsonl", json.dumps(FULL)[:-1] + ', "properties": {"a": "\\ud83d"}}')
        assert imported.run().rejected == 0
        assert imported.server.events()[0]["properties"] == {"a": "\ufffd"}

    def test_more_rejected_than_an_answer_names_are_all_found(self, write: Write) -> None:
        rows = [FULL | ({"timestamp": f"no {number}"} if number % 2 else {}) for number in range(500)]
        imported = write("x.jsonl", *rows)
        assert imported.run().rejected == 250
        assert sorted(found["rejected"]["line"] for found in imported.rejected) == list(range(2, 501, 2))

    def test_what_was_rejected_can_be_mended_and_sent(self, write: Write) -> None:
        first = write("x.jsonl", FULL | {"timestamp": "soon", "environment": "staging"}, FULL)
        first.run()
        mended = [found | {"timestamp": "2026-04-08T12:00:00Z"} for found in first.rejected]
        second = write("mended.jsonl", *mended)
        assert second.run().rejected == 0
        assert second.server.batches[0]["environment"] == "staging"
        assert second.server.events()[0]["event_id"] == first.rejected[0]["event_id"]

    def test_strict_stops_and_begins_with_that_row_again(self, write: Write, tmp_path: Path) -> None:
        imported = write("x.jsonl", FULL, "nonsense", FULL)
        for _ in range(2):
            with pytest.raises(EventsRejected, match="Line 2"):
                imported.run(strict=True, bookmark=tmp_path / "bookmark")


class TestIdentity:
    def test_rows_without_an_id_get_one_that_follows_from_them(self, write: Write) -> None:
        imported = write("x.jsonl", FULL, FULL, FULL | {"event_name": "other"})
        imported.run()
        once = [event["event_id"] for event in imported.server.events()]
        imported.run()
        assert len(set(once)) == 3
        assert sorted(once * 2) == sorted(event["event_id"] for event in imported.server.events())

    def test_another_source_gives_other_ids(self, write: Write) -> None:
        imported = write("x.jsonl", FULL)
        imported.run()
        imported.run(shape={"salt": "another"})
        assert len({event["event_id"] for event in imported.server.events()}) == 2

    def test_an_exported_event_without_an_id_gets_its_identity_for_one(self, write: Write) -> None:
        row = FULL | {"identity": "ab" * 16, "event_id": None, "project_id": "kx_proj_elsewhere"}
        imported = write("x.jsonl", row)
        imported.run()
        assert imported.server.events()[0]["event_id"] == "kixo:" + "ab" * 16

    @pytest.mark.parametrize("identity", ['ab"', "ab\\", {"a": 1}, "", [1]])
    def test_an_identity_that_is_none_costs_no_other_row(self, write: Write, identity: object) -> None:
        imported = write("x.jsonl", FULL, FULL | {"identity": identity}, FULL)
        summary = imported.run()
        assert (summary.sent, summary.rejected) == (3, 1)
        assert [(reason.code, reason.examples[0][0]) for reason in summary.reasons] == [("invalid_identity", 2)]

    def test_an_event_of_the_very_project_is_not_doubled(self, write: Write) -> None:
        identity = scope(PROJECT, "production").hex() + "ab" * 12
        imported = write("x.jsonl", FULL | {"identity": identity}, FULL | {"identity": identity, "event_id": "e"})
        summary = imported.run()
        assert summary.reasons[0].code == "already_there"
        assert [event["event_id"] for event in imported.server.events()] == ["e"]

    def test_the_clients_time_is_sent_and_a_corrected_one_is_told_of(self, write: Write) -> None:
        row = FULL | {"client_timestamp": "2026-04-08T11:00:00Z"}
        imported = write("x.jsonl", row)
        assert imported.run().corrected == 1
        imported.run("timestamp=timestamp")
        assert [event["timestamp"] for event in imported.server.events()] == [
            "2026-04-08T11:00:00Z",
            "2026-04-08T12:00:00Z",
        ]


def answer(status: int, **members: object) -> Answer:
    headers = {"retry-after": "0"}
    return Answer(status, headers, json.dumps({"status": "error", "message": "No.", **members}).encode())


class TestDelivery:
    @pytest.mark.parametrize(
        "failure", [answer(503, code="unavailable"), answer(429, code="rate_limited"), answer(500), OSError("no way")]
    )
    def test_what_may_pass_later_is_repeated(self, write: Write, failure: Answer | OSError) -> None:
        imported = write("x.jsonl", FULL, server=FakeServer(failure, failure))
        assert imported.run(connections=1).rejected == 0
        assert imported.server.attempts == 3

    def test_what_is_too_large_is_split(self, write: Write) -> None:
        too_large = answer(413, code="body_too_large")
        imported = write("x.jsonl", *[FULL] * 8, server=FakeServer(too_large, too_large))
        assert imported.run(connections=1).rejected == 0
        assert [len(batch["events"]) for batch in imported.server.batches] == [2, 2, 4]

    def test_one_event_that_is_too_large_alone_is_rejected(self, write: Write) -> None:
        imported = write("x.jsonl", FULL, server=FakeServer(answer(413, code="body_too_large")))
        assert imported.run().reasons[0].code == "body_too_large"

    def test_a_key_that_is_not_taken_ends_it_at_once(self, write: Write, tmp_path: Path) -> None:
        imported = write("x.jsonl", FULL, server=FakeServer(answer(401, code="unauthorized")))
        with pytest.raises(SendFailed, match="does not take events"):
            imported.run(bookmark=tmp_path / "bookmark")
        assert imported.server.attempts == 1
        assert imported.run(bookmark=tmp_path / "bookmark").rows == 1

    def test_it_gives_up_when_its_patience_is_over_and_can_go_on(self, write: Write, tmp_path: Path) -> None:
        imported = write("x.jsonl", *[FULL] * 5, server=FakeServer(*[OSError("no way")] * 2))
        with pytest.raises(SendFailed, match="Run the same command again"):
            imported.run(connections=1, patience_s=-1.0, bookmark=tmp_path / "bookmark")
        imported.server.answers.clear()
        assert imported.run(bookmark=tmp_path / "bookmark").accepted == 5


class TestBookmark:
    def test_a_file_that_was_sent_is_not_read_again_and_one_that_has_grown_is_gone_on_with(
        self, write: Write, tmp_path: Path
    ) -> None:
        bookmark = tmp_path / "bookmark"
        imported = write("x.jsonl", *[FULL | {"device_id": f"d{number}"} for number in range(10)])
        assert imported.run(bookmark=bookmark).sent == 10
        assert imported.run(bookmark=bookmark).sent == 0
        with imported.path.open("a") as file:
            file.write(json.dumps(FULL) + "\n")
        summary = imported.run(bookmark=bookmark)
        assert (summary.sent, summary.rows, summary.begun_at) == (1, 11, 10)
        assert len({event["event_id"] for event in imported.server.events()}) == 11

    @pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
    def test_it_holds_for_every_format(self, tmp_path: Path, name: str) -> None:
        table = pa.Table.from_pylist([FULL | {"device_id": f"d{number}"} for number in range(2500)])
        path = tmp_path / name
        if name.endswith("parquet"):
            pq.write_table(table, path, row_group_size=700)
        else:
            rows = [table.schema.names, *[list(row.values()) for row in table.to_pylist()]]
            text = io.StringIO()
            csv.writer(text).writerows(rows)
            path.write_text(text.getvalue())
        places = [row.end for row in every_row(path, Place())]
        rest = [row.columns["device_id"] for row in every_row(path, places[999]) if isinstance(row, Row)]
        assert [json.loads(bytes(value)) for value in rest] == [f"d{number}" for number in range(1000, 2500)]

    def test_another_file_or_another_purpose_begins_at_the_start(self, write: Write, tmp_path: Path) -> None:
        imported = write("x.jsonl", FULL, FULL)
        imported.run(bookmark=tmp_path / "bookmark")
        imported.path.write_text(json.dumps(FULL | {"device_id": "D"}) + "\n" + json.dumps(FULL) + "\n")
        assert imported.run(bookmark=tmp_path / "bookmark").sent == 2
        with imported.path.open("rb") as file:
            assert Bookmarks(tmp_path / "bookmark", file, "other", False).find() == (Place(), Counts())

    def test_a_damaged_one_counts_as_none(self, write: Write, tmp_path: Path) -> None:
        (tmp_path / "bookmark").write_bytes(b"{")
        assert write("x.jsonl", FULL).run(bookmark=tmp_path / "bookmark").sent == 1

    @given(st.permutations(range(12)), st.sets(st.integers(0, 11)))
    def test_it_never_passes_a_row_that_is_not_settled(self, order: list[int], refused: set[int]) -> None:
        ledger = Ledger(Place(), Counts(), lambda _: None)
        for line in range(12):
            ledger.begin(line, Place(line + 1, line + 1))
        settled: set[int] = set()
        for line in order:
            ledger.settle([line], [] if line not in refused else [refusal(line)])
            settled.add(line)
            place, counts = ledger.bookmark()
            first_open = next((number for number in range(12) if number not in settled), 12)
            assert place.number == first_open
            assert counts == Counts(first_open, len([line for line in refused if line < first_open]))


def every_row(path: Path, start: Place) -> list[Row | BadRow]:
    with path.open("rb") as file:
        return list(read_rows(file, "parquet" if path.suffix == ".parquet" else "csv", start, False))


def refusal(line: int) -> Refusal:
    return Refusal(line, None, "code", "message", b"{}")


def test_gathering_holds_no_more_than_its_bound() -> None:
    gathering = Gathering()
    gone = 0
    for number in range(HELD_EVENTS_MAX * 2):
        envelope = (b"", str(number % 1000).encode(), b"")
        gone += sum(len(batch.entries) for batch in gathering.add(envelope, Entry(number, b"{}")))
        assert number + 1 - gone <= HELD_EVENTS_MAX
    assert gone + sum(len(batch.entries) for batch in gathering.rest()) == HELD_EVENTS_MAX * 2


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
NUMBERS = st.sampled_from(["1e999", "-0", "1.50", "9" * 400, "0.1e-400", "12345678901234567890"])
VALUES = st.recursive(
    st.one_of(NUMBERS, st.sampled_from(["null", "true", '"\\u0000"', '"\\ud83d\\ude00"']), TEXT.map(json.dumps)),
    lambda inner: st.lists(inner, max_size=3).map(lambda found: "[" + " , ".join(found) + "]"),
    max_leaves=5,
)
PROPERTIES = st.dictionaries(TEXT, VALUES, max_size=4).map(
    lambda found: (
        "{" + ", ".join(f"{json.dumps(name, ensure_ascii=False)} : {value}" for name, value in found.items()) + "}"
    )
)
INSTANTS = st.integers(EARLIEST_US, LATEST_US).map(lambda us: datetime(1970, 1, 1, tzinfo=UTC) + us * MICROSECOND)
ROWS = st.fixed_dictionaries(
    {
        **dict.fromkeys(("event_type", "event_name", "device_id", "session_id", "bundle_id"), TEXT),
        "platform": st.sampled_from(["ios", "android", "web"]),
        "environment": st.sampled_from(["production", "staging", "development"]),
        "client_timestamp": INSTANTS,
        "event_id": st.none() | TEXT,
        "properties": PROPERTIES,
    }
)
SENT = ("event_type", "event_name", "device_id", "session_id", "bundle_id", "platform", "environment")


@pytest.mark.parametrize("format", ["json", "csv", "parquet"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=30))
def test_what_is_exported_and_imported_is_what_it_was(
    tmp_path_factory: pytest.TempPathFactory, format: str, rows: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    append(folder / "lake", EVENTS, [lake_row(number, **row) for number, row in enumerate(rows)])
    path = folder / f"events.{'jsonl' if format == 'json' else format}"
    with open_query(folder / "lake", QueryCaps(256 * 1024 * 1024, 30.0)) as engine, path.open("wb") as sink:
        WRITERS[format](engine.run(select(Selection())), sink)
    imported = Import(path)
    assert imported.run().rejected == 0
    assert sorted(map(repr, arrived(imported.server))) == sorted(
        repr(due(number, row)) for number, row in enumerate(rows)
    )


def arrived(server: FakeServer) -> Iterator[tuple[Any, ...]]:
    for text in server.texts:
        opened = decode.open_request(text)
        for raw in opened.events:
            accepted = decode.judge_events([raw]).accepted[0]
            members = {**opened._asdict(), **{name: getattr(accepted, name) for name in accepted.__struct_fields__}}
            sent = tuple(members[name] for name in SENT)
            yield *sent, parse_us(accepted.timestamp), accepted.event_id, accepted.properties


def due(number: int, row: dict[str, Any]) -> tuple[Any, ...]:
    event_id = row["event_id"] or "kixo:" + number.to_bytes(16, "big").hex()
    at = parse_us(row["client_timestamp"].isoformat())
    return (*(row[name] for name in SENT), at, event_id, row["properties"])


class TestCommand:
    def test_a_project_goes_into_another_over_a_real_server(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with running(tmp_path / "data", {}, loader=True) as server:
            first, second = server.project(), server.project()
            rows = [FULL | {"device_id": f"d{number}", "properties": {"n": number}} for number in range(2500)]
            source = tmp_path / "source.jsonl"
            source.write_text("".join(json.dumps(row) + "\n" for row in rows))
            environment = {"KIXO_URL": server.url}
            key = tmp_path / "key"
            for project, path in ((first, source), (second, tmp_path / "copy.csv")):
                key.write_text(project.key + "\n")
                arguments = ["send", path, "--project", project.id, "--key-file", key, "--json"]
                done = kixo(*arguments, environment=environment)
                assert json.loads(done.stdout)["accepted"] == 2500
                wait_for_rows(server.folder, project.id, 2500)
                if project is first:
                    exported = ["export", "--data-dir", server.folder, "--project", first.id, "--output"]
                    kixo(*exported, tmp_path / "copy.csv")
        members = "event_type, event_name, device_id, session_id, client_timestamp, properties, event_id"
        found = [
            stored(server.folder, f"SELECT {members} FROM events WHERE project_id = '{project.id}'")
            for project in (first, second)
        ]
        assert len(found[0]) == 2500
        assert found[0] == found[1]

    def test_killed_in_the_middle_and_run_again_nothing_is_lost_or_doubled(self, tmp_path: Path) -> None:
        path = tmp_path / "x.jsonl"
        path.write_text("".join(json.dumps(FULL | {"device_id": f"d{number}"}) + "\n" for number in range(60_000)))
        bookmark = tmp_path / "bookmark"
        command = ["send", path, "--project", PROJECT, "--state", bookmark, "--connections", "2", "--json"]
        with slow_server(bookmark.exists) as (url, server, go_on):
            environment = {**os.environ, "KIXO_URL": url, "KIXO_API_KEY": KEY}
            with subprocess.Popen([str(KIXO), *map(str, command)], env=environment) as process:
                go_on.reached.wait(60)
                process.send_signal(signal.SIGKILL)
            before = len(server.events())
            go_on.set()
            summary = json.loads(kixo(*command, environment=environment).stdout)
        assert process.returncode == -signal.SIGKILL
        assert 0 < before < 60_000
        assert 0 < summary["begun_at"] <= before
        assert summary["accepted"] == 60_000
        ids = [event["event_id"] for event in server.events()]
        assert len(set(ids)) == 60_000
        assert {event["device_id"] for event in server.events()} == {f"d{number}" for number in range(60_000)}
        assert len(ids) < 120_000 - summary["begun_at"]

    def test_stdin_is_read(self, tmp_path: Path) -> None:
        with slow_server(lambda: False) as (url, server, _):
            done = kixo(
                "send",
                "-",
                "--project",
                PROJECT,
                environment={"KIXO_URL": url, "KIXO_API_KEY": KEY},
                given=json.dumps(FULL),
            )
        assert "1 of 1 events taken" in done.stdout
        assert len(server.events()) == 1

    def test_a_named_pipe_is_read_like_stdin(self, tmp_path: Path) -> None:
        pipe = tmp_path / "x.jsonl"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=(json.dumps(FULL),), daemon=True)
        writer.start()
        with slow_server(lambda: False) as (url, server, _):
            done = kixo("send", pipe, "--project", PROJECT, environment={"KIXO_URL": url, "KIXO_API_KEY": KEY})
        assert "1 of 1 events taken" in done.stdout
        assert len(server.events()) == 1

    def test_a_row_that_was_not_taken_gives_status_9_and_a_file_to_mend(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text("nonsense\n" + json.dumps(FULL) + "\n")
        command = ["send", tmp_path / "x.jsonl", "--project", PROJECT, "--rejected", tmp_path / "bad.jsonl"]
        with slow_server(lambda: False) as (url, _, _):
            done = kixo(*command, environment={"KIXO_URL": url, "KIXO_API_KEY": KEY}, status=9)
        assert "not_json" in done.stdout
        assert "1 of 2 rows were not taken" in done.stderr
        assert json.loads((tmp_path / "bad.jsonl").read_text())["text"] == "nonsense"

    def test_where_rows_that_were_not_taken_find_no_room_it_ends_with_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "x.jsonl").write_text(json.dumps(FULL) + "\nnonsense\n")
        command = ["send", tmp_path / "x.jsonl", "--project", PROJECT, "--rejected"]
        with slow_server(lambda: False) as (url, server, _):
            environment = {"KIXO_URL": url, "KIXO_API_KEY": KEY}
            done = kixo(*command, "/dev/full", environment=environment, status=8)
            assert len(done.stderr.splitlines()) == 1
            assert "cannot be written to /dev/full: No space left on device" in done.stderr
            done = kixo(*command, tmp_path / "bad.jsonl", environment=environment, status=9)
        assert json.loads((tmp_path / "bad.jsonl").read_text())["text"] == "nonsense"
        assert len({found["event_id"] for found in server.events()}) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["x.jsonl"], "no project"),
            (["x.jsonl", "--project", "p"], "no API key"),
            (["x.jsonl", "--project", "p", "--key", "k", "--url", "ftp://x"], "--url"),
            (["x.dat", "--project", "p", "--key", "k"], "What format"),
            (["none.jsonl", "--project", "p", "--key", "k"], "cannot be read"),
            (["-", "--format", "parquet", "--project", "p", "--key", "k"], "stdin"),
            (["x.jsonl", "--project", "p", "--key", "k", "--connections", "0"], "--connections"),
        ],
    )
    def test_what_is_missing_is_named(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        words: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("x.jsonl").write_text("")
        assert run(["send", *arguments]) == 2
        assert words in capsys.readouterr().err


def kixo(
    *arguments: object, environment: Mapping[str, str] | None = None, given: str = "", status: int = 0
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(KIXO), *map(str, arguments)],
        env={**os.environ, **(environment or {})},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


def stored(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with open_query(folder / "lake", QueryCaps(256 * 1024 * 1024, 30.0)) as engine:
        return sorted(tuple(row.values()) for row in engine.run(sql).table().to_pylist())


def wait_for_rows(folder: Path, project: str, rows: int) -> None:
    pause = threading.Event()
    for _ in range(600):
        if lake_snapshot(folder / "lake")("events"):
            found = stored(folder, f"SELECT count(*) AS rows FROM events WHERE project_id = '{project}'")
            if found == [(rows,)]:
                return
        pause.wait(0.1)
    pytest.fail(f"{rows} rows never came")


class Gate(threading.Event):
    """Holds requests back until it is set; `reached` says that one was."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()


@contextmanager
def slow_server(holds: Callable[[], bool]) -> Iterator[tuple[str, FakeServer, Gate]]:
    """A fake server over HTTP that takes its time, and holds every request back once `holds` is true."""
    fake, gate = FakeServer(), Gate()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            gate.wait(0.08)
            if holds() and not gate.is_set():
                gate.reached.set()
                gate.wait()
                return
            found = fake.post(body, {name.title(): value for name, value in self.headers.items()})
            self.send_response_only(found.status)
            self.send_header("content-length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", fake, gate
    finally:
        gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
