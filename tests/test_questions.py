"""What named questions take and refuse, and what they read of a lake."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kixo.errors import BadArgument
from kixo.event import EVENT_TYPE_LENGTH_MAX
from kixo.lake.schema import EVENTS, REJECTED
from kixo.query import QueryCaps, QueryEngine, open_query
from kixo.query.questions import (
    QUESTIONS,
    SPANS,
    Scope,
    Span,
    ask,
    find_question,
    named_span,
    read_values,
    rejections,
    span_of,
    traffic,
    visits,
)
from kixo.query.questions.span import BUCKETS_MAX
from kixo.query.questions.step import Step, parse_steps
from kixo.timestamp import DAY_US, parse_us
from tests.test_query import append, event

NOW_US = parse_us("2026-04-08T12:34:56.789Z")
SCOPE = {"project": "kx_proj_a", "from": "2026-04-08T00:00Z", "to": "2026-04-09T00:00Z"}


class TestSpans:
    @given(st.sampled_from(SPANS), st.integers(0, 2**52))
    def test_a_named_span_holds_its_length_before_now_in_whole_buckets(self, named: Any, now_us: int) -> None:
        span = named_span(named.name, now_us)
        assert span.to_us == now_us
        assert span.from_us % span.bucket_us == 0 or span.from_us == 0
        assert min(now_us, named.length_us) <= span.length_us < named.length_us + span.bucket_us
        assert len(span.buckets) <= BUCKETS_MAX + 1

    @given(st.integers(0, 2**52), st.integers(1, 400 * DAY_US))
    def test_the_buckets_of_a_span_cover_it_and_no_more(self, first: int, length: int) -> None:
        span = Span(first, first + length)
        assert span.buckets[0] <= first < span.buckets[0] + span.bucket_us
        assert span.buckets[-1] < span.to_us <= span.buckets[-1] + span.bucket_us

    def test_an_hour_has_minutes_and_a_quarter_has_days(self) -> None:
        minutes = [named_span(named.name, NOW_US).bucket_us // 60_000_000 for named in SPANS]
        assert minutes == [1, 15, 60, 1440, 1440]

    def test_the_span_before_ends_where_this_one_begins(self) -> None:
        assert Span(100, 130).previous == Span(70, 100)
        assert Span(20, 130).previous == Span(0, 20)

    @pytest.mark.parametrize(
        ("first", "end", "words"),
        [
            ("2026-04-08", "2026-04-08", "ends before it begins"),
            ("2026-04-08", "2028-04-08", "days long"),
            ("1969-12-31", "1970-01-02", "before 1970"),
            ("yesterday", "2026-04-08", "no ISO 8601 instant"),
            ("", "2026-04-08", "no ISO 8601 instant"),
        ],
    )
    def test_a_span_that_cannot_be_is_refused_with_what_to_do(self, first: str, end: str, words: str) -> None:
        with pytest.raises(BadArgument, match=words) as caught:
            span_of(first, end)
        assert caught.value.next_step

    def test_a_span_with_an_unknown_name_is_refused(self) -> None:
        with pytest.raises(BadArgument, match="no span 'year'"):
            named_span("year", NOW_US)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=20)


class TestParameters:
    @given(texts.filter(str.strip), st.none() | texts)
    def test_a_step_is_read_as_it_is_written(self, event_type: str, event_name: str | None) -> None:
        step = Step(event_type, event_name)
        assert parse_steps(f"tap\r\n\n{step.text}\n") == (Step("tap"), step)

    @pytest.mark.parametrize(
        ("question", "given", "words"),
        [
            ("funnel", {"steps": "tap"}, "there are 1; 2 to 8"),
            ("funnel", {"steps": "tap\n" * 9}, "there are 9; 2 to 8"),
            ("funnel", {"steps": "tap\n" + "x" * (EVENT_TYPE_LENGTH_MAX + 1)}, "No event can be"),
            ("funnel", {"steps": 'tap\n"tap'}, "no second quotation mark"),
            ("funnel", {"steps": "tap\nt\0p"}, "a character that no event has"),
            ("funnel", {"window": "0"}, "has to be 1 to 129600 minutes"),
            ("funnel", {"window": "1.5"}, "has to be 1 to 129600 minutes"),
            ("funnel", {"window": "²"}, "has to be 1 to 129600 minutes"),
            ("funnel", {"window": "9" * 5000}, "has to be 1 to 129600 minutes"),
            ("retention", {"period": "year"}, "cannot be 'year'"),
            ("top_events", {"rows": "1001"}, "has to be 1 to 1000"),
            ("paths", {"event_type": ""}, "has 0 characters; 1 to 128"),
            ("paths", {"event_name": "\ud800"}, "a character that no event has"),
            ("rejections", {"project": ""}, "Project has 0 characters"),
            ("rejections", {"environment": "test"}, "Environment cannot be 'test'"),
        ],
    )
    def test_what_is_out_of_bounds_is_refused_with_what_to_do(
        self, question: str, given: dict[str, str], words: str
    ) -> None:
        with pytest.raises(BadArgument, match=words) as caught:
            ask(find_question(question), SCOPE | given)
        assert len(caught.value.message) < 300
        assert caught.value.next_step

    def test_an_unknown_question_is_refused(self) -> None:
        with pytest.raises(BadArgument, match="no question 'why'"):
            find_question("why")

    def test_questions_and_parameters_have_names_of_their_own_and_say_what_they_are(self) -> None:
        assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
        for question in QUESTIONS:
            assert question.sentence.endswith(".")
            assert len({parameter.name for parameter in question.parameters}) == len(question.parameters)
            for parameter in question.parameters:
                assert parameter.sentence.endswith(".")
                parameter.read(parameter.default)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[QueryEngine]:
    with open_query(tmp_path, QueryCaps(memory_bytes_max=256 * 1024 * 1024, seconds_max=30.0)) as opened:
        yield opened


def every_sql(scope: Scope, **texts: str) -> dict[str, str]:
    """The SQL of every question and pass over a scope."""
    asked = {q.name: q.sql(scope, read_values(q.parameters, texts)) for q in QUESTIONS}
    return asked | {"traffic": traffic(scope), "visits": visits(scope), "all rejections": rejections(scope)}


class TestInALake:
    """With the engine that people's queries run in: read-only, as a subquery, over real files."""

    def test_every_question_is_one_select_and_has_an_answer_where_there_is_nothing(self, engine: QueryEngine) -> None:
        for sql in every_sql(Scope("kx_proj_a", "production", named_span("day", NOW_US))).values():
            engine.run(sql).table()

    @pytest.mark.parametrize("name", ["it's", "'; DROP VIEW events; --", 'say "hi"', "a\\'b", "{0}", "%s $1 ?", "日本"])
    def test_values_never_become_sql(self, engine: QueryEngine, tmp_path: Path, name: str) -> None:
        members = {"project_id": name, "event_type": "tap", "event_name": name, "device_id": name, "session_id": name}
        at = datetime(2026, 4, 8, 12, tzinfo=UTC)
        append(tmp_path, EVENTS, [event(n, at=at + timedelta(minutes=n), **members) for n in range(3)])
        given = {"steps": f"tap: {name}\ntap", "event_type": "tap", "event_name": name}
        asked = every_sql(Scope(name, "production", span_of(SCOPE["from"], SCOPE["to"])), **given)
        answers = {question: engine.run(sql).table().to_pylist() for question, sql in asked.items()}
        assert [row["devices"] for row in answers["funnel"]] == [1, 1]
        assert answers["paths"][0]["path"] == [f"tap: {name}"] * 2
        assert answers["top_events"] == [{"event_type": "tap", "event_name": name, "events": 3, "devices": 1}]

    def test_only_the_files_of_the_days_in_question_are_read(self, engine: QueryEngine, tmp_path: Path) -> None:
        noon = datetime(2026, 4, 4, 12, tzinfo=UTC)
        append(tmp_path, EVENTS, [event(day, at=noon + timedelta(days=day)) for day in range(9)])
        scope = Scope("kx_proj_a", "production", span_of(SCOPE["from"], SCOPE["to"]))
        # Sessions look 30 minutes back and a day ahead.
        for question, files in (("events_over_time", 1), ("top_events", 1), ("sessions_over_time", 3)):
            (plan,) = engine.run(f"EXPLAIN ANALYZE {every_sql(scope)[question]}").table().to_pylist()
            assert f"Scanning Files: {files}/9" in plan["explain_value"]

    def test_an_event_that_came_after_the_horizon_is_found(self, engine: QueryEngine, tmp_path: Path) -> None:
        at = datetime(2026, 4, 8, 12, tzinfo=UTC)
        append(tmp_path, EVENTS, [event(1, at=at) | {"date": datetime(1970, 1, 1, tzinfo=UTC).date()}])
        scope = Scope("kx_proj_a", "production", span_of(SCOPE["from"], SCOPE["to"]))
        (row,) = engine.run(every_sql(scope)["events_over_time"]).table().to_pylist()
        assert row["events"] == 1

    def test_sessions_are_those_of_the_view(self, engine: QueryEngine, tmp_path: Path) -> None:
        midnight = datetime(2026, 4, 8, tzinfo=UTC)
        minutes = (-50, -20, 0, 29, 59, 60, 90, 1430, 1450)
        append(tmp_path, EVENTS, [event(n, at=midnight + timedelta(minutes=m)) for n, m in enumerate(minutes)])
        scope = Scope("kx_proj_a", "production", span_of(SCOPE["from"], SCOPE["to"]))
        asked = engine.run(every_sql(scope)["sessions_over_time"]).table().to_pylist()
        view = "SELECT count(*) AS sessions FROM sessions WHERE started_at::DATE = '2026-04-08'"
        assert [sum(row["sessions"] for row in asked)] == [engine.run(view).table().to_pylist()[0]["sessions"]]

    def test_rejections_are_read_by_their_day_of_arrival(self, engine: QueryEngine, tmp_path: Path) -> None:
        at = datetime(2026, 4, 8, 12, tzinfo=UTC)
        rejection = {"field": "timestamp", "code": "missing", "message": "No.", "event": "{}", "received_at": at}
        keep = ("date", "project_id", "environment", "bundle_id", "platform", "sent_at")
        place = {"log_partition": 0, "log_offset": 0, "log_index": 0}
        row = {name: value for name, value in event(at=at).items() if name in keep} | rejection | place
        append(tmp_path, REJECTED, [row])
        scope = Scope("kx_proj_a", "production", span_of(SCOPE["from"], SCOPE["to"]))
        (found,) = engine.run(every_sql(scope)["rejections"]).table().to_pylist()
        assert (found["code"], found["field"], found["events"], found["latest"]) == ("missing", "timestamp", 1, at)
