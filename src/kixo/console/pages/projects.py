"""Projects and keys: who may send events, who may read them, and how close each project is to its limit.

A key or a token that was just made stands on the page that answers the form, and nowhere else: not in an address, not
in a cookie, and not in the browser's cache.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kixo.console.context import console_of, form_of
from kixo.console.navigation import Chosen, choose
from kixo.console.rendering import render, see_other
from kixo.console.traffic import Use
from kixo.errors import BadArgument, RateLimited
from kixo.key_use import KeyUse, read_key_use
from kixo.refused import read_refused
from kixo.registry.tables import KeyRecord, Project
from kixo.registry.tokens import ReadToken, create_read_token, list_read_tokens, revoke_read_token
from kixo.settings import Settings

KEYS_SHOWN_MAX = 200

Shown = TypeVar("Shown", KeyRecord, ReadToken)


class Made(NamedTuple):
    """What was just made, shown this once: `text` is the key or token itself."""

    title: str
    text: str
    use: str


class Row(NamedTuple):
    """A project, and how close it is to the limit: `use` is None where that is not watched, `limited_at_us` where none
    of its requests that are still remembered was answered 429."""

    project: Project
    use: Use | None
    kind: str
    state: str
    limited_at_us: int | None


class KeyRow(NamedTuple):
    """A key, and what it was used for."""

    record: KeyRecord
    use: KeyUse


class Limit(NamedTuple):
    """A limit in force, and the setting that changes it."""

    name: str
    value: str
    setting: str


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [
        Route("/projects", show),
        Route("/projects", create_project, methods=["POST"]),
        Route("/projects/keys", create_key, methods=["POST"]),
        Route("/projects/keys/revoke", revoke_key, methods=["POST"]),
        Route("/projects/tokens", create_token, methods=["POST"]),
        Route("/projects/tokens/revoke", revoke_token, methods=["POST"]),
    ]


def show(request: Request) -> Response:
    """The page."""
    return _page(request)


def create_project(request: Request) -> Response:
    """Makes a project and goes to it."""
    name, id = (form_of(request).get(field, "").strip() for field in ("name", "id"))
    try:
        project = console_of(request).registry().create_project(name, id or None)
    except BadArgument as error:
        return _page(request, error=error)
    return see_other(
        request, f"/projects?project={project.id}", f"Project {project.id} was made. Now make a key for it."
    )


def create_key(request: Request) -> Response:
    """Makes a key of a project, and shows it."""
    project = form_of(request).get("project", "")
    try:
        record, key = console_of(request).registry().create_key(project)
    except BadArgument as error:
        return _page(request, error=error)
    return _page(request, made=Made(f"Key {record.id}", key, "Put it into the app that sends events of this project."))


def revoke_key(request: Request) -> Response:
    """Revokes a key of a project."""
    form = form_of(request)
    project = form.get("project", "")
    record = console_of(request).registry().revoke_key(form.get("key", ""), project)
    message = f"Key {record.id} (…{record.hint}) is revoked. Within 2 seconds nothing is taken with it any more."
    return see_other(request, choose(request)._replace(project=None).link("/projects", project=project), message)


def create_token(request: Request) -> Response:
    """Makes a read token, and shows it."""
    try:
        record, token = create_read_token(console_of(request).registry(), form_of(request).get("name", "").strip())
    except BadArgument as error:
        return _page(request, error=error)
    return _page(request, made=Made(f"Read token {record.id}", token, "Send it as Authorization: Bearer … to /api/."))


def revoke_token(request: Request) -> Response:
    """Revokes a read token."""
    record = revoke_read_token(console_of(request).registry(), form_of(request).get("token", ""))
    message = f"Read token {record.id} (…{record.hint}) is revoked, and reads nothing any more."
    return see_other(request, choose(request).link("/projects"), message)


def _page(request: Request, *, made: Made | None = None, error: BadArgument | None = None) -> Response:
    console, chosen = console_of(request), _chosen(request)
    registry, settings = console.registry(), console.settings
    keys = registry.list_keys(chosen.project.id) if chosen.project else []
    return render(
        request,
        "projects.html",
        chosen,
        status=400 if error else 200,
        made=made,
        error=error,
        form=form_of(request),
        rows=_rows(chosen.projects, request),
        count=registry.count_projects(),
        keys=_key_rows(_newest(keys), chosen.project, request),
        key_count=len(keys),
        tokens=_newest(list_read_tokens(registry)),
        limits=_limits(settings),
        requests_max=settings.requests_per_second_max,
        many_nodes=bool(settings.registry or settings.log or settings.limits),
        shared_limits=bool(settings.limits),
    )


def _chosen(request: Request) -> Chosen:
    """What the page is about: after a form, the project that the form was about."""
    chosen, wanted = choose(request), form_of(request).get("project")
    project = console_of(request).registry().find_project(wanted) if wanted else None
    return chosen if project is None else chosen._replace(project=project)


def _key_rows(records: Sequence[KeyRecord], project: Project | None, request: Request) -> list[KeyRow]:
    console = console_of(request)
    numbers = console.registry().key_numbers(project.id) if project else {}
    # A key that was made in between has no number yet here, and no use.
    uses = read_key_use(console.layout.key_use, (numbers[record.id] for record in records if record.id in numbers))
    return [KeyRow(record, uses.get(numbers.get(record.id, -1), KeyUse(0, 0, None))) for record in records]


def _newest(records: Sequence[Shown]) -> list[Shown]:
    """Live ones before revoked ones, the newest first, at most so many."""
    ordered = sorted(records, key=lambda record: (record.revoked_at_us is not None, -record.created_at_us))
    return ordered[:KEYS_SHOWN_MAX]


def _rows(projects: Sequence[Project], request: Request) -> list[Row]:
    console = console_of(request)
    refused = read_refused(console.layout.refused).entries
    limited = {entry.project_id: entry.at_us for entry in refused if entry.code == RateLimited.code}
    rows = []
    for project in projects:
        use = console.traffic.use(project.number)
        state = _state(use, console.settings.requests_per_second_max)
        rows.append(Row(project, use, *state, limited.get(project.id)))
    return rows


def _state(use: Use | None, requests_max: int) -> tuple[str, str]:
    """How close that is to the limit: the kind of badge, and its words."""
    if use is None:
        return "plain", "not watched"
    if use.most >= requests_max:
        return "bad", "reached the limit"
    if use.most * 2 > requests_max:
        return "warn", "over half of the limit"
    return ("good", "below the limit") if use.most else ("plain", "quiet")


def _limits(settings: Settings) -> list[Limit]:
    return [
        Limit("Requests of a project in a second", f"{settings.requests_per_second_max:,}", "requests_per_second_max"),
        Limit("Events in a request", f"{settings.events_per_batch_max:,}", "events_per_batch_max"),
        Limit("Size of a request", f"{settings.body_bytes_max / 1024**2:g} MiB", "body_bytes_max"),
        Limit("Projects", f"{settings.projects_max:,}", "projects_max"),
    ]
