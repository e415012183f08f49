"""The web application of the private port: the console's pages, metrics, and whether it is alive."""

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from kixo.console import login
from kixo.console.api import document, events, queries
from kixo.console.assets import PREFIX
from kixo.console.context import Console, console_of
from kixo.console.exposition import exposition
from kixo.console.failures import answer_failure
from kixo.console.gate import Gate
from kixo.console.navigation import page_routes
from kixo.console.pages.start import home
from kixo.console.status import alive, ready_answer
from kixo.errors import OperatorError, RequestError


def build_application(console: Console) -> ASGIApp:
    """The application, behind its gate."""
    kinds = (HTTPException, RequestError, OperatorError, Exception)
    application = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/", home),
            Route(PREFIX + "{name:path}", static),
            *login.routes(),
            *queries.routes(),
            *events.routes(),
            *document.routes(),
            *page_routes(),
        ],
        exception_handlers=dict.fromkeys(kinds, answer_failure),
    )
    application.state.console = console
    return Gate(application, console)


def metrics(request: Request) -> Response:
    """What Prometheus reads."""
    return Response(exposition(console_of(request).metric_folder), media_type=CONTENT_TYPE_LATEST)


def ready(request: Request) -> Response:
    """That pages can be shown, or why not: all of them need the registry."""
    try:
        console_of(request).registry().revision()
    except OperatorError as error:
        return ready_answer(str(error))
    return ready_answer(None)


def static(request: Request) -> Response:
    """A built file."""
    return console_of(request).assets.answer(request)
