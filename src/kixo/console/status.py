"""The private port of a node without the console: `/metrics`, `/healthz`, `/readyz`, and nothing to log in to."""

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kixo.console.exposition import exposition
from kixo.console.hosts import is_known_host
from kixo.errors import InvalidRequest
from kixo.settings import Settings

Handler = Callable[[Request], Response]


def build_status(settings: Settings, metric_folder: Path, is_ready: Callable[[], bool]) -> Starlette:
    """The application; `is_ready` tells whether every process of the node has begun its work."""

    def metrics(_request: Request) -> Response:
        return Response(exposition(metric_folder), media_type=CONTENT_TYPE_LATEST)

    def readiness(_request: Request) -> Response:
        return ready_answer(None if is_ready() else "A process of this node has not begun its work yet.")

    handlers = {"/metrics": metrics, "/healthz": alive, "/readyz": readiness}
    return Starlette(routes=[Route(path, _known(settings, handler)) for path, handler in handlers.items()])


def alive(_request: Request) -> Response:
    """That the process answers."""
    return JSONResponse({"status": "ok"})


def ready_answer(reason: str | None) -> Response:
    """That work can be done, or 503 with the reason why not."""
    if reason is None:
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "error", "code": "unavailable", "message": reason}, 503)


def _known(settings: Settings, handler: Handler) -> Handler:
    """The same for those who ask by a name of ours, as the gate of the console does it."""

    def guarded(request: Request) -> Response:
        if is_known_host(request, settings):
            return handler(request)
        refusal = InvalidRequest("This port does not answer to this name. Ask by its address, or set console_names.")
        return JSONResponse(refusal.answer(), refusal.status)

    return guarded
