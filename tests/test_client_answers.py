"""What an answer means, how long a client waits, and how HTTP's own troubles show."""

import contextlib
import http.server
import os
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo.client.answers import Again, Delivered, Held, Refused, TooLarge, backoff_s, judge, retry_after_s
from kixo.client.surroundings import Answer, StaleConnection
from kixo.client.transport import HttpTransport
from kixo.errors import REQUEST_ERRORS, RequestError
from tests.clienting import answer, error
from tests.test_server import wait_until

NOW_S = 1_775_649_600.0  # 2026-04-08T12:00:00Z
JSON = {"Content-Type": "application/json"}


def kind(reply: Answer) -> type:
    return type(judge(reply, NOW_S))


@pytest.mark.parametrize("known", REQUEST_ERRORS, ids=lambda known: known.code)
def test_what_the_api_calls_repeatable_is_repeated_and_nothing_else(known: type[RequestError]) -> None:
    assert (kind(error(known.status, known.code)) is Again) == known.retryable


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (answer(200, {"status": "ok", "accepted": 1}), Delivered),
        (answer(200, "<html>Log in</html>"), Again),
        (Answer(200, {}, b"<html>Log in</html>"), Again),
        (Answer(204, {}, b""), Again),
        (Answer(502, {}, b"bad gateway"), Again),
        (Answer(408, {}, b""), Again),
        (Answer(429, {}, b""), Again),
        (error(429, "too_many_events"), TooLarge),
        (Answer(413, {}, b"nginx"), TooLarge),
        (error(400, "invalid_request"), Refused),
        (error(415, "unsupported_encoding"), Refused),
        (Answer(422, {}, b"[" * 100_000), Refused),
        (error(401, "unauthorized"), Held),
        (Answer(403, {}, b""), Held),
        (Answer(404, {}, b""), Held),
        (Answer(308, {"location": "https://elsewhere.example"}, b""), Held),
    ],
)
def test_every_other_answer_has_a_meaning_too(reply: Answer, meaning: type) -> None:
    assert kind(reply) is meaning


def test_a_redirect_says_where_to() -> None:
    held = judge(Answer(301, {"location": "https://elsewhere.example/v1/batch"}, b""), NOW_S)
    assert isinstance(held, Held)
    assert "https://elsewhere.example/v1/batch" in held.message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Wed, 08 Apr 2026 12:00:30 GMT", 30.0),
        ("Wed, 08 Apr 2026 11:00:00 GMT", 0.0),
        ("Wed, 08 Apr 2026 12:00:30", 30.0),
        ("-1", None),
        ("soon", None),
        ("Wed, 08 Apr 2026 12:00:30 +99999999999999", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW_S) == seconds


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0.1, 3600), st.floats(0, 1, exclude_max=True))
def test_a_wait_lies_between_nothing_and_its_bound(attempts: int, bound_s: float, chance: float) -> None:
    wait_s = backoff_s(attempts, bound_s, chance)
    assert 0 <= wait_s <= min(bound_s, 0.5 * 2 ** min(attempts - 1, 40))
    assert backoff_s(attempts, bound_s, 0.5) <= backoff_s(attempts + 1, bound_s, 0.5)


class Handler(http.server.BaseHTTPRequestHandler):
    """Notes what it gets, and answers; the first request on a path says how."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, dict[str, str], bytes, object]]]

    def do_POST(self) -> None:
        if self.path == "/hang-up-early":
            self.wfile.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, dict(self.headers), body, self.client_address))
        if self.path == "/hints-first":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        if self.path == "/half":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
            self.rfile.read(1)  # Until the client goes.
            self.close_connection = True
            return
        if self.path.startswith("/drips"):
            self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", at_once=self.path == "/drips-body")
            return
        if self.path == "/no-http":
            self.wfile.write(b"SSH-2.0-OpenSSH\r\n")
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        # It says nothing of it, but it closes: what a server does with a connection that was idle for long.
        self.close_connection = self.path == "/forgetful"

    def drip(self, head: bytes, *, at_once: bool) -> None:
        """Writes an answer byte by byte, until the client goes; its head too, unless `at_once`."""
        self.close_connection = True
        if at_once:
            self.wfile.write(head)
        gone = threading.Event()
        with contextlib.suppress(OSError):
            for byte in b"" if at_once else head:
                self.wfile.write(bytes([byte]))
                gone.wait(0.02)
            while True:
                self.wfile.write(b"x")
                gone.wait(0.02)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def web_server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("OneHandler", (Handler,), {"seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_one_connection_serves_many_requests() -> None:
    with web_server() as (url, handler):
        transport = HttpTransport(url + "/v1/batch", 10)
        assert [transport.post(b"{}", JSON).status for _ in range(3)] == [200, 200, 200]
        transport.close()
    assert len({connection for *_, connection in handler.seen}) == 1
    assert handler.seen[0][1]["User-Agent"].startswith("kixo-python/")


def test_a_kept_connection_that_was_closed_is_told_from_a_server_that_is_away() -> None:
    with web_server() as (url, _):
        transport = HttpTransport(url + "/forgetful", 10)
        transport.post(b"{}", JSON)
        with pytest.raises(StaleConnection):
            transport.post(b"{}", JSON)
        assert transport.post(b"{}", JSON).status == 200
        transport.close()
    with pytest.raises(ConnectionRefusedError):
        transport.post(b"{}", JSON)


def test_an_answer_that_comes_before_the_whole_body_was_read_is_heard() -> None:
    with web_server() as (url, _):
        transport = HttpTransport(url + "/hang-up-early", 10)
        assert transport.post(b"x" * 20_000_000, JSON).status == 413
        transport.close()


@pytest.mark.parametrize("path", ["/drips", "/drips-body"])
def test_an_answer_that_comes_byte_by_byte_has_an_end(path: str) -> None:
    with web_server() as (url, _):
        transport = HttpTransport(url + path, 0.2)
        with pytest.raises(TimeoutError):
            transport.post(b"{}", JSON)


def test_what_remained_of_one_answer_s_time_is_not_all_that_the_next_has() -> None:
    with web_server() as (url, _):
        transport = HttpTransport(url + "/v1/batch", 10)
        transport.post(b"{}", JSON)
        connection = transport._connection
        assert connection is not None
        connection.sock.settimeout(0.001)
        assert transport.post(b"{}", JSON).status == 200
        assert connection.sock.gettimeout() == 10
        transport.close()


def test_what_is_no_http_is_a_failed_connection() -> None:
    with web_server() as (url, _):
        transport = HttpTransport(url + "/no-http", 10)
        with pytest.raises(ConnectionError, match="not HTTP"):
            transport.post(b"{}", JSON)


def test_an_answer_that_follows_an_interim_one_is_not_taken_for_the_next() -> None:
    with web_server() as (url, handler):
        transport = HttpTransport(url + "/hints-first", 10)
        assert [transport.post(b"{}", JSON).status for _ in range(2)] == [103, 103]
        transport.close()
    assert len({connection for *_, connection in handler.seen}) == 2


def test_a_child_forked_in_the_middle_of_an_answer_lets_go_of_the_connection() -> None:
    with web_server() as (url, _):
        transport = HttpTransport(url + "/half", 2)

        def post() -> None:
            with pytest.raises(OSError, match="timed out"):
                transport.post(b"{}", JSON)

        reading = threading.Thread(target=post)
        reading.start()
        wait_until(lambda: getattr(transport._connection, "_HTTPConnection__response", None) is not None)
        child = os.fork()
        if child == 0:
            signal.alarm(5)  # A child that waits for a lock does not hear of anything else.
            transport.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        reading.join()


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with web_server() as (url, handler):
        monkeypatch.setenv("http_proxy", url.replace("//", "//me:p%40ss@"))
        monkeypatch.setenv("no_proxy", "near.example")
        transport = HttpTransport("http://far.example/v1/batch", 10)
        assert transport.post(zlib.compress(b"{}"), JSON).status == 200
        transport.close()
        assert HttpTransport("http://near.example/v1/batch", 10)._proxy is None
    path, headers, *_ = handler.seen[0]
    assert path == "http://far.example/v1/batch"
    assert headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
