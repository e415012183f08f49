"""Small HTTP servers in threads of the tests."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

Answered = tuple[int, Mapping[str, str], bytes] | None
"""Status, headers and body; None cuts the connection."""


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
            # On a connection it has used before, a browser repeats some requests by itself.
            self.send_header("Connection", "close")
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


def listen(answering: Callable[[BaseHTTPRequestHandler, bytes], Answered]) -> ThreadingHTTPServer:
    """A server on a free port of loopback, which answers with what `answering` gives for a request and its body."""
    server = _Listener(("127.0.0.1", 0), _handler(answering))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


def url_of(server: ThreadingHTTPServer) -> str:
    """Where it listens, without a path."""
    return f"http://127.0.0.1:{server.server_address[1]}"


def end(server: ThreadingHTTPServer) -> None:
    """Stops it."""
    server.shutdown()
    server.server_close()
