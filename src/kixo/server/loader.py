"""The loader process: puts what is in the log into the tables."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from kixo.errors import DataFolderError
from kixo.files import try_lock
from kixo.lake.opening import open_lake
from kixo.lake.table import open_tables
from kixo.layout import Layout
from kixo.loader.joining import join
from kixo.loader.loader import FAILURES, Loader, Surroundings
from kixo.log import LogReader
from kixo.log.opening import open_log_reader
from kixo.metric_file import MetricFile
from kixo.metrics import LOG_CORRUPT_BYTES, LOG_LOST_REQUESTS
from kixo.places import log_place
from kixo.server.child import Assignment, is_orphan, open_metrics, run_child, stop_requested, tell_ready
from kixo.server.logs import open_log
from kixo.settings import Settings
from kixo.timestamp import now_us

LOCK_POLL_S = 0.05
LOADER_NICE = 5


def main() -> None:
    """Runs the loader until it is told to stop."""
    run_child(_work)


def _work(assignment: Assignment) -> None:
    # What answers clients goes first; a loader that falls behind is caught up by the log.
    os.nice(LOADER_NICE)
    settings = assignment.settings
    log = open_log(settings, assignment.place)
    stop = stop_requested(assignment)
    with closing(open_metrics(assignment)) as metrics:
        place = log_place(settings.log)
        opened = _only(settings, metrics, log, stop) if place is None else _member(settings, metrics, log)
        with opened as loader:
            loader.open()
            tell_ready(assignment)
            loader.run(stop)
            if not is_orphan(assignment):
                _drain(loader, time.monotonic() + settings.stop_s_max / 2, log)
    log.info("loader_stopped")


@contextmanager
def _only(settings: Settings, metrics: MetricFile, log: Any, stop: threading.Event) -> Iterator[Loader]:
    """The one loader of a log on this machine."""
    layout = Layout(settings.data_dir)
    with _log_reader(settings, metrics, log) as reader, _alone(layout, stop):
        lake = open_lake(settings)
        around = Surroundings(lake, layout.index, reader, settings, now_us, metrics, log, record=layout.load_record)
        with closing(Loader(around)) as loader:
            yield loader


@contextmanager
def _member(settings: Settings, metrics: MetricFile, log: Any) -> Iterator[Loader]:
    """One of the loaders of a log that they share."""
    lake = open_lake(settings)
    with _log_reader(settings, metrics, log) as reader:
        tables = open_tables(lake, reader.log_id, settings.checkpoint_commits, log, create=True)
        with join(settings, reader, tables["events"].id) as (group, own):
            index = Layout(settings.data_dir).index
            around = Surroundings(lake, index, own, settings, now_us, metrics, log, group=group)
            with closing(Loader(around)) as loader:
                yield loader


@contextmanager
def _log_reader(settings: Settings, metrics: MetricFile, log: Any) -> Iterator[LogReader]:
    def report(sentence: str, size: int) -> None:
        log.error("log_damaged", what=sentence, bytes=size)
        metrics.add(LOG_CORRUPT_BYTES, size)

    def lost(sentence: str, requests: int) -> None:
        log.error("log_lost", what=sentence, requests=requests)
        metrics.add(LOG_LOST_REQUESTS, requests)

    with closing(open_log_reader(settings, report, lost)) as reader:
        yield reader


@contextmanager
def _alone(layout: Layout, stop: threading.Event) -> Iterator[None]:
    """Holds the lake for this process, waiting for the loader of an earlier server that is still ending.

    Two loaders would each take the other's uncommitted files for leftovers.
    """
    while (lock := try_lock(layout.loader_lock)) is None:
        if stop.wait(LOCK_POLL_S):
            raise DataFolderError("Another loader holds the lake.", "Wait until it has ended.")
    try:
        yield
    finally:
        os.close(lock)


def _drain(loader: Loader, ends: float, log: Any) -> None:
    """Loads what the workers wrote last; what time does not allow waits in the log for the next start."""
    try:
        while time.monotonic() < ends and loader.run_once().bytes:
            pass
    except FAILURES as error:
        log.warning("last_load_failed", error=str(error))


if __name__ == "__main__":
    main()
