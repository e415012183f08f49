"""Hostile clients beside good ones: bombs, silence, nonsense and floods of objects, in a random order.

While the clients of `torture.client` go on, each fault below is done to the same server. Afterwards no worker may have
died or grown beyond its bound, and everything the good clients were told has to be true.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import zstandard

from kixo.bench.traffic import Credential
from torture.client import COMPRESSIONS, Habits
from torture.installation import BUSY
from torture.trial import Orders, Trial
from torture.verdict import Verdict

MIB = 1024 * 1024
CAP = 10 * MIB
FAULTS, SHORT_FAULTS = 80, 16
CONNECTIONS, SHORT_CONNECTIONS = 2000, 200
INFLIGHT_BYTES = 64 * MIB
# Above an idle worker: the bodies in flight, twice over while they are put together, and what the worst one costs.
GROWTH_BYTES_MAX = 2 * INFLIGHT_BYTES + 192 * MIB
ANSWER_S_MAX = 20.0
# Shorter than usual, so that the silent ones go soon.
PATIENCE = {
    "KIXO_BODY_STALL_S": "2",
    "KIXO_BODY_TOTAL_S": "6",
    "KIXO_HEAD_READ_S": "2",
    "KIXO_INFLIGHT_BYTES_MAX": str(INFLIGHT_BYTES),
}
HABITS = Habits(clients=4, pause_s=0.2)

Send = Callable[[tuple[str, int], Credential, Random], None]


def attack_with_hostile_clients(orders: Orders) -> Verdict:
    """The attack; each fault is drawn from `HOSTILE`, each at least once where there are enough."""
    with Trial("hostile", orders, environment={**BUSY, **PATIENCE}, habits=HABITS) as trial:
        server = trial.installation
        server.start()
        workers = server.pids("worker")
        idle = {pid: peak_bytes(pid) for pid in workers}
        crowd = SHORT_CONNECTIONS if orders.short else CONNECTIONS
        with trial.traffic.flowing(), _crowd(server.address, crowd):
            trial.figures["idle connections"] = crowd
            for name in _order(orders.count(FAULTS, SHORT_FAULTS), trial.dice):
                began_s = trial.note(name)
                with suppress(OSError):
                    HOSTILE[name](server.address, server.credentials[-1], trial.dice)
                trial.recover(began_s)
        if server.pids("worker") != workers:
            trial.broken.append("A worker died.")
        growth = max((peak_bytes(pid) - idle[pid] for pid in workers if pid in server.pids("worker")), default=0)
        trial.figures |= {"growth MiB": growth // MIB, "growth bound MiB": GROWTH_BYTES_MAX // MIB}
        if growth > GROWTH_BYTES_MAX:
            trial.broken.append(f"A worker grew by {growth // MIB} MiB.")
        return trial.verdict()


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _order(count: int, dice: Random) -> Iterator[str]:
    names: list[str] = []
    for _ in range(count):
        names = names or dice.sample(list(HOSTILE), len(HOSTILE))
        yield names.pop()


@contextmanager
def _crowd(address: tuple[str, int], count: int) -> Iterator[None]:
    """Connections that say nothing, a byte, or half a head; opened as far as the system lets us."""
    crowd: list[socket.socket] = []
    try:
        for number in range(count):
            with suppress(OSError):
                crowd.append(socket.create_connection(address, timeout=5))
                crowd[-1].sendall((b"", b"P", b"POST /v1/batch HTTP/1.1\r\nHost: k\r\n")[number % 3])
        yield
    finally:
        for connection in crowd:
            connection.close()


def _exchange(address: tuple[str, int], *parts: bytes, listen: bool = True) -> None:
    with socket.create_connection(address, timeout=ANSWER_S_MAX) as connection:
        for part in parts:
            connection.sendall(part)
        if listen:
            connection.recv(65_536)


def _post(address: tuple[str, int], body: bytes, *headers: str) -> None:
    lines = "\r\n".join(["POST /v1/batch HTTP/1.1", "Host: kixo", f"Content-Length: {len(body)}", *headers, "", ""])
    _exchange(address, lines.encode() + body)


def _body(credential: Credential, batch: bytes, *, platform: str = "web", more: bytes = b"") -> bytes:
    known = {"project_id": credential.project_id, "api_key": credential.api_key, "platform": platform}
    front = json.dumps({**known, "bundle_id": "com.example.hostile"})[:-1].encode()
    return front + more + b',"batch":' + batch + b"}"


def _bomb(encoding: str, times: int = 1) -> Send:
    """A gigabyte of nothing, or as much of it as is made quickly; compressed more than once where `times` says so."""

    def send(address: tuple[str, int], _credential: Credential, dice: Random) -> None:
        body = bytes(100 * MIB)
        for _ in range(times):
            body = COMPRESSIONS[encoding](body)
        cut = dice.choice([len(body), len(body) // 2])
        _post(address, body[:cut] * dice.choice([1, 3]), f"Content-Encoding: {encoding}")

    return send


def _wide_window(address: tuple[str, int], _credential: Credential, _dice: Random) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    _post(
        address,
        zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(64 * MIB)),
        "Content-Encoding: zstd",
    )


def _tiny_events(address: tuple[str, int], credential: Credential, dice: Random) -> None:
    tiny = dice.choice([b"1", b"{}", b'""', b"[]"])
    _post(address, _body(credential, b"[" + (tiny + b",") * ((CAP - 500) // (len(tiny) + 1)) + tiny + b"]"))


def _many_members(address: tuple[str, int], credential: Credential, dice: Random) -> None:
    members = b"".join(b',"%x":1' % number for number in range(800_000))
    _post(address, _body(credential, b"[]", platform=dice.choice(["web", "none"]), more=members))


def _deep(address: tuple[str, int], credential: Credential, dice: Random) -> None:
    depth = dice.choice([101, 1000, 100_000, 5_000_000])
    nested = b"[" * depth + b"]" * dice.choice([depth, 0])
    _post(address, _body(credential, b"[]", more=b',"unknown":' + nested)[:CAP])


def _long_text(address: tuple[str, int], credential: Credential, dice: Random) -> None:
    letter = dice.choice([b"x", rb"\u0000", rb"\ud800", b"\xff", "é".encode()])
    long = letter * ((CAP - 500) // len(letter))
    _post(address, _body(credential, b"[]", more=b',"unknown":"' + long + b'"'))


def _slow_bodies(address: tuple[str, int], _credential: Credential, _dice: Random) -> None:
    """Thirty bodies that lack their last byte, at one time."""
    head = b"POST /v1/batch HTTP/1.1\r\nHost: kixo\r\nContent-Length: %d\r\n\r\n" % CAP
    wires = [socket.create_connection(address, timeout=ANSWER_S_MAX) for _ in range(30)]
    try:
        for wire in wires:
            with suppress(OSError):
                wire.sendall(head + bytes(CAP - 1))
        for wire in wires:
            with suppress(OSError):
                wire.recv(1000)
    finally:
        for wire in wires:
            wire.close()


def _endless_chunks(address: tuple[str, int], _credential: Credential, dice: Random) -> None:
    head = b"POST /v1/batch HTTP/1.1\r\nHost: kixo\r\nTransfer-Encoding: chunked\r\n\r\n"
    size = dice.choice([b"ffffffffffffffff", b"7fffffffffffffff", b"100000;" + b"x" * 100_000, b"100000"])
    _exchange(address, head, *[size + b"\r\n" + bytes(MIB) + b"\r\n"] * 12)


def _smuggle(address: tuple[str, int], credential: Credential, dice: Random) -> None:
    hidden = b"POST /v1/batch HTTP/1.1\r\nHost: kixo\r\nContent-Length: 2\r\n\r\n{}"
    shape = dice.choice(
        [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked",
            b"Content-Length: 4\r\nContent-Length: 100",
            b"Transfer-Encoding: chunked\r\n Content-Length: 4",
            b"Transfer-Encoding : chunked",
            b"Content-Length: +4",
            b"Transfer-Encoding: chunked\nX: y",
        ]
    )
    _exchange(address, b"POST /v1/batch HTTP/1.1\r\nHost: kixo\r\n" + shape + b"\r\n\r\n0\r\n\r\n" + hidden)


def _pipeline(address: tuple[str, int], credential: Credential, _dice: Random) -> None:
    """Many requests ahead, and nobody to read the answers."""
    body = _body(credential, b"[]")
    request = b"POST /v1/batch HTTP/1.1\r\nHost: kixo\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    _exchange(address, *[request * 50] * 40, listen=False)


def _nonsense(address: tuple[str, int], _credential: Credential, dice: Random) -> None:
    _exchange(address, dice.randbytes(dice.choice([10, 1000, 100_000])))


HOSTILE: dict[str, Send] = {
    **{f"{encoding} bomb": _bomb(encoding) for encoding in COMPRESSIONS},
    **{f"{encoding} bomb in a bomb": _bomb(encoding, 2) for encoding in ("gzip", "zstd")},
    "wide zstd window": _wide_window,
    "five million events": _tiny_events,
    "a million members": _many_members,
    "deep nesting": _deep,
    "ten mebibytes of one text": _long_text,
    "slow bodies": _slow_bodies,
    "endless chunks": _endless_chunks,
    "smuggling": _smuggle,
    "pipelining": _pipeline,
    "nonsense": _nonsense,
}
