"""Server-sent events: what a watcher is told, over a response that does not end by itself.

A comment is sent whenever nothing else was for a while, so that a connection that went away is noticed at both ends
and no proxy takes it for dead. `Last-Event-ID` names the positions that a browser has seen, so that one that lost its
connection goes on behind them. The stream ends when the session does, and at once when the server stops: browsers come
back by themselves, and a stop need not wait for anybody.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from kixo.console.feed.filter import Filter, Search
from kixo.console.feed.follower import Follower
from kixo.console.feed.following import parse_positions
from kixo.console.feed.watcher import Watcher

BEAT_S = 5.0
# How long a browser waits before it comes back.
RETRY_MS = 1000
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}

IsLive = Callable[[], Awaitable[bool]]
"""Whether the session that a stream belongs to is still valid."""


def stream(request: Request, wanted: Filter, follower: Follower, is_live: IsLive, beat_s: float = BEAT_S) -> Response:
    """The response that tells of wanted events, until `is_live` says no, which is asked every `beat_s` seconds."""
    watcher = Watcher(Search(wanted), parse_positions(request.headers.get("last-event-id", "")))
    if not follower.watch(watcher):
        return _too_many(follower.watchers)
    return _Stream(watcher, follower, told(watcher, is_live, beat_s))


async def told(watcher: Watcher, is_live: IsLive, beat_s: float) -> AsyncIterator[bytes]:
    """What goes over the wire."""
    yield b"retry: %d\n\n" % RETRY_MS
    asked_s = time.monotonic()
    async for message in watcher.messages(beat_s):
        yield b": still here\n\n" if message is None else message.encode()
        if time.monotonic() - asked_s >= beat_s:
            asked_s = time.monotonic()
            if not await is_live():
                yield b"event: ended\ndata: {}\n\n"
                return


class _Stream(StreamingResponse):
    """A stream that lets go of its watcher however it ends."""

    def __init__(self, watcher: Watcher, follower: Follower, body: AsyncIterator[bytes]) -> None:
        super().__init__(body, media_type="text/event-stream", headers=HEADERS)
        self._watcher = watcher
        self._follower = follower

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._follower.leave(self._watcher)


def _too_many(watchers: int) -> Response:
    message = f"{watchers} pages watch already, which is the limit. Close one of them, or raise live_watchers_max."
    return JSONResponse({"status": "error", "code": "too_many_watchers", "message": message}, 503, HEADERS)
