"""What tests of the browser SDK need: a Chromium, a small site, and a gate before the server that can misbehave."""

import gzip
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import Project

CORS = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Answered = tuple[int, Mapping[str, str], bytes] | None
"""Status, headers and body; None cuts the connection."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium with a profile of its own; skips the test, in CI fails it, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing = "There is no Chromium. Install the package `chromium` to run the tests of the browser SDK."
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


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
        self.lengths: list[int] = []
        self.content_types: list[str] = []
        self._http = httpx.Client(timeout=30)
        self._server = _listen(_handler(self._answer))
        self.url = _url(self._server)

    def close(self) -> None:
        _end(self._server)
        self._http.close()

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
            self.lengths.append(len(body))
            self.content_types.append(handler.headers.get("Content-Type", ""))
            self.requests.append(json.loads(sent))
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


class Site:
    """A small site: pages by path, each with the SDK in it, started with `options` and what `script` adds."""

    def __init__(self, host: str, project: Project, pages: Mapping[str, str]) -> None:
        self.host = host
        self.pages = dict(pages)
        self.options: dict[str, Any] = {
            "projectId": project.id,
            "apiKey": project.key,
            "bundleId": "com.example.site",
            "flushSeconds": 0.2,
        }
        self.script = ""
        self._server = _listen(_handler(self._answer))
        self.url = _url(self._server)

    def close(self) -> None:
        _end(self._server)

    def _answer(self, handler: BaseHTTPRequestHandler, _body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        path = handler.path.partition("?")[0]
        if path not in self.pages:
            return 404, {}, b""
        return 200, {"Content-Type": "text/html; charset=utf-8"}, self._page(path).encode()

    def _page(self, path: str) -> str:
        options = json.dumps(self.options)
        head = f"<script src='{self.host}/kixo.js'></script><script>options = {options}; {self.script}</script>"
        start = "<script>Kixo.start(options)</script>"
        return f"<!doctype html><title>Page {path}</title>{head}{start}<body>{self.pages[path]}"


def _handler(answering: Callable[[BaseHTTPRequestHandler, bytes], Answered]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        hop_by_hop: ClassVar = {"content-length", "connection", "transfer-encoding", "date", "server"}

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = answering(self, body)
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in self.hop_by_hop:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    # The names that the library calls by the method of a request.
    for method in ("GET", "POST", "OPTIONS"):
        setattr(Handler, f"do_{method}", Handler.answer)
    return Handler


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A browser that goes away in the middle is nothing to speak of."""


def _listen(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = _Listener(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def _end(server: ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def built(name: str) -> Path:
    """A file of the SDK as it was built."""
    return Path(__file__).parent.parent / "src" / "kixo" / "http" / "sdk" / name
