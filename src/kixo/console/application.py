"""The web application of the private port: metrics, and whether it is alive."""

from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kixo.console.exposition import exposition


def build_application(metric_folder: Path) -> Starlette:
    """The application; it reads the metric files in `metric_folder`."""

    async def metrics(_request: Request) -> Response:
        return Response(exposition(metric_folder), media_type=CONTENT_TYPE_LATEST)

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", health)])
