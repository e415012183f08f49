"""Measures what the client costs the app that embeds it: importing it, tracking, and delivering in the background.

    .venv/bin/python scripts/measure_client.py [events]

CPU time and resident memory, so what else the machine does disturbs little. Nothing is sent anywhere.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import json

from kixo import Client
from kixo.client import Answer, Options, Surroundings, Transport

ROUNDS = 9
PROPERTIES = {"path": "/pricing", "plan": "pro", "value": 49.5, "count": 3, "returning": True, "from": "newsletter"}
PROBE = """
import time
began = time.process_time()
{statement}
spent_ms = 1000 * (time.process_time() - began)
resident = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
print(spent_ms, int(resident.split()[1]) / 1024)
"""


class Nowhere:
    """Takes everything at once."""

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        return Answer(200, {}, json.encode({"status": "ok", "accepted": 1}))

    def close(self) -> None:
        """Nothing is open."""


def open_nowhere(url: str, timeout_s: float) -> Transport:
    return Nowhere()


def cost_of(statement: str) -> tuple[float, float]:
    """CPU milliseconds of a statement in a new interpreter, and its memory in MB afterwards: medians."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(ROUNDS)]
    return statistics.median(float(run[0]) for run in runs), statistics.median(float(run[1]) for run in runs)


def cpu_us(work: Callable[[], object], clock: Callable[[], float], count: int) -> float:
    began = clock()
    work()
    return 1e6 * (clock() - began) / count


def track(client: Client, count: int, properties: Mapping[str, object] | None) -> None:
    for _ in range(count):
        client.track("Button", properties, device_id="d_001", session_id="s_001")


def show(name: str, values: list[float], unit: str) -> None:
    print(f"{name:58} {min(values):7.2f} {statistics.median(values):7.2f} {max(values):7.2f}  {unit}")


def measure_imports() -> None:
    bare_ms, bare_mb = cost_of("pass")
    for name in ("msgspec", "logging", "kixo.client", "kixo.client, kixo.client.transport, kixo.client.spool_store"):
        spent_ms, resident_mb = cost_of(f"import {name}")
        print(f"import {name:66} {spent_ms - bare_ms:6.1f} ms {resident_mb - bare_mb:6.1f} MB over a bare interpreter")


def measure_tracking(count: int) -> None:
    """The thread that tracks alone: the worker waits, because nothing is due."""
    options = Options(flush_interval_s=3600, queue_events_max=10 * count, queue_bytes_max=2**32)
    for name, properties in (("track, no properties", None), ("track, six properties", PROPERTIES)):
        values = []
        for _ in range(ROUNDS):
            client = Client("p", "k", "b", options=options, surroundings=Surroundings(open_transport=open_nowhere))
            client._worker.started = True
            values.append(cpu_us(lambda: track(client, count, properties), time.thread_time, count))  # noqa: B023
            client._machinery.outbox.take_all()
            client.close()
        show(name, values, "CPU µs per event")


def measure_delivery(count: int, spool: bool) -> None:
    """Both threads: tracking, and batching, compressing and settling, with a spool or without."""
    values = []
    for _ in range(3):
        with TemporaryDirectory() as folder:
            options = Options(queue_events_max=10 * count, queue_bytes_max=2**32)
            outside = Surroundings(open_transport=open_nowhere)
            client = Client("p", "k", "b", spool=folder if spool else None, options=options, surroundings=outside)

            def work() -> None:
                track(client, count, PROPERTIES)  # noqa: B023
                assert client.flush(600)  # noqa: B023

            values.append(cpu_us(work, time.process_time, count))
            client.close()
    show(f"track and deliver, {'with' if spool else 'without'} a spool", values, "CPU µs per event")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    measure_imports()
    print(f"{'':58} {'least':>7} {'median':>7} {'most':>7}")
    measure_tracking(count)
    measure_delivery(count, spool=False)
    measure_delivery(count, spool=True)
    print(Path(__file__).name, "Python", sys.version.split()[0])


if __name__ == "__main__":
    main()
