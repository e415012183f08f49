"""Projects and keys: who may send events, and who may read them."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from kixo.console.rendering import render


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [Route("/projects", show)]


def show(request: Request) -> Response:
    """The page."""
    return render(request, "projects.html")
