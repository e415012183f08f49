"""The way to an S3 server on which requests and answers get lost, come late, or are answered with an error.

What is asked reaches the server or does not, and what it answers reaches the client or does not: an error or a broken
connection says nothing of which it was.
"""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from random import Random
from typing import Self

FAULTS = ("cut before", "cut after", "503 before", "500 after", "cut, and late")
LATE_S = 0.3
# Those of one connection to the next: the connection's own.
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}

Fate = Callable[[str, str], str]
"""What befalls a request, by its method and path: one of `FAULTS`, or an empty text."""


class FaultyS3:
    """A port of loopback that leads to the server at `host` and `port`. Closed at the end of a `with`."""

    def __init__(self, host: str, port: int, fate: Fate) -> None:
        self._target = host, port
        self._fate = fate
        self._lock = threading.Lock()
        self.faults: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._late: list[threading.Thread] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def endpoint(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for late in self._late:
            late.join()

    def _choose(self, method: str, path: str) -> str:
        with self._lock:
            self.asked[f"{method} part" if "partNumber=" in path else method] += 1
            fault = self._fate(method, path)
            if fault:
                self.faults[fault] += 1
            return fault

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self._target, timeout=60)
        try:
            # The host is signed: it stays that of this port.
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _forward_late(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        def send() -> None:
            time.sleep(LATE_S)
            self._forward(handler, body)

        self._late.append(threading.Thread(target=send))
        self._late[-1].start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        way = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = way._choose(self.command, self.path)
                if fault == "cut, and late":
                    way._forward_late(self, body)
                if fault in {"cut before", "cut, and late"}:
                    self.close_connection = True
                    return
                if fault == "503 before":
                    self._answer(503, [], b"")
                    return
                status, headers, content = way._forward(self, body)
                if fault == "cut after":
                    self.close_connection = True
                elif fault == "500 after":
                    self._answer(500, [], b"")
                else:
                    self._answer(status, headers, content)

            def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                known = {name.lower() for name, _ in headers}
                for name, value in headers:
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                if "content-length" not in known:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

        return Handler


def at_random(seed: int, share: float, methods: str = "PUT POST DELETE GET") -> Fate:
    """A share of the requests has faults, of all kinds in turn."""
    dice, faults = Random(seed), cycle(FAULTS)

    def fate(method: str, _path: str) -> str:
        return next(faults) if method in methods.split() and dice.random() < share else ""

    return fate
