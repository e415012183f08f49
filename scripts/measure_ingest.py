"""Measures what ingest into Kafka costs against ingest into a local log, in CPU time of the workers per accepted event.

    eval "$(scripts/services start kafka)"
    .venv/bin/python -m scripts.measure_ingest [--rounds 5] [--seconds 3] [--batches 1000 100]
    scripts/services stop

`KIXO_LOG` names the brokers; a topic is made beside the one that is named. Both servers run all the while, one worker
each and no loader, and are driven in turn as fast as they answer. CPU time is that of the worker processes, threads of
libraries included, from `/proc`. Shown last is the local form's CPU time over that of Kafka: the events per core of
ingest into Kafka relative to the local form, of neighbouring runs. Elapsed time is not shown: it says more of the
machine than of the forms. The last line is what an event of this traffic takes, in bytes.
"""

import argparse
import os
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from kixo.bench.driver import Plan
from kixo.bench.options import LIMIT_PER_PROJECT, connections, projects
from kixo.bench.subject import Subject, prepare, running
from kixo.bench.traffic import Credential, Shape
from kixo.bench.trial import drive
from kixo.lake.opening import open_lake
from kixo.lake.read import open_table
from kixo.settings import Settings

FORMS = ("local", "Kafka")
WARM_UP_S = 1.0


@contextmanager
def started(folder: Path, log: str, *, loader: bool = False) -> Iterator[tuple[Subject, list[Credential]]]:
    """A server with one worker on that log, an empty one being that of the data folder; all else is in the folder."""
    credentials = prepare(folder, projects(100))
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("KIXO_")]:
        del os.environ[name]
    if log:
        os.environ["KIXO_LOG"] = log
    try:
        with running(folder, 1, loader=loader) as subject:
            yield subject, credentials
    finally:
        os.environ.clear()
        os.environ.update(kept)


def cpu_us(subject: Subject, credentials: list[Credential], batch: int, seconds: float, seed: int) -> tuple[float, int]:
    """CPU-µs of the workers per accepted event, and how many were accepted while they were measured."""
    plan = Plan(
        url=subject.url,
        credentials=credentials,
        shape=Shape(batch),
        connections=connections(batch),
        seconds=seconds,
        warm_up_s=WARM_UP_S,
        seed=seed,
        limit_per_project=LIMIT_PER_PROJECT,
    )
    trial = drive(plan, subject.processes, lambda _: None)
    refused = {status: count for status, count in trial.done.statuses.items() if status != 200}
    if refused:
        print(f"    answers other than 200: {refused}")
    return trial.cpu_us("worker"), trial.measured.window_accepted


def compare(subjects: dict[str, tuple[Subject, list[Credential]]], batch: int, rounds: int, seconds: float) -> None:
    """Prints a line for each run, and the ratios of neighbouring runs."""
    print(f"\nbatches of {batch:,}\n{'form':8} {'CPU-µs/event':>14} {'events':>12}")
    ratios = []
    for number in range(rounds):
        found = {}
        # Each goes first every other time, so that what drifts favours neither.
        for form in FORMS if number % 2 == 0 else FORMS[::-1]:
            found[form], events = cpu_us(*subjects[form], batch, seconds, number)
            print(f"{form:8} {found[form]:14.2f} {events:12,}", flush=True)
        ratios.append(found["local"] / found["Kafka"])
    ratios.sort()
    print(f"events per core on Kafka / local = {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def show_bytes(folder: Path, seconds: float) -> None:
    """Prints what an event takes in a request, and in the tables as the loader has left them."""
    with started(folder, "", loader=True) as (subject, credentials):
        plan = Plan(subject.url, credentials, Shape(1000), connections(1000), seconds, WARM_UP_S)
        trial = drive(plan, subject.processes, lambda _: None)
        subject.drain(trial.done.accepted)
    paths = open_table(open_lake(Settings(data_dir=folder)), "events").paths
    sent = trial.measured.window_bytes / trial.measured.window_accepted
    kept = sum(Path(path).stat().st_size for path in paths) / trial.done.accepted
    print(f"\nan event: {sent:.0f} bytes in a request of 1,000, {kept:.0f} in {len(paths)} files of the events table")


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of ingest into Kafka against that into a local log.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1000, 100])
    asked = parser.parse_args()
    log = f"{os.environ['KIXO_LOG']}-{uuid4().hex[:8]}"
    with TemporaryDirectory() as name:
        folders = {form: Path(name, form) for form in FORMS}
        with started(folders["local"], "") as local, started(folders["Kafka"], log) as kafka:
            for batch in asked.batches:
                compare({"local": local, "Kafka": kafka}, batch, asked.rounds, asked.seconds)
        show_bytes(Path(name, "loaded"), asked.seconds)


if __name__ == "__main__":
    main()
