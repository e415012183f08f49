"""Explore: any question in SQL, with the schema beside it, and questions that are ready to ask.

An address only fills the editor. A query runs when a person presses Run, which is a form with the session's token.
"""

from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console.api.answering import STREAMED, Download, first_piece, place, until_gone
from kixo.console.api.asked import ID
from kixo.console.cells import Cell, Heading, cell_rows, headings
from kixo.console.context import Console, console_of, form_of
from kixo.console.navigation import Chosen, choose
from kixo.console.rendering import fragment, render, see_other
from kixo.errors import BadArgument, InvalidRequest, QueryFailed
from kixo.event import EVENT_TYPES
from kixo.lake.schema import TABLES
from kixo.query.answer import Answer
from kixo.query.caps import QueryCaps
from kixo.query.questions import QUESTIONS, SPANS, ask, find_question, named_span
from kixo.query.views import COMPUTED, SESSIONS_BETWEEN_SENTENCE
from kixo.registry.saved import SQL_LENGTH_MAX, delete_saved_query, find_saved_query, list_saved_queries, save_query
from kixo.settings import MIB
from kixo.timestamp import format_us

PATH = "/explore"
ROWS_SHOWN_MAX = 1000
SPAN_DEFAULT = "week"
FIRST_SQL = """\
SELECT event_type, count(*) AS events, count(DISTINCT device_id) AS devices
FROM events
WHERE date >= current_date - 7
GROUP BY ALL
ORDER BY events DESC"""


@dataclass(frozen=True)
class Draft:
    """What stands in the form: the query, its bounds, and the saved query and chart that it belongs to."""

    sql: str = FIRST_SQL
    seconds: str = ""
    memory_mib: str = ""
    saved: str = ""
    name: str = ""
    chart: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a query: an answer, or why there is none."""

    answer: Answer | None = None
    error: QueryFailed | None = None
    where: dict[str, int] | None = None
    headings: list[Heading] | None = None
    rows: list[list[Cell]] | None = None


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [
        Route(PATH, show),
        Route(PATH + "/question", fill),
        Route(PATH + "/run", run, methods=["POST"]),
        Route(PATH + "/stop", stop, methods=["POST"]),
        Route(PATH + "/download", download, methods=["POST"]),
        Route(PATH + "/save", save, methods=["POST"]),
        Route(PATH + "/delete", delete, methods=["POST"]),
    ]


async def show(request: Request) -> Response:
    """The page, with the query that the address gives: as it is, by a saved one, or by a question."""
    console_of(request).pool.warm()
    return await run_in_threadpool(_show, request)


def fill(request: Request) -> Response:
    """The SQL of a question, for the editor; raises `BadArgument`."""
    return JSONResponse({"sql": question_sql(request, choose(request))})


async def run(request: Request) -> Response:
    """Runs the query of the form, and shows what comes of it: alone for the page's script, else with the page."""
    draft = _draft_of_form(request)
    outcome = await until_gone(request, _outcome(console_of(request), draft, form_of(request).get("id", "")))
    if request.headers.get("hx-request"):
        return HTMLResponse(await run_in_threadpool(_result, request, outcome))
    return await run_in_threadpool(_page, request, draft, outcome)


def _result(request: Request, outcome: Outcome) -> str:
    return fragment(request, "explore_result.html", choose(request), outcome=outcome, rows_max=ROWS_SHOWN_MAX)


async def stop(request: Request) -> Response:
    """Stops a query of the page; one that has ended meanwhile is as good."""
    return JSONResponse({"stopped": console_of(request).pool.cancel(form_of(request).get("id", ""))})


async def download(request: Request) -> Response:
    """Every row of the query of the form, as a file."""
    draft, console, format = _draft_of_form(request), console_of(request), request.query_params.get("format", "csv")
    if format not in STREAMED:
        raise InvalidRequest(f"There is no such format; there are {', '.join(STREAMED)}.")
    pieces = console.pool.stream(draft.sql, STREAMED[format][0], _caps(console, draft))
    try:
        return Download(await until_gone(request, first_piece(pieces)), pieces, format, {})
    except QueryFailed as error:
        return await run_in_threadpool(_page, request, draft, Outcome(error=error, where=place(error, draft.sql)))


def save(request: Request) -> Response:
    """Saves the query of the form: under its name, or over the saved one that it was opened from."""
    form, chosen, draft = form_of(request), choose(request), _draft_of_form(request)
    known = draft.saved if form.get("over") else None
    try:
        saved = save_query(console_of(request).registry(), draft.name, draft.sql, draft.chart, known or None)
    except BadArgument as error:
        return _page(request, draft, None, str(error))
    return see_other(request, chosen.link(PATH, saved=saved.id), f"Saved as “{saved.name}”.")


def delete(request: Request) -> Response:
    """Deletes a saved query."""
    saved = delete_saved_query(console_of(request).registry(), form_of(request).get("saved", ""))
    return see_other(request, choose(request).link(PATH, sql=saved.sql), f"Deleted “{saved.name}”.")


def question_sql(request: Request, chosen: Chosen) -> str:
    """The SQL of the question that the address asks; raises `BadArgument`."""
    texts = dict(request.query_params)
    span = named_span(texts.get("span", SPAN_DEFAULT), console_of(request).now_us())
    if chosen.project is None:
        raise BadArgument("There is no project to ask about.", "Make one on the page Projects and keys.")
    scope = {"project": chosen.project.id, "environment": chosen.environment}
    ends = {"from": format_us(span.from_us), "to": format_us(span.to_us)}
    return ask(find_question(texts.get("question", "")), {**texts, **scope, **ends})


def _show(request: Request) -> Response:
    try:
        return _page(request, _draft_of_address(request))
    except BadArgument as error:
        return _page(request, Draft(), None, str(error))


def _page(request: Request, draft: Draft, outcome: Outcome | None = None, refusal: str = "") -> Response:
    console = console_of(request)
    return render(
        request,
        "explore.html",
        draft=draft,
        outcome=outcome,
        refusal=refusal,
        rows_max=ROWS_SHOWN_MAX,
        caps=console.pool.bounds.caps,
        saved_queries=list_saved_queries(console.registry()),
        tables=schema(),
        sessions_between=SESSIONS_BETWEEN_SENTENCE,
        words={"tables": schema(), "types": EVENT_TYPES},
        questions=QUESTIONS,
        spans=SPANS,
        span_default=SPAN_DEFAULT,
        asked=request.query_params,
    )


def schema() -> list[dict[str, Any]]:
    """The tables and views with their columns, as the editor and the pane beside it show them."""
    tables = [(table.name, table.sentence, [(c.name, c.type, c.sentence) for c in table.columns]) for table in TABLES]
    views = [(view.name, view.sentence, [(name, "", text) for name, text in view.columns]) for view in COMPUTED]
    return [
        {
            "name": name,
            "sentence": sentence,
            "columns": [{"name": column, "type": type, "sentence": text} for column, type, text in columns],
        }
        for name, sentence, columns in (*tables, *views)
    ]


def _draft_of_address(request: Request) -> Draft:
    found = request.query_params
    if "sql" in found:
        return Draft(found["sql"][:SQL_LENGTH_MAX])
    if "question" in found:
        return Draft(question_sql(request, choose(request)))
    if "saved" not in found:
        return Draft()
    saved = find_saved_query(console_of(request).registry(), found["saved"])
    if saved is None:
        raise BadArgument("There is no such saved query.", "It may have been deleted.")
    return Draft(saved.sql, saved=saved.id, name=saved.name, chart=saved.chart)


def _draft_of_form(request: Request) -> Draft:
    form = form_of(request)
    # A form sends every end of a line as two characters.
    sql = form.get("sql", "").replace("\r\n", "\n")
    return Draft(
        sql,
        form.get("seconds", ""),
        form.get("memory", ""),
        form.get("saved", ""),
        form.get("name", ""),
        form.get("chart", ""),
    )


async def _outcome(console: Console, draft: Draft, id: str) -> Outcome:
    try:
        caps = _caps(console, draft)
        name = id if ID.fullmatch(id) else token_hex(16)
        answer = await console.pool.table(draft.sql, caps, rows_max=ROWS_SHOWN_MAX, id=name)
    except QueryFailed as error:
        return Outcome(error=error, where=place(error, draft.sql))
    return Outcome(answer, headings=headings(answer), rows=cell_rows(answer))


def _caps(console: Console, draft: Draft) -> QueryCaps:
    """The caps that the form asks for; raises `QueryFailed` where that is no number."""
    memory, seconds = _number("Memory", draft.memory_mib), _number("Seconds", draft.seconds)
    return console.pool.bounds.lowered(None if memory is None else round(memory * MIB), seconds)


def _number(label: str, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        found = msgspec.convert(text.strip(), float, strict=False)
    except msgspec.ValidationError:
        found = 0.0
    if not 0 < found < 2**40:
        raise QueryFailed(f"{label} cannot be {text[:64]!r}.", "Give a number greater than 0, or leave it empty.")
    return found
