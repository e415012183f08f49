"""One project floods while another one behaves: what the other one waits for its answers, next to quiet times.

Quiet and flood alternate in one run, so that whatever else the machine does falls on both. Quiet begins when all that
the flood brought is in the tables: until then the loader works on it, and its work would pass for quiet. The one that
behaves sends 40 requests a second on one connection; its 99th percentile under the flood has to stay within twice the
quiet one.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from kixo.bench.traffic import Credential
from kixo.errors import StartFailed
from torture.flooder import flood_request
from torture.installation import Installation
from torture.loaded import wait_loaded
from torture.trial import Orders
from torture.verdict import Verdict

ROUNDS, SHORT_ROUNDS = 10, 1
ROUND_S = 5.0
PAUSE_S = 0.025
SETTLE_S = 0.3
LOADED_S_MAX = 120.0
RATIO_MAX = 2.0
EVENTS_SMALL, EVENTS_LARGE = 1, 1000
RECEIVE_BYTES = 65_536


class Waits(NamedTuple):
    """The seconds that answers took, in quiet times and under the flood, and the statuses the flood was answered."""

    quiet_s: list[float]
    flood_s: list[float]
    flood_statuses: dict[str, int]


def flood_small(orders: Orders) -> Verdict:
    """The flood is of requests with one event."""
    return _flood("flood", orders, EVENTS_SMALL)


def flood_large(orders: Orders) -> Verdict:
    """The flood is of requests with a thousand events, which cost as much again to refuse."""
    return _flood("flood-large", orders, EVENTS_LARGE)


def _flood(attack: str, orders: Orders, events: int) -> Verdict:
    began_s = time.monotonic()
    folder = orders.folder / attack
    folder.mkdir(parents=True)
    with Installation(folder, {}, workers=1, projects=2) as server:
        server.start()
        before = server.pids("worker")
        waits = _measure(server, orders.count(ROUNDS, SHORT_ROUNDS), events)
        broken = [] if server.pids("worker") == before else ["A worker died."]
        server.stop()
    figures = figures_of(waits)
    if not orders.short and figures["ratio of p99"] > RATIO_MAX:
        broken.append(f"Under the flood the 99th percentile was {figures['ratio of p99']:.2f} times the quiet one.")
    requests = len(waits.quiet_s) + len(waits.flood_s) + sum(waits.flood_statuses.values())
    return Verdict(
        attack=attack,
        seed=orders.seed,
        seconds=round(time.monotonic() - began_s, 1),
        faults={"flood": orders.count(ROUNDS, SHORT_ROUNDS)},
        requests=requests,
        answers=waits.flood_statuses,
        broken=broken,
        figures=figures,
    )


def figures_of(waits: Waits) -> dict[str, float]:
    """What is shown: percentiles in milliseconds, and the ratio."""
    figures: dict[str, float] = {}
    for name, seconds in (("quiet", waits.quiet_s), ("flood", waits.flood_s)):
        for percent in (50, 99):
            figures[f"{name} p{percent} ms"] = round(percentile(seconds, percent) * 1000, 2)
    figures["ratio of p99"] = round(percentile(waits.flood_s, 99) / percentile(waits.quiet_s, 99), 2)
    figures["samples each"] = min(len(waits.quiet_s), len(waits.flood_s))
    figures["flood requests"] = sum(waits.flood_statuses.values())
    return figures


def percentile(values: list[float], percent: int) -> float:
    """The value that so many percent of all do not exceed."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def _measure(server: Installation, rounds: int, events: int) -> Waits:
    behaving, flooding = server.credentials[:2]
    waits = Waits([], [], {})
    with (
        socket.create_connection(server.address) as connection,
        _flooder(server, flooding, events, waits) as flooder,
    ):
        for _ in range(rounds):
            flooder.send_signal(signal.SIGSTOP)
            if not wait_loaded(server.layout, LOADED_S_MAX):
                raise StartFailed("The loader did not come to the end of the log.", server.last_lines())
            waits.quiet_s.extend(_probe(connection, behaving))
            flooder.send_signal(signal.SIGCONT)
            waits.flood_s.extend(_probe(connection, behaving))
    return waits


def _probe(connection: socket.socket, credential: Credential) -> list[float]:
    """How long each answer took, in seconds, over a round; what stands between quiet and flood is left out."""
    request = flood_request(credential.project_id, credential.api_key, 1)
    time.sleep(SETTLE_S)
    seconds: list[float] = []
    ends = time.monotonic() + ROUND_S
    while (began := time.monotonic()) < ends:
        connection.sendall(request)
        answer = connection.recv(RECEIVE_BYTES)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        seconds.append(time.monotonic() - began)
        time.sleep(max(0.0, began + PAUSE_S - time.monotonic()))
    return seconds


@contextmanager
def _flooder(
    server: Installation, credential: Credential, events: int, waits: Waits
) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = [server.url, credential.project_id, credential.api_key, str(events)]
    command = [sys.executable, "-m", "torture.flooder", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            output, _ = process.communicate()
    waits.flood_statuses.update(json.loads(output or b"{}"))
