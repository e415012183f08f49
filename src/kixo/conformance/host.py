"""The mock of the endpoint: it answers as the script of one case says, and writes down what it saw.

One thread for each connection, HTTP/1.1 with keep-alive, on loopback. Faults are played on the socket itself:

    reset    RST once the request is read: the client cannot know whether it arrived
    close    the connection ends without an answer
    cut      the answer ends in the middle of its body
    silence  no answer, until the client gives up or the case ends
"""

import contextlib
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import json

from kixo.conformance import judge
from kixo.conformance.case import Case
from kixo.conformance.script import Reply, Script, refusal
from kixo.conformance.task import task
from kixo.conformance.trace import Report, Request, Trace
from kixo.errors import NotFound, RequestError
from kixo.http.answers import COMMON, PREFLIGHT
from kixo.timestamp import now_us

PATH = "/v1/batch"
CASE_PATH, END_PATH = "/conformance/case", "/conformance/end"
# More than the contract allows, so that a client that sends too much is seen and told.
READ_BYTES_MAX = 64 * 1024 * 1024
POLL_S = 0.05
LINGER_NONE = struct.pack("ii", 1, 0)


class Host:
    """The host of one case. `open` makes it listen; until then connections are refused. Safe for many threads."""

    def __init__(self, case: Case, address: str = "127.0.0.1", port: int = 0) -> None:
        self.case = case
        self.has_faults = any(row.fault is not None for row in case.answers)
        self.began_us = now_us()
        self.requests: list[Request] = []
        self.report: Report | None = None
        self.changed = threading.Condition()
        self.ended = threading.Event()
        self._script = Script(case)
        self._server = _Server((address, port), self)
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the client is to send to, without a path."""
        address, port = self._server.server_address[:2]
        return f"http://{address!s}:{port}"

    def open(self) -> None:
        """Begins to listen; a second call does nothing, nor does one after the end."""
        with self.changed:
            if self._thread is None and not self.ended.is_set():
                self._server.server_activate()
                self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stops listening and ends what is silent."""
        with self.changed:
            self.ended.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def trace(self, ending: str | None, report: Report | None = None) -> Trace:
        """What was seen so far."""
        with self.changed:
            return Trace(list(self.requests), self.began_us, report or self.report or Report(), ending)

    def wait(self, done: Callable[["Host"], bool], seconds: float) -> bool:
        """Waits until `done` of this host, asked after every answer; False where that took too long."""
        with self.changed:
            return self.changed.wait_for(lambda: done(self), seconds)

    @property
    def answered(self) -> bool:
        """Whether every request has had its answer."""
        return all(request.answered_ns for request in self.requests)

    @property
    def settled(self) -> bool:
        """Whether the script is done and each event of the case is stored or refused for good."""
        settled = {event.number for r in self.requests for place, event in enumerate(r.events) if _is_settled(r, place)}
        return self.answered and self._script.finished and len(settled - {None}) >= self.case.track.count

    def begin(self) -> Request:
        """A request arrives."""
        with self.changed:
            request = Request(len(self.requests) + 1, time.monotonic_ns(), now_us())
            self.requests.append(request)
            return request

    def reply(self, request: Request, opened: judge.Opened) -> Reply:
        """Decides what a good request is answered."""
        with self.changed:
            request.envelope, request.events = opened.envelope, opened.events
            return self._script.reply(request, opened, time.time())

    def answer_begins(self, request: Request) -> None:
        """The answer is about to be sent: from now on the client may come again."""
        request.answered_ns = time.monotonic_ns()

    def tell(self) -> None:
        """Something has changed."""
        with self.changed:
            self.changed.notify_all()


def _is_settled(request: Request, place: int) -> bool:
    return place in request.stored or place in request.rejected or request.then == "never"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], host: Host) -> None:
        super().__init__(address, _Handler, bind_and_activate=False)
        self.host = host
        self.server_bind()

    def shutdown_request(self, request: Any) -> None:
        """Closes at once: a polite end first would turn a reset into one."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may hang up whenever they like; what the host itself does wrong is worth its traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    # An answer in one piece; else Nagle's algorithm delays its second one.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def do_OPTIONS(self) -> None:
        """Answers the question that browsers ask before they send."""
        self._send(204, dict(PREFLIGHT), b"")

    def do_GET(self) -> None:
        """Gives the task of the case, for clients that run in a page."""
        if self.path == CASE_PATH:
            self._send(200, dict(COMMON), json.encode(task(self.server.host.case, self.server.host.url)))
        else:
            self._send_error(NotFound("There is nothing at this path."))

    def do_POST(self) -> None:
        """Plays one answer."""
        if self.path == END_PATH:
            self._end()
            return
        host = self.server.host
        request = host.begin()
        try:
            self._play(host, request, self._reply(host, request))
        finally:
            request.answered_ns = request.answered_ns or time.monotonic_ns()
            host.tell()

    def _end(self) -> None:
        host = self.server.host
        host.report = json.decode(self._read() or b"{}", type=Report)
        self._send(200, dict(COMMON), b'{"status":"ok"}')
        host.ended.set()
        host.tell()

    def _reply(self, host: Host, request: Request) -> Reply:
        data = self._read()
        request.bytes_sent = len(data)
        try:
            if self.path != PATH:
                raise NotFound(f"There is nothing at {self.path[:64]}. Send batches to POST {PATH}.")
            body = judge.unpack(data, self.headers.get("content-type", ""), self.headers.get("content-encoding", ""))
            request.bytes_inflated = len(body)
            opened = judge.judge(body)
        except RequestError as error:
            return refusal(request, error)
        return host.reply(request, opened)

    def _play(self, host: Host, request: Request, reply: Reply) -> None:
        host.ended.wait(reply.row.delay_ms / 1000)
        if reply.row.fault == "silence":
            self._be_silent(host)
        host.answer_begins(request)
        if reply.row.fault is None:
            self._send(reply.status, {**dict(COMMON), **reply.headers}, reply.body)
        elif reply.row.fault == "cut":
            self._send(reply.status, {**dict(COMMON), **reply.headers}, reply.body, len(reply.body) // 2)
        # A fault has to meet a connection that was not used before: on others, HTTP libraries and browsers may repeat a
        # request by themselves, which no client can see.
        self.close_connection = self.close_connection or host.has_faults
        if reply.row.fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)

    def _be_silent(self, host: Host) -> None:
        """Waits for the client to hang up."""
        while not host.ended.is_set():
            readable, _, _ = select.select([self.connection], [], [], POLL_S)
            if readable:
                with contextlib.suppress(OSError):
                    self.connection.recv(1)
                return

    def _read(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return self._read_chunks()
        return self.rfile.read(min(int(self.headers.get("content-length") or 0), READ_BYTES_MAX))

    def _read_chunks(self) -> bytes:
        pieces: list[bytes] = []
        while (size := int(self.rfile.readline(1024).split(b";")[0], 16)) and sum(map(len, pieces)) < READ_BYTES_MAX:
            pieces.append(self.rfile.read(size))
            self.rfile.readline(1024)
        while self.rfile.readline(1024).strip():
            pass
        return b"".join(pieces)

    def _send_error(self, error: RequestError) -> None:
        status, body = judge.failure(error)
        self._send(status, dict(COMMON), body)

    def _send(self, status: int, headers: dict[str, str], body: bytes, shown: int | None = None) -> None:
        """Sends an answer, or the first `shown` bytes of its body."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        if self.server.host.has_faults:
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body[:shown])
        self.wfile.flush()
