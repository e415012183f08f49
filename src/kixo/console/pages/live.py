"""Live: events as they arrive, with what becomes of them."""

from typing import Any

from msgspec import json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from kixo import clock
from kixo.console.context import console_of
from kixo.console.feed.backlog import look
from kixo.console.feed.filter import OUTCOMES, Filter, describe
from kixo.console.feed.row import Place, Row, parse_place
from kixo.console.feed.stream import stream
from kixo.console.navigation import Chosen, choose
from kixo.console.rendering import fragment, render
from kixo.console.sessions import read_session
from kixo.console.whole_event import WholeEvent, read_log_event, whole_event
from kixo.errors import NotFound
from kixo.event import EVENT_NAME_LENGTH_MAX, EVENT_TYPES, PLATFORMS
from kixo.registry.login import session_secret
from kixo.timestamp import DAY_US, parse_us

BLANK = Row(id="", at="", outcome="accepted")


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [Route("/live", show), Route("/live/stream", follow), Route("/live/event", show_event)]


async def show(request: Request) -> Response:
    """The page, with the newest rows and, where the address names one, a whole event."""
    # Whoever looks at events may soon open one.
    console_of(request).pool.warm()
    chosen = await run_in_threadpool(choose, request)
    wanted, place = _filter(request, chosen), _place(request)
    rows = await run_in_threadpool(look, console_of(request).sources, wanted) if chosen.project else []
    event = await _event_data(request, place) if place is not None else None
    return await run_in_threadpool(
        render,
        request,
        "live.html",
        chosen,
        rows=rows,
        blank=BLANK,
        wanted=wanted,
        every=request.query_params.get("every"),
        outcomes=OUTCOMES,
        platforms=PLATFORMS,
        event_types=EVENT_TYPES,
        event=event,
        query=_query(request),
    )


async def follow(request: Request) -> Response:
    """What arrives from now on, as server-sent events."""
    console = console_of(request)

    async def is_live() -> bool:
        secret = await run_in_threadpool(lambda: session_secret(console.registry()))
        return read_session(secret, request, console.settings.session_s) is not None

    return stream(request, _filter(request, None), console.feed, is_live)


async def show_event(request: Request) -> Response:
    """A whole event, as a part of the page."""
    place = _place(request)
    if place is None:
        raise NotFound("Name an event by its place, such as 0:1048591:3.")
    chosen = await run_in_threadpool(choose, request)
    event = await _event_data(request, place)
    text = await run_in_threadpool(fragment, request, "live_event.html", chosen, event=event, query=_query(request))
    return HTMLResponse(text)


def _filter(request: Request, chosen: Chosen | None) -> Filter:
    """What the address asks for; what cannot be is left out."""
    given = {name: value.strip()[:EVENT_NAME_LENGTH_MAX] or None for name, value in request.query_params.items()}
    project = chosen.project.id if chosen is not None and chosen.project else given.get("project")
    environment = chosen.environment if chosen is not None else given.get("environment")
    return Filter(
        project=project,
        environment=None if given.get("every") else environment,
        platform=given.get("platform") if given.get("platform") in PLATFORMS else None,
        type=given.get("type"),
        name=given.get("name"),
        device=given.get("device"),
        outcome=given.get("outcome") if given.get("outcome") in OUTCOMES else None,
        strangers=bool(given.get("strangers")),
    )


def _query(request: Request) -> dict[str, str]:
    """The filter in the address, to be kept in links."""
    names = ("every", "outcome", "platform", "type", "name", "device")
    return {name: value for name in names if (value := request.query_params.get(name))}


def _place(request: Request) -> Place | None:
    try:
        return parse_place(request.query_params["event"])
    except (KeyError, ValueError):
        return None


async def _event_data(request: Request, place: Place) -> dict[str, Any]:
    """What the template of an event shows."""
    console = console_of(request)
    settings = console.settings
    tolerance_us = round(settings.clock_tolerance_s * 1e6)
    horizon_us = settings.date_horizon_days * DAY_US

    async def ask(sql: str) -> list[dict[str, Any]]:
        return (await console.pool.table(sql)).dicts()

    found = await run_in_threadpool(read_log_event, console.sources.open_log, place, tolerance_us, horizon_us)
    event = await whole_event(place, found, console.sources.read_loads, ask)
    return {
        "whole": event,
        "rule": _rule(event),
        "sent": _indented(event.sent or ""),
        "name": _name(event),
    }


def _name(event: WholeEvent) -> str:
    """What to call an event."""
    named = describe(event.rejected).name if event.rejected else event.row.get("event_name")
    return named or ("An event without a name" if event.row else f"Event {event.place}")


def _indented(text: str) -> str:
    """JSON over lines, all that it says kept to the last digit; what is none stays as it is."""
    try:
        return json.format(text, indent=2)
    except (ValueError, RecursionError):
        return text


def _rule(event: WholeEvent) -> str | None:
    """The clock rule of an event in words."""
    rule = event.row.get("clock_rule")
    if rule is None:
        return None
    sent_at = event.row.get("sent_at")
    return clock.in_words(rule, None if sent_at is None else parse_us(sent_at), parse_us(event.row["received_at"]))
