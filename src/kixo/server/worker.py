"""A worker process: takes events on the public port and writes one partition of the log."""

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from msgspec import json

from kixo.errors import Unavailable
from kixo.http.application import Application, Notes
from kixo.http.body import BodyReader
from kixo.http.pages import open_pages
from kixo.ingest import Ingest
from kixo.key_use import Count, KeyUseFile, count_nothing
from kixo.layout import Layout
from kixo.limits.opening import open_limit
from kixo.log import Appender
from kixo.log.group_commit import Observe
from kixo.log.opening import open_appender
from kixo.log.writer import PartitionHeld
from kixo.metric_file import MetricFile
from kixo.metrics import LOG_BYTES, LOG_COMMITS, LOG_CUT_BYTES, LOG_FAILURES, REGISTRY_AGE_SECONDS
from kixo.openapi import document
from kixo.refused import RefusedRecord, Ring
from kixo.registry import open_registry
from kixo.registry.source import POLL_WAIT_S, SnapshotSource, kept_snapshot
from kixo.server.child import Assignment, open_metrics, run_child
from kixo.server.listening import listen
from kixo.server.logs import open_log
from kixo.server.readiness import Readiness
from kixo.server.registry_poll import polling
from kixo.settings import Settings
from kixo.timestamp import now_us

# How long a new worker waits for the partition of one that is still ending.
PARTITION_WAIT_S = 10.0
BACKLOG = 4096
GC_THRESHOLD = 50_000


def main() -> None:
    """Runs a worker until it is told to stop."""
    run_child(lambda assignment: uvloop.run(_work(assignment)))


async def _work(assignment: Assignment) -> None:
    # A request leaves no cycles behind: look for them seldom, and never among what lives as long as the process.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    settings = assignment.settings
    log = open_log(settings, assignment.place)
    with ExitStack() as stack:
        metrics = open_metrics(assignment)
        stack.callback(metrics.close)
        source = _open_source(settings)
        stack.callback(source.close)
        limit = await open_limit(settings, metrics, log)
        stack.callback(limit.close)
        appender = await _open_appender(assignment, metrics, log)
        # After the appender: who holds the partition is the one who writes these.
        refused = RefusedRecord(_open_ring(assignment, log), lambda: source.snapshot)
        stack.callback(refused.close)
        count_use = _open_key_use(assignment, stack, log)
        # Closed before what it tells of, and after what submits to it.
        stack.callback(appender.close)
        bodies = BodyReader(settings)
        stack.callback(bodies.close)
        application = Application(
            Ingest(lambda: source.snapshot, limit, time.monotonic_ns, settings),
            appender,
            bodies,
            open_pages(Readiness(appender).reason, json.encode(document(settings))),
            Notes(metrics, count_use, refused),
            log,
            now_us,
            time.monotonic_ns,
            settings,
        )
        with polling(source, settings.registry_poll_s, log, _age_teller(assignment, metrics)):
            await _serve(application, assignment)
    log.info("worker_stopped")


def _open_source(settings: Settings) -> SnapshotSource:
    kept = kept_snapshot(Layout(settings.data_dir).snapshot, settings.registry)
    return SnapshotSource(lambda: open_registry(settings, wait_s=POLL_WAIT_S), time.time, kept)


def _age_teller(assignment: Assignment, metrics: MetricFile) -> Callable[[float], None]:
    """One worker tells for all, as gauges of several are summed."""
    return partial(metrics.set, REGISTRY_AGE_SECONDS) if assignment.number == 0 else lambda _: None


async def _serve(application: Application, assignment: Assignment) -> None:
    settings = assignment.settings
    server = Server(
        application,
        assignment.host,
        assignment.port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=int(settings.head_read_s * 1000)),
        websockets=False,
        log_enabled=False,
        backlog=BACKLOG,
        backpressure=settings.connections_max,
    )
    await listen(server, assignment)


async def _open_appender(assignment: Assignment, metrics: MetricFile, log: Any) -> Appender:
    def report(sentence: str, size: int) -> None:
        log.warning("log_repaired", what=sentence, bytes=size)
        metrics.add(LOG_CUT_BYTES, size)

    observe = _observer(metrics, log)
    return await _when_free(lambda: open_appender(assignment.settings, assignment.number, observe, report))


async def _when_free(opening: Callable[[], Appender]) -> Appender:
    ends = time.monotonic() + PARTITION_WAIT_S
    while True:
        try:
            return opening()
        except PartitionHeld:
            if time.monotonic() > ends:
                raise
        await asyncio.sleep(0.05)


def _open_ring(assignment: Assignment, log: Any) -> Ring | None:
    try:
        return Ring(Layout(assignment.settings.data_dir).refused / assignment.place, now_us())
    except OSError as error:
        log.warning("refused_requests_unrecorded", reason=str(error))
        return None


def _open_key_use(assignment: Assignment, stack: ExitStack, log: Any) -> Count:
    try:
        file = KeyUseFile(Layout(assignment.settings.data_dir).key_use / assignment.place)
    except OSError as error:
        log.warning("use_of_keys_uncounted", reason=str(error))
        return count_nothing
    stack.callback(file.close)
    return file.counter()


def _observer(metrics: MetricFile, log: Any) -> Observe:
    def observe(size: int, failure: Unavailable | None) -> None:
        metrics.add(LOG_COMMITS if failure is None else LOG_FAILURES)
        if failure is None:
            metrics.add(LOG_BYTES, size)
        else:
            log.error("log_commit_failed", bytes=size, reason=failure.message)

    return observe


if __name__ == "__main__":
    main()
