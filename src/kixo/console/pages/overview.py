"""Overview: what a project's environment has sent over a span, in charts and numbers, each beside the span before.

The page itself asks nothing of the tables. Its cards are loaded by htmx one beside the other, so a slow one holds up no
other; each is one query. All of them are about the span that the page names, whose end stays the same until the page is
refreshed. `all=1` gives the page with its cards in it, for browsers without JavaScript.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console import overview_figures as figures
from kixo.console.context import console_of
from kixo.console.navigation import Chosen, choose
from kixo.console.rendering import fragment, render
from kixo.errors import BadArgument, NotFound, QueryFailed, QueryTooLarge, QueryTooLong
from kixo.query.questions import (
    CUSTOM,
    SPANS,
    Scope,
    Span,
    find_question,
    named_span,
    read_values,
    rejections,
    span_of,
    traffic,
    visits,
)
from kixo.timestamp import format_us

PATH = "/overview"
SPAN_DEFAULT = "day"


class Card(NamedTuple):
    """A card: its name in addresses, its title, its query, and what the template shows of the rows."""

    name: str
    title: str
    sql: Callable[[Scope], str]
    view: Callable[[list[dict[str, Any]], Span], Mapping[str, Any]]


CARDS = (
    Card("traffic", "Events", traffic, figures.traffic),
    Card("visits", "Devices and sessions", visits, figures.visits),
    Card("rejections", "Rejected events", rejections, figures.rejections),
    Card("versions", "App versions", lambda scope: _question_sql(scope)("app_versions"), figures.versions),
)


# What the page does not answer itself.
MORE = ("funnel", "retention", "actives", "paths")


class Asked(NamedTuple):
    """What a page or card is about: the span by its `name`, and the span itself; `query` repeats it in addresses."""

    name: str
    span: Span

    @property
    def query(self) -> dict[str, str]:
        """The members of an address that ask for the very same span."""
        ends = {"from": format_us(self.span.from_us), "to": format_us(self.span.to_us)}
        return {"span": self.name} | ends


def routes() -> list[BaseRoute]:
    """The routes of the page and its cards."""
    return [Route(PATH, show), Route(PATH + "/{card}", show_card)]


async def show(request: Request) -> Response:
    """The page, with a place for each card; with `all=1` with the cards."""
    chosen = await run_in_threadpool(choose, request)
    console_of(request).pool.warm()
    asked, mistake = _asked_or_default(request)
    cards: dict[str, str] = {}
    if request.query_params.get("all") == "1" and chosen.project:
        texts = await asyncio.gather(*(_card(request, chosen, asked, card) for card in CARDS))
        cards = dict(zip([card.name for card in CARDS], texts, strict=True))
    return render(
        request,
        "overview.html",
        chosen,
        asked=asked,
        mistake=mistake,
        spans=SPANS,
        cards=CARDS,
        questions=[find_question(name) for name in MORE],
        loaded=cards,
        bucket_s=asked.span.bucket_us // 1_000_000,
    )


async def show_card(request: Request) -> Response:
    """One card, for htmx to put into the page. A query that fails is told in the card."""
    card = next((card for card in CARDS if card.name == request.path_params["card"]), None)
    if card is None:
        raise NotFound("There is no such card.")
    chosen = await run_in_threadpool(choose, request)
    if chosen.project is None:
        raise NotFound("There is no project yet.")
    return HTMLResponse(await _card(request, chosen, _asked(request), card))


async def _card(request: Request, chosen: Chosen, asked: Asked, card: Card) -> str:
    project_id = chosen.project.id if chosen.project else ""
    scope = Scope(project_id, chosen.environment, asked.span)
    given = {"asked": asked, "card": card, "sql": _question_sql(scope)}
    try:
        answer = await console_of(request).pool.table(card.sql(scope))
    except QueryFailed as error:
        return fragment(request, "overview_failed.html", chosen, message=error.message, step=_step(error), **given)
    return fragment(request, f"overview_{card.name}.html", chosen, **given, **card.view(answer.dicts(), asked.span))


def _step(error: QueryFailed) -> str:
    """What to do about an error: on this page nobody can narrow a query but by its span."""
    settings = {QueryTooLong: "query_s_max", QueryTooLarge: "query_memory_bytes_max"}
    if setting := settings.get(type(error)):
        return f"Choose a shorter span, or raise the setting {setting}."
    # What the engine says of any other failure is about SQL that the person did not write.
    return "Try again. If it stays like this, look at Health." if type(error) is QueryFailed else error.next_step


def _question_sql(scope: Scope) -> Callable[[str], str]:
    """The SQL of a single question by its name: what a person can take along, and gives the figures of the card."""

    def sql(name: str) -> str:
        question = find_question(name)
        return question.sql(scope, read_values(question.parameters, {}))

    return sql


def _asked_or_default(request: Request) -> tuple[Asked, BadArgument | None]:
    """What is asked for; where that cannot be, the default and what is wrong."""
    try:
        return _asked(request), None
    except BadArgument as error:
        return Asked(SPAN_DEFAULT, named_span(SPAN_DEFAULT, console_of(request).now_us())), error


def _asked(request: Request) -> Asked:
    """The span of an address: both ends, or a name and the present. Raises `BadArgument`."""
    given = request.query_params
    name = given.get("span", SPAN_DEFAULT)
    if name == CUSTOM or ("from" in given and "to" in given):
        named = name if name in {span.name for span in SPANS} else CUSTOM
        return Asked(named, span_of(given.get("from", ""), given.get("to", "")))
    return Asked(name, named_span(name, console_of(request).now_us()))
