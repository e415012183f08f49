"""The answers of the named questions, against plain Python on made-up events."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo.lake.schema import EVENTS, REJECTED
from kixo.query.questions import Scope, Span, find_question, read_values, rejections, traffic, visits
from kixo.query.questions.counts import ROWS_DEFAULT, TYPES_SHOWN
from kixo.query.questions.span import MINUTE_US
from kixo.query.questions.step import Step
from kixo.timestamp import DAY_US, parse_us
from tests import question_reference as reference
from tests.question_reference import Sent, within

MIDNIGHT_US = parse_us("2026-04-08T00:00:00Z")
HOUR_US = 60 * MINUTE_US
# Some minutes of a night, a day, some days whose ends are no midnights, and a quarter.
SPANS = (
    Span(MIDNIGHT_US - 7 * MINUTE_US, MIDNIGHT_US + 50 * MINUTE_US + 17),
    Span(MIDNIGHT_US, MIDNIGHT_US + DAY_US),
    Span(MIDNIGHT_US - 3 * DAY_US + 5 * HOUR_US, MIDNIGHT_US + 2 * DAY_US + 1),
    Span(MIDNIGHT_US - 60 * DAY_US, MIDNIGHT_US + 30 * DAY_US),
)
spans = st.sampled_from(SPANS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TYPES = ("session_start", "page_view", "screen_view", "tap", "it's", "\ufffd", 'say "hi"', "-- ", "ü", "x1", "x2", "x3")
NAMES = ("Button", "/it's", 'a"b', "a\\b", "{x}", "/*", "日本")


def mostly(usual: str, *others: str) -> st.SearchStrategy[str]:
    """Nearly always the same, so that events often belong together."""
    return st.sampled_from((*[usual] * 8, *others))


@st.composite
def events_around(draw: st.DrawFn, span: Span) -> list[Sent]:
    """Events near the ends of a span and of its previous one, near 30 minutes from each other, and anywhere."""
    edges = (span.previous.from_us, span.from_us, span.to_us, MIDNIGHT_US)
    near = st.sampled_from(edges).flatmap(
        lambda edge: st.sampled_from((-DAY_US, -30 * MINUTE_US, -1, 0, 1, 30 * MINUTE_US, DAY_US)).map(edge.__add__)
    )
    anywhere = st.integers(span.previous.from_us - 2 * DAY_US, span.to_us + DAY_US)
    walks = draw(st.lists(st.one_of(near, anywhere), min_size=1, max_size=4))
    gaps = st.sampled_from((0, 1, 20_000_000, 29 * MINUTE_US, 30 * MINUTE_US - 1, 30 * MINUTE_US, 31 * MINUTE_US))
    times = st.tuples(st.sampled_from(walks), st.lists(gaps, max_size=5)).map(lambda walk: walk[0] + sum(walk[1]))
    event = st.builds(
        Sent,
        at_us=times,
        device=mostly("d", "d'2", "d3"),
        session=mostly("s", "s2"),
        event_type=st.sampled_from(TYPES),
        event_name=st.sampled_from(NAMES),
        platform=mostly("ios", "web"),
        bundle=mostly("b", "c"),
        environment=mostly("production", "staging"),
        project=mostly("p", "P", "p'"),
        old=st.booleans(),
        properties=st.sampled_from(("{}", r'{"app_version":"1.0"}', r'{"version":"\u0000","a":1e999}')),
    )
    return draw(st.lists(event, min_size=draw(st.sampled_from((0, 5, 20))), max_size=40))


asked = spans.flatmap(lambda span: st.tuples(st.just(span), events_around(span)))


def moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def row(place: int, event: Sent) -> dict[str, Any]:
    at = moment(event.at_us)
    return {
        # What arrives after the horizon lies under one day.
        "date": date(1970, 1, 1) if event.old else at.date(),
        "project_id": event.project,
        "environment": event.environment,
        "bundle_id": event.bundle,
        "platform": event.platform,
        "event_type": event.event_type,
        "event_name": event.event_name,
        "device_id": event.device,
        "session_id": event.session,
        "timestamp": at,
        "client_timestamp": at,
        "sent_at": None,
        "received_at": at + timedelta(days=500 if event.old else 0),
        "clock_rule": "none",
        "event_id": None,
        "identity": place.to_bytes(16, "big"),
        "properties": event.properties,
        "log_partition": 0,
        "log_offset": place // 3,
        "log_index": place % 3,
    }


class Views:
    """A DuckDB with the tables that questions read, filled anew for each example."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def hold(self, events: list[Sent], rejected: list[dict[str, Any]] | None = None) -> None:
        # As rows come from many files: not in the order in which they arrived.
        rows = [row(place, event) for place, event in enumerate(events)][::-1]
        self._connection.register("events", pa.Table.from_pylist(rows, EVENTS.schema))
        self._connection.register("rejected", pa.Table.from_pylist(rejected or [], REJECTED.schema))

    def answer(self, name: str, span: Span, texts: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The rows of a question's answer."""
        question = find_question(name)
        values = read_values(question.parameters, texts or {})
        return self.read(question.sql(Scope("p", "production", span), values))

    def read(self, sql: str) -> list[dict[str, Any]]:
        # As queries are run: as a subquery.
        found: list[dict[str, Any]] = self._connection.sql(f"SELECT * FROM (\n{sql}\n)").to_arrow_table().to_pylist()
        return found


@pytest.fixture(scope="module")
def views() -> Iterator[Views]:
    with duckdb.connect(":memory:", config={"threads": "1"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield Views(connection)


def in_us(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(microseconds=1)


def figures(found: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(found[name] for name in ("sessions", "seconds_median", "seconds_p90", "bounce_rate"))


def near(expected: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value if value is None else pytest.approx(value) for value in expected)


@settings(deadline=None)
@given(asked)
def test_events_are_counted_by_time_and_type(views: Views, given: tuple[Span, list[Sent]]) -> None:
    span, events = given
    views.hold(events)
    rows = views.answer("events_over_time", span)
    counts = {(in_us(found["time"]), found["event_type"]): found["events"] for found in rows}
    assert len(counts) == len(rows)
    assert counts == reference.events_over_time(events, span, TYPES_SHOWN)


@settings(deadline=None)
@given(asked)
def test_devices_are_counted_once_in_each_bucket(views: Views, given: tuple[Span, list[Sent]]) -> None:
    span, events = given
    views.hold(events)
    rows = views.answer("active_devices", span)
    expected = reference.devices_by(within(events, span), lambda event: reference.bucket(event.at_us, span))
    assert {in_us(found["time"]): found["devices"] for found in rows} == expected


@settings(deadline=None)
@given(asked)
def test_sessions_are_those_of_the_idle_rule_that_begin_in_the_span(
    views: Views, given: tuple[Span, list[Sent]]
) -> None:
    span, events = given
    views.hold(events)
    rows = views.answer("sessions_over_time", span)
    begun: dict[int, list[list[Sent]]] = {}
    for session in reference.sessions(events, span):
        begun.setdefault(reference.bucket(session[0].at_us, span), []).append(session)
    assert {in_us(found["time"]) for found in rows} == set(begun)
    for found in rows:
        assert figures(found) == near(reference.session_figures(begun[in_us(found["time"])]))


@settings(deadline=None)
@given(asked)
def test_the_tops_are_ordered_by_events_and_then_by_name(views: Views, given: tuple[Span, list[Sent]]) -> None:
    span, events = given
    found = within(events, span)
    views.hold(events)
    for name, chosen, key in (
        ("top_events", [e for e in found if e.event_type not in reference.VIEWS], ("event_type", "event_name")),
        ("top_pages", [e for e in found if e.event_type == "page_view"], ("event_name",)),
        ("top_screens", [e for e in found if e.event_type == "screen_view"], ("event_name",)),
        ("top_apps", found, ("platform", "bundle")),
    ):
        expected = reference.top(chosen, lambda event, key=key: tuple(getattr(event, part) for part in key))  # type: ignore[misc]
        assert [tuple(r.values()) for r in views.answer(name, span)] == expected[:ROWS_DEFAULT]


@settings(deadline=None)
@given(asked)
def test_versions_are_those_of_the_last_day_of_the_span(views: Views, given: tuple[Span, list[Sent]]) -> None:
    span, events = given
    views.hold(events)
    rows = views.answer("app_versions", span)
    versions = {"{}": None, r'{"app_version":"1.0"}': "1.0", r'{"version":"\u0000","a":1e999}': "\0"}
    last = within(events, Span(max(span.from_us, span.to_us - DAY_US), span.to_us))
    telling = [event for event in last if versions[event.properties]]
    expected = reference.top(telling, lambda event: (event.platform, event.bundle, str(versions[event.properties])))
    assert [tuple(found.values()) for found in rows] == expected[:ROWS_DEFAULT]


STEPS = ("session_start", "page_view", "tap", "tap: Button", "page_view: /it's")


@settings(deadline=None)
@given(asked, st.lists(st.sampled_from(STEPS), min_size=2, max_size=4), st.sampled_from((1, 29, 30, 1440)))
def test_a_funnel_counts_the_devices_that_go_its_way_in_time(
    views: Views, given: tuple[Span, list[Sent]], steps: list[str], window: int
) -> None:
    span, events = given
    # Enough of the few types that the steps are about.
    events = [Sent(e.at_us, e.device, "s", *walked(e)) for e in events]
    views.hold(events)
    rows = views.answer("funnel", span, {"steps": "\n".join(steps), "window": str(window)})
    chosen = tuple(Step(*(part for part in step.split(": "))) for step in steps)
    expected = reference.funnel(events, span, chosen, window * MINUTE_US)
    assert [found["name"] for found in rows] == steps
    assert [(found["devices"], found["seconds_median"]) for found in rows] == [near(step) for step in expected]
    counts = [count for count, _ in expected]
    for place, found in enumerate(rows):
        assert found["of_first"] == (pytest.approx(counts[place] / counts[0]) if counts[0] else None)
        before = counts[place - 1] if place else 0
        assert found["of_previous"] == (pytest.approx(counts[place] / before) if before else None)


def walked(event: Sent) -> tuple[str, str]:
    kinds = ("session_start", "page_view", "tap")
    return kinds[TYPES.index(event.event_type) % 3], NAMES[NAMES.index(event.event_name) % 2]


@settings(deadline=None)
@given(asked, st.sampled_from((1, 7)), st.sampled_from((1, 14)), st.sampled_from((0, 2, 90)))
def test_retention_follows_the_devices_first_seen_in_the_span(
    views: Views, given: tuple[Span, list[Sent]], days: int, periods: int, look_back: int
) -> None:
    span, events = given
    texts = {"period": {1: "day", 7: "week"}[days], "periods": str(periods), "look_back": str(look_back)}
    views.hold(events)
    rows = views.answer("retention", span, texts)
    expected = reference.retention(events, span, days, periods, look_back)
    assert {((r["cohort"] - EPOCH.date()).days, r["periods_later"]): r["devices"] for r in rows} == expected
    for found in rows:
        cohort = (found["cohort"] - EPOCH.date()).days
        assert found["of_cohort"] == pytest.approx(found["devices"] / expected[cohort, 0])
        ends = (cohort + (found["periods_later"] + 1) * days) * DAY_US
        assert found["is_over"] == (ends <= span.to_us)


@settings(deadline=None)
@given(asked)
def test_actives_look_back_seven_and_thirty_days(views: Views, given: tuple[Span, list[Sent]]) -> None:
    span, events = given
    views.hold(events)
    rows = views.answer("actives", span)
    expected = reference.actives(events, span)
    assert [((r["day"] - EPOCH.date()).days, r["daily"], r["weekly"], r["monthly"]) for r in rows] == expected
    for found, (_, daily, _, monthly) in zip(rows, expected, strict=True):
        assert found["stickiness"] == (pytest.approx(daily / monthly) if monthly else None)


@settings(deadline=None)
@given(asked, st.sampled_from((1, 3)), st.booleans(), st.sampled_from(("", "Button")))
def test_paths_follow_a_session_after_its_first_such_event(
    views: Views, given: tuple[Span, list[Sent]], length: int, only_views: bool, name: str
) -> None:
    span, events = given
    texts = {
        "event_type": "tap",
        "event_name": name,
        "length": str(length),
        "of": "views" if only_views else "all events",
    }
    views.hold(events)
    rows = views.answer("paths", span, {**texts, "rows": "1000"})
    few = views.answer("paths", span, {**texts, "followed": "1"})
    expected = reference.paths(events, span, Step("tap", name or None), length, views=only_views)
    assert {tuple(found["path"]): found["sessions"] for found in rows} == expected
    assert sum(found["sessions"] for found in few) == min(1, expected.total())
    for found in rows:
        assert found["share"] == pytest.approx(found["sessions"] / expected.total())


@settings(deadline=None)
@given(asked)
def test_a_page_in_one_pass_has_the_figures_of_the_single_questions(
    views: Views, given: tuple[Span, list[Sent]]
) -> None:
    span, events = given
    scope = Scope("p", "production", span)
    views.hold(events)
    counted, visited = views.read(traffic(scope)), views.read(visits(scope))
    by_time = {(r["time"], r["event_type"]): r["events"] for r in views.answer("events_over_time", span)}
    for name, columns in (("top_pages", ("page",)), ("top_screens", ("screen",)), ("top_events", None)):
        kind = {"top_pages": "page_view", "top_screens": "screen_view"}.get(name)
        expected = views.answer(name, span)
        shown = [
            r
            for r in counted
            if r["part"] == "name" and (r["event_type"] == kind if kind else r["event_type"] not in reference.VIEWS)
        ]
        for one, other in zip(shown, expected, strict=True):
            assert one["events"] == other["events"]
            assert one["event_name"] == other[columns[0] if columns else "event_name"]
    devices = {r["time"]: r["devices"] for r in views.answer("active_devices", span)}
    begun = {r["time"]: figures(r) for r in views.answer("sessions_over_time", span)}
    apps = [tuple(r.values()) for r in views.answer("top_apps", span)]
    parts = {r["part"]: r for r in counted + visited}
    assert {(r["time"], r["event_type"]): r["events"] for r in counted if r["part"] == "time"} == by_time
    assert parts["total"]["events"] == len(within(events, span))
    assert parts["previous"]["events"] == len(within(events, span.previous))
    assert {r["time"]: r["devices"] for r in visited if r["part"] == "devices_at"} == devices
    assert {r["time"]: figures(r) for r in visited if r["part"] == "sessions_at"} == begun
    rows = [r for r in visited if r["part"] == "app"]
    assert [(r["platform"], r["bundle_id"], r["events"], r["devices"]) for r in rows] == apps
    for part, chosen in (("devices", span), ("devices_before", span.previous)):
        assert parts[part]["devices"] == len({event.device for event in within(events, chosen)})
    assert figures(parts["sessions"]) == near(reference.session_figures(reference.sessions(events, span)))
    # What is before the span is followed as far as the span is.
    before = reference.sessions(events, span.previous, followed_us=span.length_us + DAY_US)
    assert figures(parts["sessions_before"]) == near(reference.session_figures(before))


reasons = st.tuples(
    st.sampled_from(SPANS).flatmap(
        lambda span: st.sampled_from((span.previous.from_us, span.from_us, span.to_us)).flatmap(
            lambda edge: st.sampled_from((edge - 1, edge, edge + 1))
        )
    ),
    st.sampled_from(("missing", "too_long", "wrong_type")),
    st.sampled_from((None, "timestamp", "it's")),
    st.sampled_from(("p", "p", "q")),
)


@settings(deadline=None)
@given(spans, st.lists(reasons, max_size=30))
def test_rejections_are_counted_by_reason_and_member(
    views: Views, span: Span, refused: list[tuple[int, str, str | None, str]]
) -> None:
    views.hold([], [refusal(*reason) for reason in refused])
    rows = views.answer("rejections", span)
    in_one_pass = views.read(rejections(Scope("p", "production", span)))

    def counted(chosen: Span) -> Counter[tuple[str, str | None]]:
        return Counter(
            (code, field)
            for at, code, field, project in refused
            if project == "p" and chosen.from_us <= at < chosen.to_us
        )

    found = {(r["code"], r["field"]): r["events"] for r in rows}
    assert found == counted(span)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert {(r["code"], r["field"]): r["events"] for r in in_one_pass if r["part"] == "reason"} == found
    totals = {r["part"]: r["events"] for r in in_one_pass if r["part"] != "reason"}
    assert totals == {"total": counted(span).total(), "previous": counted(span.previous).total()}


def refusal(at_us: int, code: str, field: str | None, project: str) -> dict[str, Any]:
    at = moment(at_us)
    place = {"log_partition": 0, "log_offset": 0, "log_index": 0}
    sender = {"environment": "production", "bundle_id": "b", "platform": "ios", "sent_at": None}
    reason = {"field": field, "code": code, "message": "No.", "event": r'{"\u0000":1}'}
    return {"date": at.date(), "project_id": project, "received_at": at, **sender, **reason, **place}


DAY = SPANS[1]


@pytest.mark.parametrize(("gap_us", "count"), [(30 * MINUTE_US - 1, 1), (30 * MINUTE_US, 2)])
def test_thirty_idle_minutes_end_a_session_and_less_does_not(views: Views, gap_us: int, count: int) -> None:
    views.hold([Sent(MIDNIGHT_US + HOUR_US), Sent(MIDNIGHT_US + HOUR_US + gap_us)])
    assert sum(found["sessions"] for found in views.answer("sessions_over_time", DAY)) == count


def test_a_session_is_followed_beyond_the_span_that_it_begins_in(views: Views) -> None:
    views.hold([Sent(DAY.to_us - MINUTE_US), Sent(DAY.to_us + 10 * MINUTE_US)])
    (found,) = views.answer("sessions_over_time", DAY)
    assert (found["sessions"], found["seconds_median"]) == (1, 660.0)


@pytest.mark.parametrize(("late_us", "devices"), [(0, 1), (1, 0)])
def test_the_window_of_a_funnel_holds_its_last_instant(views: Views, late_us: int, devices: int) -> None:
    start = MIDNIGHT_US + HOUR_US
    views.hold([Sent(start), Sent(start + 5 * MINUTE_US + late_us, event_type="click")])
    rows = views.answer("funnel", DAY, {"steps": "tap\nclick", "window": "5"})
    assert [found["devices"] for found in rows] == [1, devices]
