"""Measures a small query: by `kixo query`, through the pool with a process that is ready, and with one that starts.

    .venv/bin/python scripts/measure_queries.py [queries] [events]

The lake is a temporary folder with one file of events. Time is by the wall clock, CPU that of all processes together;
each is the median of the queries.
"""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pyarrow as pa
from deltalake import write_deltalake

from kixo.lake.create import create_tables
from kixo.lake.schema import EVENTS
from kixo.query.pool import QueryPool, pool_bounds
from kixo.settings import Settings

KIXO = Path(sys.executable).parent / "kixo"
SQL = "SELECT event_type, count(*) AS events FROM events GROUP BY ALL"


class Cost(NamedTuple):
    """What a query took, in seconds."""

    wall_s: float
    cpu_s: float


class Sentences:
    """A report on the terminal."""

    def info(self, event: str, **members: Any) -> None:
        print(event, members, file=sys.stderr)

    warning = error = info


def make_lake(lake: Path, events: int) -> None:
    """A lake of one file with so many events."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {"date": now.date(), "identity": bytes(16), "properties": "{}", "event_id": None}
    values |= dict.fromkeys(("timestamp", "client_timestamp", "sent_at", "received_at"), now)
    values |= dict.fromkeys(("log_partition", "log_offset", "log_index"), 0)
    row = {column.name: values.get(column.name, column.name) for column in EVENTS.columns}
    create_tables(lake)
    rows = pa.Table.from_pylist([row] * events, EVENTS.schema)
    write_deltalake(lake / EVENTS.name, rows, mode="append", partition_by="date")


def used_s() -> float:
    """CPU seconds of this process and of those that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def process_s(pid: int) -> float:
    """CPU seconds of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory_bytes(pid: int) -> int:
    """The memory that another process has in place."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def by_command(folder: Path, queries: int) -> Cost:
    """`kixo query`, which loads everything each time."""
    costs = []
    for _ in range(queries):
        before, began = used_s(), time.monotonic()
        command = [str(KIXO), "query", SQL, "--data-dir", str(folder), "--format", "json"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        costs.append(Cost(time.monotonic() - began, used_s() - before))
    return medians(costs)


async def by_pool(pool: QueryPool, queries: int, ended: Callable[[], Awaitable[None]]) -> Cost:
    """Through the pool; `ended` comes after each query."""
    costs = []
    for _ in range(queries):
        idle = pool.state().idle
        before, began = used_s() + sum(map(process_s, idle)), time.monotonic()
        await pool.table(SQL)
        wall_s = time.monotonic() - began
        await ended()
        costs.append(Cost(wall_s, used_s() + sum(map(process_s, pool.state().idle)) - before))
    return medians(costs)


def medians(costs: list[Cost]) -> Cost:
    """The median of each."""
    return Cost(*(median(values) for values in zip(*costs, strict=True)))


async def measure_pool(lake: Path, queries: int) -> tuple[Cost, Cost, int]:
    """With a process that is ready, with one that is not, and the memory of an idle one in bytes."""
    bounds = pool_bounds(Settings())
    ready = QueryPool(lake, bounds, Sentences())
    await ready.table(SQL)

    async def nothing() -> None:
        pass

    warm = await by_pool(ready, queries * 5, nothing)
    (pid,) = ready.state().idle
    memory = memory_bytes(pid)
    await ready.close()
    cold = QueryPool(lake, replace(bounds, idle_s=0), Sentences())

    async def gone() -> None:
        # The process ends in the next turns of the loop; its CPU time counts once it is reaped.
        await asyncio.sleep(0.2)

    fresh = await by_pool(cold, queries, gone)
    await cold.close()
    return warm, fresh, memory


def main() -> None:
    """Prints a line for each way."""
    queries, events = int(sys.argv[1]) if len(sys.argv) > 1 else 10, int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    with TemporaryDirectory() as folder:
        make_lake(Path(folder) / "lake", events)
        command = by_command(Path(folder), queries)
        warm, fresh, memory = asyncio.run(measure_pool(Path(folder) / "lake", queries))
    for name, cost in (("kixo query", command), ("pool, a process starts", fresh), ("pool, one is ready", warm)):
        wall, cpu = cost.wall_s / command.wall_s, cost.cpu_s / command.cpu_s
        figures = f"{cost.wall_s * 1000:6.0f} ms ({wall:.2f} x), CPU {cost.cpu_s * 1000:6.0f} ms ({cpu:.2f} x)"
        print(f"{name:24} {figures}")
    print(f"an idle process has {memory / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
