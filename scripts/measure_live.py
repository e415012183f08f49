"""Measures what it costs ingest that somebody watches: the same server with and without watchers, in turn.

    .venv/bin/python scripts/measure_live.py [--rounds 5] [--seconds 6] [--rate 10000] [--batch 10] [--watchers 1]

Two things, each in alternating runs within one call: at a rate (events a second), CPU of the workers per event and the
time to the answer; and as fast as can be, events a second. What is shown last of each is the median of the ratios of
neighbouring runs: with watchers to without. The watchers are real ones, with a session, over server-sent events.
"""

import argparse
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
from msgspec import json

from kixo.bench.driver import Plan
from kixo.bench.options import LIMIT_PER_PROJECT, connections, projects
from kixo.bench.subject import Subject, prepare, running
from kixo.bench.traffic import Credential, Shape
from kixo.bench.trial import Trial, drive
from kixo.layout import Layout
from kixo.registry import open_registry
from kixo.registry.login import create_login_token
from kixo.settings import Settings

WARM_UP_S = 1.5


class Run(NamedTuple):
    """One run: events a second, CPU-µs per event of workers and console, median time to an answer, rows shown."""

    events_per_s: float
    worker_us: float
    console_us: float
    ack_p50_ms: float
    rows: int


def log_in(folder: Path) -> httpx.Client:
    url = str(json.decode(Layout(folder).server_card.read_bytes())["console_url"])
    with open_registry(Settings(data_dir=folder)) as registry:
        token = create_login_token(registry, 60)
    client = httpx.Client(base_url=url, timeout=60)
    assert client.get("/login", params={"token": token}).is_redirect
    return client


@contextmanager
def watching(client: httpx.Client, query: dict[str, str]) -> Iterator[list[int]]:
    """A watcher that reads all it is told; the list holds how many rows that was."""
    rows = [0]
    begun, over = threading.Event(), threading.Event()

    def read() -> None:
        with client.stream("GET", "/live/stream", params=query) as told:
            told.raise_for_status()
            for line in told.iter_lines():
                if line.startswith("data: ["):
                    begun.set()
                    rows[0] += line.count('"id":')
                if over.is_set():
                    return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert begun.wait(30)
    try:
        yield rows
    finally:
        over.set()
        thread.join(30)


def measure(subject: Subject, plan: Plan, watchers: list[dict[str, str]], client: httpx.Client) -> Run:
    with ExitStack() as stack:
        told = [stack.enter_context(watching(client, query)) for query in watchers]
        trial = drive(plan, subject.processes, lambda _: None)
        rows = sum(count[0] for count in told)
    return figures(trial, rows)


def figures(trial: Trial, rows: int) -> Run:
    latency = trial.done.latency
    return Run(
        trial.events_per_s,
        trial.cpu_us("worker"),
        trial.cpu_us("console"),
        latency.p50_ms if latency is not None else 0.0,
        rows,
    )


def compare(
    name: str, subject: Subject, plan: Plan, watchers: list[dict[str, str]], client: httpx.Client, rounds: int
) -> None:
    print(f"\n{name}\n{'':12} {'events/s':>10} {'worker µs':>10} {'console µs':>10} {'ack ms':>8} {'rows':>6}")
    pairs = []
    for number in range(rounds):
        # Each goes first every other time, so that what drifts favours neither.
        order = (False, True) if number % 2 == 0 else (True, False)
        found = {watched: measure(subject, plan, watchers if watched else [], client) for watched in order}
        for watched in order:
            run = found[watched]
            print(
                f"{'watched' if watched else 'alone':12} {run.events_per_s:10.0f} {run.worker_us:10.2f} "
                f"{run.console_us:10.2f} {run.ack_p50_ms:8.2f} {run.rows:6}",
                flush=True,
            )
        pairs.append((found[True], found[False]))
    for title, figure in (("events/s", 0), ("worker CPU per event", 1), ("time to an answer", 3)):
        ratios = sorted(watched[figure] / alone[figure] for watched, alone in pairs if alone[figure])
        print(f"{title}: watched / alone = {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rate", type=float, default=10_000.0, help="events a second of the first part")
    parser.add_argument("--batch", type=int, default=10, help="events in a request")
    parser.add_argument("--watchers", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        credentials = prepare(Path(folder) / "data", projects(given.batch))
        with running(Path(folder) / "data", 0, loader=True) as subject:
            client = log_in(subject.folder)
            watchers = [watcher(number, credentials) for number in range(given.watchers)]
            for name, rate in ((f"At {given.rate:.0f} events/s", given.rate), ("As fast as can be", None)):
                plan = Plan(
                    url=subject.url,
                    credentials=credentials,
                    shape=Shape(given.batch),
                    connections=connections(given.batch),
                    seconds=given.seconds,
                    warm_up_s=WARM_UP_S,
                    rate=None if rate is None else rate / given.batch,
                    limit_per_project=LIMIT_PER_PROJECT,
                )
                compare(name, subject, plan, watchers, client, given.rounds)
            client.close()


def watcher(number: int, credentials: list[Credential]) -> dict[str, str]:
    """The first sees everything; the others look for a device that nobody has, which has to be searched for in all."""
    if number == 0:
        return {}
    return {"project": credentials[0].project_id, "device": f"d_nobody_{number}"}


if __name__ == "__main__":
    main()
