"""Measures loaders that share a log in Kafka against the one loader of a local log, in CPU time of their own processes.

    eval "$(scripts/services start kafka)"
    .venv/bin/python -m scripts.measure_loaders [batches of 1,000 events]
    scripts/services stop

`KIXO_LOG` names the brokers; each run makes a topic of its own beside the one that is named. With `KIXO_LAKE` set, the
tables of the shared form lie there, each run's under a prefix of its own; else in a temporary folder. The log is full
before the first load, and each loader has its share of the partitions. CPU time counts from a loader's first load to
its last, threads of libraries included. At the end, shards are made anew from the tables.
"""

import asyncio
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec import json

from kixo.lake.opening import open_lake
from kixo.lake.read import open_table
from kixo.lake.table import open_tables
from kixo.layout import Layout
from kixo.loader.identity_shards import IdentityShards, IndexPlace
from kixo.loader.joining import join
from kixo.loader.loader import FAILURES, Loader, Surroundings
from kixo.log.opening import ensure_log, open_appender, open_log_reader
from kixo.metric_file import MetricFile
from kixo.settings import Settings, resolve
from kixo.stored import AS_SENT
from kixo.timestamp import now_us

EVENTS = 1000
PROJECTS = 96
PARTITIONS = 12
AT_ONCE = 50
LOADERS = (1, 2, 4)
SETTLE_S = 5.0


class Silence:
    """A report to nobody."""

    def info(self, event: str, **members: Any) -> None: ...

    warning = error = info


class Spent(NamedTuple):
    """What one loader did: events, CPU seconds, and seconds from its first load to its last."""

    events: int
    cpu_s: float
    seconds: float


def payload(number: int) -> tuple[str, bytes]:
    """A project, and a batch of it with ids that no other has."""
    events = [
        {
            "event_type": "tap",
            "event_name": f"Button {each % 37}",
            "device_id": f"device-{(number * 7 + each) % 5000}",
            "session_id": f"session-{number % 900}",
            "timestamp": "2026-04-08T11:59:00.123Z",
            "event_id": f"{number:08d}-{each:06d}",
            "properties": {"screen": "pricing", "position": each, "variant": "b", "referrer": "https://example.com/x"},
        }
        for each in range(EVENTS)
    ]
    project = f"kx_proj_{number % PROJECTS:06d}"
    return project, json.encode({"project_id": project, "bundle_id": "com.example", "platform": "ios", "batch": events})


async def fill(settings: Settings, batches: int) -> None:
    """Puts the batches into the log."""
    with closing(open_appender(settings, 0, lambda *_: None, lambda *_: None)) as appender:
        for start in range(0, batches, AT_ONCE):
            made = [payload(number) for number in range(start, min(start + AT_ONCE, batches))]
            await asyncio.gather(
                *[appender.submit(project, now_us(), AS_SENT, EVENTS, 0, [body]) for project, body in made]
            )


@contextmanager
def opened(settings: Settings, name: str) -> Iterator[Loader]:
    """A loader, as the server makes them."""
    layout, lake = Layout(settings.data_dir), open_lake(settings)
    metrics = MetricFile(settings.data_dir / f"metrics-{name}")
    with closing(open_log_reader(settings, lambda *_: None)) as reader:
        if not settings.log:
            around = Surroundings(lake, layout.index, reader, settings, now_us, metrics, Silence())
            with closing(Loader(around)) as loader:
                yield loader
            return
        with join(settings, reader, "measured") as (group, own):
            around = Surroundings(lake, layout.index, own, settings, now_us, metrics, Silence(), group=group)
            with closing(Loader(around)) as loader:
                yield loader


def work(settings: Settings, name: str, shares: int, all_ready: Any, stop: Any, found: Any) -> None:
    """Waits for its share and for the log to be full, loads until `stop` is set, and tells what it took."""
    events, first, last = 0, (0.0, 0.0), (0.0, 0.0)
    with opened(settings, name) as loader:
        loader.open()
        settled_s = time.monotonic()
        # Others get their share only while each looks at the group.
        while time.monotonic() - settled_s < SETTLE_S:
            loader.run_once()
            if len(loader._following) != shares:
                settled_s = time.monotonic()
            time.sleep(0.05)
        all_ready.wait()
        all_ready.wait()
        while not stop.is_set():
            before = (time.process_time(), time.monotonic())
            try:
                result = loader.run_once()
            except FAILURES as error:
                print(f"    {name}: {error}")
                continue
            if result.bytes:
                first = first if events else before
                events += result.stored
                last = (time.process_time(), time.monotonic())
            else:
                stop.wait(0.05)
        found.put(Spent(events, last[0] - first[0], last[1] - first[1]))


def run(settings: Settings, loaders: int, batches: int) -> list[Spent]:
    """Lets so many processes load so many batches, which are in the log when all have their share of it."""
    spawn = multiprocessing.get_context("spawn")
    stop, found, all_ready = spawn.Event(), spawn.Queue(), spawn.Barrier(loaders + 1)
    shares = PARTITIONS // loaders if settings.log else 1
    lake = open_lake(settings)
    with closing(open_log_reader(settings, lambda *_: None)) as reader:
        open_tables(lake, reader.log_id, 100, Silence(), create=True)
        processes = [
            spawn.Process(target=work, args=(settings, f"loader-{number}", shares, all_ready, stop, found), daemon=True)
            for number in range(loaders)
        ]
        for process in processes:
            process.start()
        all_ready.wait()
        asyncio.run(fill(settings, batches))
        all_ready.wait()
        ends = {number: reader.end_position(number) for number in reader.partitions()}
        while any(open_table(lake, "events").position(reader.log_id, n) < end for n, end in ends.items()):
            time.sleep(0.5)
        stop.set()
        spent = [found.get() for _ in processes]
    for process in processes:
        process.join()
    return spent


def show(form: str, spent: list[Spent], batches: int) -> float:
    """Prints a line; the events per CPU second."""
    assert sum(each.events for each in spent) == batches * EVENTS, spent
    rate = batches * EVENTS / sum(each.cpu_s for each in spent)
    shares = "/".join(str(each.events // EVENTS) for each in spent)
    wall = max(each.seconds for each in spent)
    print(f"{form:24} {1e6 / rate:8.2f} {rate:14,.0f} {wall:8.1f}   {shares}", flush=True)
    return rate


def measure_shards(settings: Settings, log_id: str, rows: int) -> None:
    """Makes shards anew from the table, one and all."""
    table = open_tables(open_lake(settings), log_id, 100, Silence(), create=False)["events"]
    for numbers in ([0], list(range(PARTITIONS))):
        with ThreadPoolExecutor(1) as thread, TemporaryDirectory(dir=settings.data_dir) as folder:
            place = IndexPlace(Path(folder), log_id, PARTITIONS, 1 << 30, Silence(), lambda: uuid4().hex, thread)
            shards, began = IdentityShards(place), (time.process_time(), time.monotonic())
            shards.hold(dict.fromkeys(numbers, 1), table, numbers, lambda: None)
            cpu_s, seconds = time.process_time() - began[0], time.monotonic() - began[1]
            print(
                f"{len(numbers)} of {PARTITIONS} shards anew from {rows:,} rows in {len(table.files)} files: "
                f"{shards.count:,} identities, {cpu_s:.2f} CPU-s, {seconds:.2f} s; "
                f"{cpu_s / rows * 1e7:.1f} CPU-s per 10 M rows"
            )
            shards.close()


def main() -> None:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    named = resolve({}, {name: os.environ[name] for name in os.environ if name in {"KIXO_LOG", "KIXO_LAKE"}}, {})
    print(f"{'form':24} CPU-µs/event   events/CPU-s   wall s   batches of each loader")
    with TemporaryDirectory() as name:
        local = Settings(data_dir=Path(name, "local"))
        local.data_dir.mkdir()
        ensure_log(local)
        alone = show("local log, 1 loader", run(local, 1, batches), batches)
        for loaders in LOADERS:
            mark = uuid4().hex[:8]
            lake = f"{named.lake}/{mark}" if named.lake else ""
            shared = replace(
                named, data_dir=Path(name, mark), log=f"{named.log}-{mark}", lake=lake, log_partitions=PARTITIONS
            )
            shared.data_dir.mkdir()
            log_id = ensure_log(shared)
            rate = show(f"Kafka, {loaders} loaders", run(shared, loaders, batches), batches)
            print(f"    relative to the local form: {rate / alone:.2f}")
        measure_shards(shared, log_id, batches * EVENTS)


if __name__ == "__main__":
    main()
