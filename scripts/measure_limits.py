"""What counting a request costs a worker: CPU time from a body at hand to its admission, in the file and in Redis.

    python scripts/measure_limits.py redis://127.0.0.1:6379/0

Bodies of one event come one by one, or many in one turn of the event loop. Each figure is the least of several rounds,
of one process, so it says what the work costs and not how busy the machine is; what Redis itself uses is not in it.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvloop

from kixo.ingest import Admission, Ingest
from kixo.limits import Counted, RequestLimit
from kixo.limits.opening import open_limit
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash

ROUNDS, REQUESTS = 9, 1200
PROJECT, KEY = "kx_proj_abc123", "kx_key_xyz789"
BODY = json.dumps(
    {
        "project_id": PROJECT,
        "api_key": KEY,
        "bundle_id": "com.example.app",
        "platform": "web",
        "batch": [
            {
                "event_type": "page_view",
                "event_name": "/pricing",
                "device_id": "d_001",
                "session_id": "s_001",
                "timestamp": "2026-04-08T12:00:00Z",
                "properties": {"referrer": "https://google.com"},
            }
        ],
    }
).encode()

Admit = Callable[[bytes], Awaitable[Admission]]


async def measure(settings: Settings, at_once: int) -> float:
    """Microseconds of CPU time for each request, of which so many are admitted in one turn."""
    with closing(MetricFile(settings.data_dir / "metrics")) as metrics:
        log: Any = SimpleNamespace(warning=print, info=print)
        limit = await open_limit(settings, metrics, log)
        with closing(limit):
            admit, best = admitting(limit, settings), float("inf")
            for _ in range(ROUNDS):
                begun = time.process_time()
                for _ in range(REQUESTS // at_once):
                    await asyncio.gather(*(admit(BODY) for _ in range(at_once)))
                best = min(best, (time.process_time() - begun) / REQUESTS * 1e6)
            return best


def admitting(limit: RequestLimit, settings: Settings) -> Admit:
    """What a worker does with a small body, without a network."""
    digest = key_hash(KEY)
    snapshot = Snapshot(1, {PROJECT: 1}, {digest: Sender(1, 1, digest)})
    ingest = Ingest(lambda: snapshot, limit, time.monotonic_ns, settings)

    async def admit(body: bytes) -> Admission:
        claim = ingest.examine(body)
        counted = ingest.ask(claim)
        return ingest.finish(claim, counted if isinstance(counted, Counted) else await counted)

    return admit


def main() -> None:
    """Prints a line for each way of counting and number of requests at once."""
    with tempfile.TemporaryDirectory() as folder:
        local = Settings(data_dir=Path(folder), workers=2, requests_per_second_max=100_000)
        local.data_dir.joinpath("run").mkdir()
        for name, settings in (("file", local), ("redis", replace(local, limits=sys.argv[1]))):
            for at_once in (1, 10, 100):
                found = uvloop.run(measure(settings, at_once))
                print(f"{name:6} {at_once:4} at once: {found:6.1f} µs of CPU per request")


if __name__ == "__main__":
    main()
