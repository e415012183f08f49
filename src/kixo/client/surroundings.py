"""What the client takes from outside: clocks, randomness and the way to the server. Tests pass their own."""

import os
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from msgspec import Struct


class Answer(NamedTuple):
    """An answer of the server; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class StaleConnection(ConnectionError):
    """A kept connection turned out to be closed; nothing speaks against trying again at once."""


class Transport(Protocol):
    """The way to the server."""

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends one request and waits for its answer; raises `OSError` where there is none."""
        ...

    def close(self) -> None:
        """Closes the connection, if there is one. The next `post` opens it anew."""
        ...


def open_transport(url: str, timeout_s: float) -> Transport:
    """The real one; see `load_transport`."""
    from kixo.client.transport import HttpTransport

    return HttpTransport(url, timeout_s)


def load_transport() -> None:
    """Loads what sending takes: when a client is made, not when this package is imported, and not in the worker.

    A fork in the middle of an import would leave the child with the lock of a module that nobody ever lets go of.
    """
    import encodings.idna  # noqa: F401 - the socket module looks it up at the first connection

    import kixo.client.transport  # noqa: F401


class Surroundings(Struct, frozen=True, kw_only=True):
    """`now_ns` is the wall clock, `monotonic_s` a clock for waits, `random` gives numbers in [0, 1)."""

    now_ns: Callable[[], int] = time.time_ns
    monotonic_s: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random.random
    random_bytes: Callable[[int], bytes] = os.urandom
    open_transport: Callable[[str, float], Transport] = open_transport

    def now_s(self) -> float:
        """The wall clock, in seconds since 1970."""
        return self.now_ns() / 1e9
