"""One keep-alive connection of the driver, with at most one request outstanding."""

import re
import socket
from json import loads

from kixo.bench.traffic import Request
from kixo.errors import KixoError

RECEIVE_BYTES = 65_536
ACCEPTED_ONLY = b'\r\n\r\n{"status":"ok","accepted":'

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)

Answer = tuple[int, int, int]
"""HTTP status, accepted events, rejected events."""


class UnreadableAnswer(KixoError):
    """The server's answer is not HTTP with a `Content-Length`, which is all the driver reads."""


def parse_answer(data: bytes) -> Answer | None:
    """The answer in `data`, which begins at its status line; None while it is not there in full.

    Raises `UnreadableAnswer`.
    """
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = _LENGTH.search(data, 0, head)
    if length is None or not data.startswith(b"HTTP/1."):
        raise UnreadableAnswer(f"The answer has no Content-Length: {data[:200]!r}")
    if len(data) < head + 4 + int(length[1]):
        return None
    status = int(data[9:12])
    return (status, *_counts(data, head)) if status == 200 else (status, 0, 0)


def _counts(data: bytes, head: int) -> tuple[int, int]:
    # The answer to a batch without rejects, which nearly all are, is taken apart by position.
    digits = data[head + len(ACCEPTED_ONLY) : -1]
    if digits.isdigit() and data.startswith(ACCEPTED_ONLY, head):
        return int(digits), 0
    answer = loads(data[head + 4 :])
    return answer["accepted"], answer.get("rejected", 0)


class Connection:
    """A connection that is opened at once and again after every failure."""

    __slots__ = ("_address", "_answer", "_rest", "began_s", "number", "outstanding", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.open()

    def open(self) -> None:
        """Connects; raises `OSError`."""
        self.socket = socket.create_connection(self._address, timeout=5)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = self.socket.fileno()
        self.outstanding: Request | None = None
        self.began_s = 0.0
        self._rest: memoryview | None = None
        self._answer = b""

    def close(self) -> None:
        """Gives the connection up."""
        self.socket.close()

    @property
    def sending(self) -> bool:
        """Whether a part of the request is still to be sent."""
        return self._rest is not None

    def send(self, request: Request, began_s: float) -> bool:
        """Begins a request; False while a part of it is left for `send_rest`. Raises `OSError`."""
        self.outstanding = request
        self.began_s = began_s
        try:
            sent = self.socket.send(request.data)
        except BlockingIOError:
            sent = 0
        if sent == len(request.data):
            return True
        # A copy: the ring may write over the request before the rest has left.
        self._rest = memoryview(bytes(request.data[sent:]))
        return False

    def send_rest(self) -> bool:
        """Goes on with a request; False while there is still something left. Raises `OSError`."""
        if self._rest is not None:
            sent = self.socket.send(self._rest)
            self._rest = self._rest[sent:] if sent < len(self._rest) else None
        return self._rest is None

    def receive(self) -> Answer | None:
        """The answer, once it is there in full. Raises `OSError` when the server has hung up."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        if self._answer:
            data = self._answer + data
        answer = parse_answer(data)
        self._answer = data if answer is None else b""
        return answer
