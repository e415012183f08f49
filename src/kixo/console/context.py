"""What every page of the console has at hand, and what the gate found out about a request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from starlette.requests import Request

from kixo.console.assets import Assets
from kixo.console.feed.backlog import Sources
from kixo.console.feed.follower import Follower
from kixo.console.samples import History
from kixo.console.sessions import Session
from kixo.console.traffic import Traffic
from kixo.layout import Layout
from kixo.query.pool import QueryPool
from kixo.registry import Registry
from kixo.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Console:
    """The console as a whole; one for the life of the process, and `console_of(request)` in every page.

    `registry` gives the opened registry, which is another one after a backup was restored: ask each time, in a
    handler that is no coroutine, because it can wait for the disk. `now_us` tells microseconds since 1970. `pool` runs
    queries, for handlers that are coroutines.
    """

    settings: Settings
    layout: Layout
    metric_folder: Path
    registry: Callable[[], Registry]
    now_us: Callable[[], int]
    log: Any
    assets: Assets
    templates: Environment
    pool: QueryPool
    sources: Sources
    feed: Follower
    history: History
    traffic: Traffic


def console_of(request: Request) -> Console:
    """The console that answers the request."""
    console: Console = request.state.console
    return console


def session_of(request: Request) -> Session | None:
    """The session of whoever asks; None under `/api/` where a read token was sent, and where nobody has to log in."""
    session: Session | None = getattr(request.state, "session", None)
    return session


def form_of(request: Request) -> Mapping[str, str]:
    """The fields of the form that was sent; of a field that stands twice the last one."""
    form: Mapping[str, str] = getattr(request.state, "form", {})
    return form
