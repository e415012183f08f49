"""The dry run: it answers what the real call answers, stores nothing, and tells the rows that the loader then makes."""

import gzip
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo import clock
from kixo.dry_run import asks_for_dry_run, explain
from kixo.errors import InvalidRequest
from kixo.ingest import Admission, Ingest, Refusal
from kixo.limits import REFUSED, Unlimited, Verdict
from kixo.loader.pieces import cut_pieces
from kixo.loader.requests import PlacedFrame
from kixo.loader.rows import Rules, event_rows
from kixo.log import Frame
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash
from kixo.timestamp import DAY_US, format_us, parse_us
from tests.conftest import Project, Server, event
from tests.test_answers import DEFLATERS, refused
from tests.test_server import wait_until

NOW_US = parse_us("2026-04-08T12:00:00Z")
TOLERANCE_US = 60_000_000
PROJECT = Project("kx_proj_dry", "kx_key_dry_run")
SNAPSHOT = Snapshot(1, {PROJECT.id: 1}, {key_hash(PROJECT.key): Sender(1, 1, key_hash(PROJECT.key))})
INGEST = Ingest(lambda: SNAPSHOT, Unlimited(), lambda: 0, Settings())
REHEARSAL = INGEST.rehearsal()


def outcome(ingest: Ingest, body: bytes) -> Admission | dict[str, object]:
    """What ingest makes of a body: an admission, or the answer that refuses it."""
    try:
        return ingest.admit(body)
    except Refusal as refusal:
        return refusal.error.answer()


def _tell_unreadable(text: str) -> None:
    pytest.fail(text)


def rows(admission: Admission) -> list[dict[str, Any]]:
    """The rows that the loader makes of what the log is given."""
    if admission.payload is None:
        return []
    kind, accepted, rejected, content = admission.payload
    frame = Frame(0, NOW_US, kind, accepted, rejected, b"".join(content))
    rules = Rules(TOLERANCE_US, 400 * DAY_US, _tell_unreadable)
    made: list[dict[str, Any]] = event_rows(
        cut_pieces([PlacedFrame(0, frame)], rules.tell_unreadable), rules
    ).table.to_pylist()
    return made


instants = st.one_of(
    st.integers(NOW_US - 500 * DAY_US, NOW_US + 500 * DAY_US).map(format_us),
    st.integers(NOW_US - 90_000_000, NOW_US + 90_000_000).map(format_us),
    st.sampled_from(["2026-04-08", "2026-04-08t12:00z", "20260408T120000,5+02", "0001-01-01T00:00:00+10:00"]),
)
texts = st.one_of(
    st.sampled_from(["a", "\0", "é", "\ud800", PROJECT.key, f"x{PROJECT.key}y"]), st.text(min_size=1, max_size=5)
)
members: dict[str, st.SearchStrategy[Any]] = {
    "event_id": st.one_of(st.none(), st.sampled_from(["1", "2"]), st.just("")),
    "properties": st.one_of(st.none(), st.just({}), st.dictionaries(texts, texts, max_size=2), st.just([])),
    "timestamp": st.one_of(instants, instants, instants, st.sampled_from(["soon", 7, None])),
    "event_name": st.one_of(texts, texts, st.just("")),
    "unknown": st.just([{}]),
}
events = st.one_of(
    st.fixed_dictionaries({}, optional=members).map(lambda changes: event(**changes)),
    st.fixed_dictionaries({}, optional=members).map(lambda changes: event(**changes)),
    st.sampled_from([7, None, {}]),
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "environment": st.sampled_from(["staging", "development", None, "live"]),
        "platform": st.sampled_from(["ios", "android", "amiga"]),
        "sent_at": st.one_of(instants, instants, st.sampled_from([None, "soon"])),
        "api_key": st.sampled_from([PROJECT.key, "kx_key_wrong"]),
    },
)


@settings(deadline=None, max_examples=300)
@given(envelopes, st.lists(events, max_size=6))
def test_it_tells_what_the_real_call_answers_and_the_rows_that_the_loader_makes(
    envelope: dict[str, Any], batch: list[object]
) -> None:
    body = PROJECT.body(*batch, **envelope)
    real, tried = outcome(INGEST, body), outcome(REHEARSAL, body)
    if isinstance(real, dict) or isinstance(tried, dict):
        assert real == tried
        return
    assert (tried.payload and tried.payload[:3], tried.body) == (real.payload and real.payload[:3], real.body)
    told = explain(tried, NOW_US, TOLERANCE_US)
    assert [each.index for each in told] == list(range(len(batch)))
    made = rows(real)
    assert [each.index for each in told if each.outcome == "accepted"] == [row["log_index"] for row in made]
    for each, row in zip([each for each in told if each.row], made, strict=True):
        assert each.row is not None
        found = {name: getattr(each.row, name) for name in each.row.__struct_fields__}
        for name in ("timestamp", "client_timestamp", "sent_at", "received_at"):
            found[name] = None if found[name] is None else parse_us(found[name])
            row[name] = None if row[name] is None else parse_us(row[name].isoformat())
        found |= {"identity": bytes.fromhex(found["identity"]), "properties": bytes(found["properties"]).decode()}
        assert found == {name: value for name, value in row.items() if not name.startswith("log_")}
        assert each.identity_from == ("content" if row["event_id"] is None else "event_id")
        assert each.clock == clock.in_words(row["clock_rule"], found["sent_at"], NOW_US)


class Full(Unlimited):
    """A limit that has no place left, and says when somebody takes one."""

    def admit(self, project_number: int, now_ns: int) -> Verdict:
        pytest.fail("a place was taken")

    def peek(self, project_number: int, now_ns: int) -> Verdict:
        return REFUSED


def test_where_no_place_is_left_it_is_refused_like_the_real_call() -> None:
    rehearsal = Ingest(lambda: SNAPSHOT, Full(), lambda: 0, Settings()).rehearsal()
    answer = outcome(rehearsal, PROJECT.body(event()))
    assert isinstance(answer, dict)
    assert answer["code"] == "rate_limited"


@pytest.mark.parametrize("query", ["dry_run=true", "a=1&dry_run=true&b", "dry_run=true&dry_run=true"])
def test_true_asks_for_a_dry_run(query: str) -> None:
    assert asks_for_dry_run(query)


@pytest.mark.parametrize("query", ["dry_run=false", "a=1", "xdry_run=true", "dry_run_x=true", "a=dry_run", "debug"])
def test_false_and_members_that_nobody_knows_do_not(query: str) -> None:
    assert not asks_for_dry_run(query)


@pytest.mark.parametrize(
    "query",
    [
        "DRY_RUN=true",
        "dry-run=true",
        "dryrun=true",
        "dry%5Frun=true",
        "dry_run[]=true",
        "+dry_run=true",
        "a=b;dry_run=true",
        "dry_run=false;dry_run=true",
        "dry_run=false&Dry_Run=true",
    ],
)
def test_what_seems_to_ask_for_a_dry_run_in_other_words_stores_nothing_either(query: str) -> None:
    with pytest.raises(InvalidRequest, match=r"dry_run=true"):
        asks_for_dry_run(query)


@pytest.mark.parametrize("query", ["dry_run", "dry_run=", "dry_run=1", "dry_run=TRUE", "dry_run=true&dry_run=false"])
def test_any_other_value_is_refused_rather_than_stored(query: str) -> None:
    with pytest.raises(InvalidRequest, match=r"dry_run=true"):
        asks_for_dry_run(query)


@pytest.mark.parametrize(
    ("rule", "sent_us", "words"),
    [
        ("none", None, "There is no `sent_at`"),
        ("ahead", NOW_US + 3_250_000, "3.25 s after the request came in"),
        ("within_tolerance", NOW_US - 60_000_000, "1 min before the request came in"),
        ("behind", NOW_US - 3_725_000_000, "1 h 2 min before the request came in"),
        ("behind", NOW_US - 10 * DAY_US - 7_200_000_000, "moved forward by 10 d 2 h"),
        ("clamped", None, "its time is that of the request"),
    ],
)
def test_a_clock_rule_is_told_in_words(rule: str, sent_us: int | None, words: str) -> None:
    assert words in clock.in_words(rule, sent_us, NOW_US)


# A real server.


def rehearse(server: Server, body: bytes, query: str = "dry_run=true", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.http.post(f"/v1/batch?{query}", content=body, headers=named)


def test_it_explains_and_stores_nothing(server: Server, project: Project) -> None:
    body = project.body(event(event_id="e1"), event(timestamp="soon"), sent_at="2026-04-08T12:00:01Z")
    before = server.metric('kixo_requests_total{code="ok",status="200"}')
    answer = rehearse(server, body)
    assert answer.status_code == 200
    told = answer.json()
    assert list(told) == ["status", "accepted", "dry_run", "events", "rejected", "errors"]
    first, second = told["events"]
    assert (first["outcome"], first["identity_from"], first["row"]["clock_rule"]) == ("accepted", "event_id", "behind")
    assert "the device's clock is slow" in first["clock"]
    assert {**second, "message": ""} == {
        "index": 1,
        "outcome": "rejected",
        "field": "timestamp",
        "code": "invalid_timestamp",
        "message": "",
    }
    assert answer.headers["ratelimit"] == '"project";r=100;t=0'
    assert {"kixo-durability", "kixo-position"} & set(answer.headers) == set()
    wait_until(lambda: server.metric('kixo_requests_total{code="ok",status="200"}') > before)
    assert server.frames(project) == []
    real = server.http.post("/v1/batch", content=body)
    assert real.json() == {name: told[name] for name in ("status", "accepted", "rejected", "errors")}
    assert real.headers["ratelimit"] == '"project";r=99;t=1'


def test_where_every_event_would_be_rejected_the_answer_is_that_of_the_real_call(
    server: Server, project: Project
) -> None:
    body = project.body(7, event(device_id=""))
    tried, real = rehearse(server, body), server.http.post("/v1/batch", content=body)
    refused(tried, 400, "no_valid_events", "accepted", "rejected", "errors", "dry_run", "events")
    assert real.json() == {name: value for name, value in tried.json().items() if name not in ("dry_run", "events")}
    assert [each["code"] for each in tried.json()["events"]] == ["invalid_event", "empty"]
    assert len(server.frames(project)) == 1


def test_an_empty_batch_has_no_events(server: Server, project: Project) -> None:
    assert rehearse(server, project.body()).json() == {"status": "ok", "accepted": 0, "dry_run": True, "events": []}


@pytest.mark.parametrize("encoding", DEFLATERS)
def test_a_thousand_events_in_any_encoding_are_explained(server: Server, project: Project, encoding: str) -> None:
    body = project.body(*[event(event_name=str(number)) for number in range(1000)])
    told = rehearse(server, DEFLATERS[encoding](body), content_encoding=encoding).json()
    assert [each["row"]["event_name"] for each in told["events"]] == [str(number) for number in range(1000)]


def refusals(project: Project) -> Iterator[tuple[bytes, dict[str, str]]]:
    body = project.body(event())
    yield body[:-1], {}
    yield b"\xff" + body, {}
    yield project.body(platform="amiga"), {}
    yield project.body(event(), api_key="kx_key_wrong"), {}
    yield project.body(*[event()] * 1001), {}
    yield bytes(11 * 1024 * 1024), {}
    yield gzip.compress(bytes(11 * 1024 * 1024)), {"content_encoding": "gzip"}
    yield body, {"content_encoding": "lz4"}
    yield body, {"content_type": "text/html"}


def test_whatever_the_real_call_refuses_it_refuses_alike(server: Server, refused_project: Project) -> None:
    for body, headers in refusals(refused_project):
        tried, real = rehearse(server, body, **headers), rehearse(server, body, "debug=1", **headers)
        assert (tried.status_code, tried.json()) == (real.status_code, real.json())
        assert tried.status_code >= 400


def test_a_value_that_cannot_be_is_refused_before_the_body_is_looked_at(server: Server, project: Project) -> None:
    answer = rehearse(server, project.body(event()), "dry_run=yes")
    refused(answer, 400, "invalid_request", "field")
    assert answer.json()["field"] == "dry_run"
    assert server.frames(project) == []
