"""One soak, from the empty folder to the verdict."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kixo.bench.options import Options
from kixo.bench.scenarios import sustained
from kixo.bench.subject import QUERY, Subject, prepare, running
from kixo.bench.traffic import Credential
from kixo.layout import Layout
from kixo.query import open_query
from torture.loaded import wait_loaded
from torture.oracle import Findings, reconcile
from torture.soak.asking import Asked, asking
from torture.soak.flatness import Judgement, Sample
from torture.soak.mixture import Mixing, Progress, mean_batch, mixing, projects_for
from torture.soak.report import Verdict, judge_all, sample_file
from torture.soak.sampling import Sampler
from torture.soak.watched import CLIENTS, Watched

SUSTAINED_SECONDS = 30.0
DELIVERY_S_MAX = 120.0
LOADED_S_MAX = 600.0
# Of the time that a process waits for a core, as it does now and then on a machine that is not full.
STARVED_MAX = 0.05


@dataclass(frozen=True)
class Plan:
    """What a soak is to be. `rate` is events per second, None: half of what is sustained, measured first.

    `output` is where samples, plot and verdict go; `folder` where the data folder is made, some gigabytes.
    """

    minutes: float
    rate: float | None
    interval_s: float
    seed: int
    workers: int
    output: Path
    folder: Path | None


@dataclass(frozen=True)
class Ended:
    """What is known when the traffic is over: the bulk's counts, and the clients of which each event is known."""

    progress: Progress
    watched: Watched
    asked: Asked


def soak(plan: Plan) -> Verdict:
    """Runs a server under load, samples it, and judges. Raises `OperatorError`."""
    plan.output.mkdir(parents=True, exist_ok=True)
    rate = plan.rate or half_load(plan)
    with TemporaryDirectory(prefix="kixo-soak-", dir=plan.folder) as name:
        folder = Path(name) / "data"
        credentials = prepare(folder, CLIENTS + projects_for(rate))
        with running(folder, plan.workers, loader=True) as server:
            samples, ended = _run(plan, rate, server, credentials)
            verdict = Verdict(figures={"rate_events_per_s": rate, "minutes": plan.minutes})
            verdict.judgements = judge_all(samples)
            verdict.remarks += starved(verdict.judgements)
            verdict.checks["no load and no commit failed, and no process died"] = samples[-1]["failures"] == 0
            _conclude(server, ended, verdict)
    return verdict


def half_load(plan: Plan) -> float:
    """Half of the events per second that this machine can accept and load, in batches of the mixture's mean size."""
    options = Options(
        seconds=SUSTAINED_SECONDS, batch=mean_batch(), seed=plan.seed, workers=plan.workers, folder=plan.folder
    )
    return sustained(options, lambda _seconds: None).figures["sustained_events_per_s"] / 2


def _run(plan: Plan, rate: float, server: Subject, credentials: list[Credential]) -> tuple[list[Sample], Ended]:
    watched = Watched(lambda: server.url, credentials[:CLIENTS], plan.seed)
    bulk = credentials[CLIENTS:]
    with (
        mixing(server.url, bulk, rate, plan.minutes * 60, plan.seed) as mixture,
        watched.traffic.flowing(),
        asking(server.folder, bulk[0].project_id) as asked,
    ):
        samples = list(_samples(plan, server, mixture, asked))
        progress = mixture.wait()
    watched.traffic.finish(DELIVERY_S_MAX)
    return samples, Ended(progress, watched, asked)


def _samples(plan: Plan, server: Subject, mixture: Mixing, asked: Asked) -> Iterator[Sample]:
    """A sample for each interval, kept in the file too, until the drivers are done."""
    sampler = Sampler(server)
    with sample_file(plan.output / "samples.csv") as file:
        while mixture.is_running(plan.interval_s):
            sample = sampler.sample() | {"query_s": asked.last_s}
            file.append(sample)
            yield sample


def _conclude(server: Subject, ended: Ended, verdict: Verdict) -> None:
    """Waits for the loader, then compares what was answered with what is stored."""
    progress, account = ended.progress, ended.watched.account
    loaded = wait_loaded(Layout(server.folder), LOADED_S_MAX)
    rows = bulk_rows(server.folder, ended.watched.projects)
    findings = reconcile(server.folder / "lake", account, ended.watched.source, ended.watched.projects)
    began_s = time.monotonic()
    audited = server.audit()
    verdict.figures |= {
        "accepted_events": progress.accepted,
        "unanswered_events": progress.unknown,
        "table_rows": rows,
        "watched_events": len(account.sent),
        "watched_requests_answered": account.outcomes.total(),
        "queries": ended.asked.count,
        "audit_s": time.monotonic() - began_s,
    }
    verdict.checks |= {
        "everything accepted is loaded": loaded,
        "the table holds exactly what was accepted": 0 <= rows - progress.accepted <= progress.unknown,
        **_watched_checks(findings, ended),
        "kixo audit accounts for every event, and finds none twice": audited,
        "every query was answered": not ended.asked.failures,
        "no driver gave up": not progress.failures,
    }
    _remark(ended, findings, verdict)


def _watched_checks(findings: Findings, ended: Ended) -> dict[str, bool]:
    account = ended.watched.account
    wrong = findings.foreign or findings.altered or findings.unrecorded
    return {
        "of the watched events none is lost": not findings.lost,
        "of the watched events none is doubled": not findings.doubled,
        "of the watched events none is another than was sent": not wrong,
        "every bad event was rejected, and no good one": not (account.let_in or account.wrongly_rejected),
        "no answer was wrong": not account.faults,
    }


def starved(judgements: Iterable[Judgement]) -> list[str]:
    """A remark for each process that had to wait for a core so long that times tell more of others than of it."""
    return [
        f"{each.series.name}: {each.mean:.0%} of the second half. What times and lag grew by may be others' work."
        for each in judgements
        if each.series.name.endswith("_starved") and each.mean > STARVED_MAX
    ]


def _remark(ended: Ended, findings: Findings, verdict: Verdict) -> None:
    for status, count in sorted(ended.progress.refused.items()):
        verdict.remarks.append(f"{count} requests of the bulk were answered {status}.")
    for report in ended.progress.reports.values():
        if report.unsent:
            verdict.remarks.append(f"{report.unsent} requests of a driver were due and found no connection free.")
        if report.latency is not None:
            latency = report.latency
            verdict.remarks.append(
                f"Batches of {round(report.accepted / max(1, report.requests))}: {latency.count} answers, p50 "
                f"{latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, largest {latency.max_ms:.0f} ms."
            )
    wrong = [*findings.lost, *findings.doubled, *findings.foreign, *findings.altered, *findings.unrecorded]
    verdict.remarks += [*ended.progress.failures, *ended.asked.failures, *ended.watched.account.faults, *wrong][:20]


def bulk_rows(folder: Path, but: list[str]) -> int:
    """The rows of the events table, but for some projects, as a query counts them."""
    names = ", ".join(f"'{project}'" for project in but)
    with open_query(folder / "lake", QUERY) as query:
        result = query.run(f"SELECT count(*) FROM events WHERE project_id NOT IN ({names})")
        return int(result.table().column(0)[0].as_py())
