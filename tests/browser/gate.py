"""A gate between browser and server, which sees every request and can misbehave."""

import gzip
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import httpx

from tests.browser.serving import Answered, end, listen, url_of
from tests.conftest import PATIENCE_S

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
HOLD_S_MAX = 30.0


class Reply(NamedTuple):
    """An answer that the gate gives in the server's place."""

    status: int
    code: str
    headers: Mapping[str, str] = {}
    members: Mapping[str, object] = {}

    def body(self) -> bytes:
        return json.dumps({"status": "error", "code": self.code, "message": "by the test", **self.members}).encode()


class Gate:
    """Stands between browser and server: keeps what is sent, and answers itself where a test wants that.

    `replies` are given to the next batches, one each; an entry of None is a connection that is cut after the server
    has taken the batch. `closed` cuts every connection before the server sees anything.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.replies: list[Reply | None] = []
        self.closed = False
        self.requests: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.lengths: list[int] = []
        self.content_types: list[str] = []
        self._open = threading.Event()
        self._open.set()
        self._http = httpx.Client(timeout=PATIENCE_S)
        self._server = listen(self._answer)
        self.url = url_of(self._server)

    def close(self) -> None:
        self.let_go()
        end(self._server)
        self._http.close()

    def hold(self) -> None:
        """Lets batches in and no answer out."""
        self._open.clear()

    def let_go(self) -> None:
        """Lets answers out again."""
        self._open.set()

    def events(self) -> list[dict[str, Any]]:
        """Every event of every request, in the order of their arrival."""
        return [event for request in self.requests for event in request["batch"]]

    def names(self) -> list[str]:
        return [event["event_name"] for event in self.events()]

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answered:
        if self.closed:
            return None
        if handler.command == "POST":
            sent = gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body
            self.arrivals.append(time.monotonic())
            self.lengths.append(len(body))
            self.content_types.append(handler.headers.get("Content-Type", ""))
            self.requests.append(json.loads(sent))
            self._open.wait(HOLD_S_MAX)
            if self.replies:
                return self._reply(self.replies.pop(0), handler, body)
        return self._forward(handler, body)

    def _reply(self, reply: Reply | None, handler: BaseHTTPRequestHandler, body: bytes) -> Answered:
        if reply is None:
            self._forward(handler, body)
            return None
        return reply.status, {**CORS, **reply.headers}, reply.body()

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answered:
        names = ("Content-Type", "Content-Encoding", "Origin", "Access-Control-Request-Headers")
        headers = {name: value for name in names if (value := handler.headers.get(name))}
        try:
            answer = self._http.request(
                handler.command,
                self.upstream + handler.path,
                content=body,
                headers={**headers, "Accept-Encoding": "identity"},
            )
        except httpx.TransportError:
            return None
        return answer.status_code, answer.headers, answer.content
