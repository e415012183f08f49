"""`/api/query`: any SQL that reads, answered as JSON, JSON lines, CSV or Parquet; and stopping it."""

from collections.abc import Coroutine
from functools import partial
from secrets import token_hex
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console.api.answering import ANSWER_TYPE, STREAMED, Download, first_piece, query_refusal, until_gone
from kixo.console.api.asked import ANSWER, Asked, asked_by_address, asked_by_body
from kixo.console.api.visibility import Position, loaded_positions, wait_visible
from kixo.console.context import Console, console_of, session_of
from kixo.errors import Forbidden, NotFound, QueryFailed

PATH = "/api/query"


def routes() -> list[BaseRoute]:
    """The routes of queries."""
    return [
        Route(PATH, ask, methods=["GET", "POST"]),
        Route(PATH + "/{id}", stop, methods=["DELETE"]),
    ]


async def ask(request: Request) -> Response:
    """Runs a query, and ends it when whoever asked goes away."""
    if request.method == "POST":
        asked = asked_by_body(request, await request.body())
    else:
        _refuse_links(request)
        asked = asked_by_address(request)
    try:
        return await until_gone(request, answer(console_of(request), asked, request.headers.get("accept", "")))
    except QueryFailed as error:
        return query_refusal(error, asked.sql)


async def answer(console: Console, asked: Asked, accept: str) -> Response:
    """The answer to a query, in the form that is asked for; raises `QueryFailed` and `RequestError`."""
    await wait_for(console, asked.positions())
    format, id = asked.format_for(accept), asked.id or token_hex(16)
    caps, headers = asked.caps(console.pool.bounds), {"kixo-query-id": id, "vary": "accept"}
    if format == ANSWER:
        body = await console.pool.answer(asked.sql, caps, rows_max=asked.rows, id=id)
        return Response(body, media_type=ANSWER_TYPE, headers=headers)
    pieces = console.pool.stream(asked.sql, STREAMED[format][0], caps, id=id)
    return Download(await first_piece(pieces), pieces, format, headers)


def wait_for(console: Console, wanted: list[Position]) -> Coroutine[Any, Any, None]:
    """Waits until what stands at these positions can be read; raises `NotYetVisible`."""
    return wait_visible(wanted, partial(loaded_positions, console.sources.read_loads), console.settings.after_s_max)


async def stop(request: Request) -> Response:
    """Stops a query by its id, waiting or running."""
    if not console_of(request).pool.cancel(request.path_params["id"]):
        raise NotFound("No query of that id runs. It may have ended just now.")
    return JSONResponse({"status": "ok"})


def _refuse_links(request: Request) -> None:
    """A link that somebody else made may run nothing for who is logged in here. A script has its token instead."""
    if session_of(request) is not None and request.headers.get("sec-fetch-site") != "same-origin":
        raise Forbidden("A link runs no query. Open the page Explore, or send a read token.")
