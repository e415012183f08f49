"""Start: from nothing to the first event, or to the reason why it was not taken."""

from typing import Any

from msgspec import json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console.context import console_of, form_of
from kixo.console.feed.backlog import look
from kixo.console.feed.filter import Filter
from kixo.console.navigation import Chosen, choose
from kixo.console.rendering import render, see_other
from kixo.console.snippets import NO_KEY, first_batch, snippets
from kixo.errors import BadArgument, NotFound, OperatorError
from kixo.query.views import quote
from kixo.server_card import public_url

ROWS_MAX = 5
OVERVIEW = "/overview"


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [
        Route("/start", show),
        Route("/start/project", make_project, methods=["POST"]),
        Route("/start/key", make_key, methods=["POST"]),
    ]


async def home(request: Request) -> Response:
    """The way to the first page: this one, until the chosen project has an event."""
    chosen = await run_in_threadpool(choose, request)
    path = OVERVIEW if await has_events(request, chosen) else "/start"
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(path + query, 303)


async def has_events(request: Request, chosen: Chosen) -> bool:
    """Whether an event of the chosen project was ever taken, in any environment."""
    if chosen.project is None:
        return False
    console, project = console_of(request), chosen.project.id
    if await run_in_threadpool(look, console.sources, Filter(project=project, outcome="accepted")):
        return True
    try:
        found = await console.pool.table(f"SELECT 1 FROM events WHERE project_id = {quote(project)} LIMIT 1")
    except OperatorError as error:
        console.log.warning("first_page_unknown", reason=str(error))
        return True
    return bool(found.rows)


def show(request: Request) -> Response:
    """The page."""
    return _page(request, choose(request), None)


def make_project(request: Request) -> Response:
    """Makes a project, which is then the chosen one."""
    name = form_of(request).get("name", "").strip()
    try:
        project = console_of(request).registry().create_project(name)
    except BadArgument as error:
        return see_other(request, "/start", str(error))
    return see_other(request, f"/start?project={project.id}", "The project is made. Now make a key of it.")


def make_key(request: Request) -> Response:
    """Makes a key and shows it, this once: it is in this answer and nowhere else."""
    chosen = choose(request)
    if chosen.project is None:
        raise NotFound("There is no project yet. Make one first.")
    _, key = console_of(request).registry().create_key(chosen.project.id)
    return _page(request, chosen, key)


def _page(request: Request, chosen: Chosen, key: str | None) -> Response:
    console = console_of(request)
    url = public_url(console.settings)
    data: dict[str, Any] = {"key": key, "url": url}
    if chosen.project is not None:
        given = (chosen.project.id, key or NO_KEY, chosen.environment, console.now_us())
        rows = look(console.sources, Filter(project=chosen.project.id))
        data |= {
            "snippets": snippets(url, *given),
            "batch": json.encode(first_batch(*given)).decode(),
            "rows": rows[:ROWS_MAX],
            "keys": sum(each.revoked_at_us is None for each in console.registry().list_keys(chosen.project.id)),
        }
    return render(request, "start.html", chosen, **data)
