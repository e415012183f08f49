"""What the public port answers to GET: whether it is alive and ready, its schema, and the browser SDK."""

from collections.abc import Awaitable, Callable, Mapping

from kixo.errors import Unavailable
from kixo.http.answers import COMMON, Answer, failure
from kixo.http.browser import Script, open_scripts, script_answer

Page = Callable[[Mapping[str, str]], Awaitable[Answer]]
"""Gives the answer to a GET with these request headers."""

Ready = Callable[[], Awaitable[str | None]]
"""Gives the reason why nothing can be stored now, or None."""


def open_pages(ready: Ready, openapi: bytes) -> dict[str, Page]:
    """Every page by its path."""
    return {
        "/healthz": _fixed(b'{"status":"ok"}'),
        "/readyz": _readiness(ready),
        "/openapi.json": _fixed(openapi),
        **{path: _script(script) for path, script in open_scripts().items()},
    }


def _fixed(body: bytes) -> Page:
    answer = Answer(200, "ok", COMMON, body)

    async def page(_headers: Mapping[str, str]) -> Answer:
        return answer

    return page


def _readiness(ready: Ready) -> Page:
    async def page(_headers: Mapping[str, str]) -> Answer:
        reason = await ready()
        if reason is None:
            return Answer(200, "ok", COMMON, b'{"status":"ready"}')
        return failure(Unavailable(reason, retry_after_s=1))

    return page


def _script(script: Script) -> Page:
    async def page(headers: Mapping[str, str]) -> Answer:
        return script_answer(script, headers)

    return page
