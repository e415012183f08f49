"""Health: how the server is doing, in the figures of its metrics."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kixo.console.rendering import render


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [Route("/health", show)]


def show(request: Request) -> Response:
    """The page."""
    return render(request, "health.html")
