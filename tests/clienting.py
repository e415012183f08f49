"""What the tests of the client share: a server of a few lines that answers as it is told, and a clock that stands."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec import json

from kixo import Client
from kixo.client import Answer, Options, Surroundings, Transport
from kixo.timestamp import parse_us

NOW_NS = parse_us("2026-04-08T12:00:00Z") * 1000
WHO = ("kx_proj_abc123", "kx_key_xyz789", "com.example.shop")
WHERE: dict[str, Any] = {"device_id": "d_001", "session_id": "s_001"}

Script = Callable[[dict[str, Any]], Answer | Exception | None]


def answer(status: int, body: object = None, **headers: str) -> Answer:
    """An answer; names of headers with underscores for dashes."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, json.encode(body) if body is not None else b"")


def error(status: int, code: str, **members: object) -> Answer:
    """An error as the API words it."""
    return answer(status, {"status": "error", "code": code, "message": f"It is {code}.", **members})


@dataclass
class Clock:
    """Two clocks that move together, when they are moved."""

    elapsed_s: float = 0.0

    def now_ns(self) -> int:
        return NOW_NS + round(self.elapsed_s * 1e9)

    def monotonic_s(self) -> float:
        return self.elapsed_s


@dataclass
class FakeServer:
    """Takes everything, unless the script says otherwise: it sees each request, and None means 'take it'."""

    script: Script = lambda _: None
    requests: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    stored: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        text = zlib.decompress(body, 31) if headers.get("Content-Encoding") == "gzip" else body
        request = json.decode(text)
        self.bodies.append(text)
        self.requests.append(request)
        reply = self.script(request)
        if isinstance(reply, Exception):
            raise reply
        if reply is None:
            self.stored += request["batch"]
            return answer(200, {"status": "ok", "accepted": len(request["batch"])})
        return reply

    def close(self) -> None:
        self.closed += 1

    def open(self, url: str, timeout_s: float) -> Transport:
        return self

    def names(self) -> list[str]:
        """The names of the events it took, in order."""
        return [event["event_name"] for event in self.stored]


def in_turn(*replies: Answer | Exception | None) -> Script:
    """A script that gives these replies and then takes everything."""
    left = iter(replies)
    return lambda _: next(left, None)


@contextmanager
def connected(server: FakeServer, options: Options | None = None, **arguments: Any) -> Iterator[Client]:
    """A client of that server, with real time and without real chance: waits between attempts are none."""
    surroundings = Surroundings(open_transport=server.open, random=lambda: 0.0)
    with Client(*WHO, options=options, surroundings=surroundings, **arguments) as client:
        yield client
