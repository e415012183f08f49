"""The way of one node to S3, on which a trap can be set: it shuts when a certain request comes by.

What the trap does is exact to the request: the caller is killed before S3 has it, or when S3 has done it and the
caller does not know yet; or only the answer is lost; or the request comes late, after its sender is dead.
"""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

CHUNK_BYTES = 256 * 1024
ANSWER_S_MAX = 60.0
BEFORE, AFTER, LOST, LATE = "before", "after", "lost", "late"


@dataclass
class Trap:
    """Shuts at the `nth` request whose head matches `head`.

    `strike` is called with the relay's name, at a `moment`: BEFORE the request goes on, which it then never does; AFTER
    it was answered, and the answer is lost; LATE is BEFORE, and the request goes on `late_s` later. LOST loses the
    answer and strikes nobody.
    """

    head: str
    nth: int
    moment: str
    strike: Callable[[str], None]
    late_s: float = 0.0
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    shut: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when all that it does is done."""

    def catches(self, data: bytes) -> bool:
        """Whether this is the request."""
        if re.match(self.head.encode(), data) is None:
            return False
        with self.lock:
            self.seen += 1
            return self.seen == self.nth


class Relay:
    """A port of loopback that leads to `url`, for the node `name`. Closed at the end of a `with`."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        parts = urlsplit(url)
        self._target = str(parts.hostname), int(parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.trap: Trap | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self._target) as far:
            answers = threading.Thread(target=_pump, args=(far, near), daemon=True)
            answers.start()
            while data := near.recv(CHUNK_BYTES):
                trap = self.trap
                if trap is not None and trap.catches(data):
                    self._shut(trap, near, data)
                    break
                far.sendall(data)
            _end(far)
            answers.join()

    def _shut(self, trap: Trap, near: socket.socket, data: bytes) -> None:
        """Does what the trap says with a request that has begun with `data`."""
        try:
            if trap.moment == BEFORE:
                trap.strike(self.name)
                return
            request = _whole(near, data)
            if trap.moment == LATE:
                trap.strike(self.name)
                trap.shut.set()
                # Nobody waits for the answer any more.
                threading.Event().wait(trap.late_s)
                self._ask(request)
            else:
                self._ask(request)
                if trap.moment == AFTER:
                    trap.strike(self.name)
        finally:
            trap.shut.set()
            trap.over.set()

    def _ask(self, request: bytes) -> None:
        """Sends a request by a connection of its own and waits until it is answered."""
        with suppress(OSError), socket.create_connection(self._target, ANSWER_S_MAX) as far:
            far.sendall(request)
            far.recv(CHUNK_BYTES)


def _whole(near: socket.socket, data: bytes) -> bytes:
    """The request, read to the end that its head tells."""
    while b"\r\n\r\n" not in data and (more := near.recv(CHUNK_BYTES)):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    told = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
    missing = int(told[1]) - len(body) if told else 0
    while missing > 0 and (more := near.recv(CHUNK_BYTES)):
        data += more
        missing -= len(more)
    return data


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK_BYTES):
            sink.sendall(data)
    _end(sink)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
