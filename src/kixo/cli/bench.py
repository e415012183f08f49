"""`kixo bench`: what this server does on this machine, next to what is due."""

import signal
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kixo.bench.elsewhere import elsewhere
from kixo.bench.options import Finding, Identity, Options
from kixo.bench.report import comparison, print_comparison, print_finding
from kixo.bench.scenarios import SCENARIOS, length_s
from kixo.bench.traffic import Credential
from kixo.cli.options import Json
from kixo.errors import AuditFailed, BadArgument
from kixo.output import print_json, progress_bar

Scenario = Literal["batches", "singles", "sustained", "latency", "all"]


def bench(
    *,
    scenario: Annotated[
        Scenario,
        Parameter(
            help="batches: 1,000 events each, loader off, against the floor. singles: 1 event each, against the "
            "floor. sustained: the most that is accepted and loaded with no growing lag. latency: half of that in "
            "batches of 100. all: each of them, and the table of what is due."
        ),
    ] = "all",
    seconds: Annotated[float | None, Parameter(help="Seconds of measuring. [default: 10, 10, 60, 30]")] = None,
    batch: Annotated[int | None, Parameter(help="Events in a request. [default: 1000, 1, 1000, 100]")] = None,
    connections: Annotated[int | None, Parameter(help="Connections. [default: 8, 128, 8, 32]")] = None,
    rate: Annotated[
        float | None, Parameter(help="Events per second, for sustained and latency. [default: found by trying]")
    ] = None,
    loader: Annotated[
        bool | None, Parameter(negative="--no-loader", help="Whether the loader runs, for batches and singles.")
    ] = None,
    identity: Annotated[
        Identity, Parameter(help="event_id: events carry an id. fingerprint: the server takes a fingerprint.")
    ] = "event_id",
    workers: Annotated[int, Parameter(help="Workers of the server; 0 is its own choice.")] = 0,
    rounds: Annotated[int, Parameter(help="Rounds of floor and server in turn; the median counts.")] = 3,
    warm_up: Annotated[
        float | None, Parameter(help="Seconds before measuring, for sustained and latency. [default: 15, 3]")
    ] = None,
    seed: Annotated[int, Parameter(help="Seed of the traffic.")] = 1,
    folder: Annotated[Path | None, Parameter(help="Where to put temporary data, some gigabytes.")] = None,
    url: Annotated[str | None, Parameter(help="A running server to drive instead, paced to its rate limit.")] = None,
    project: Annotated[str | None, Parameter(help="The project to send as, with --url.")] = None,
    key: Annotated[str | None, Parameter(help="A key of it, with --url.")] = None,
    json: Json = False,
) -> None:
    """Drives a server with realistic traffic and says how fast, how dear and how exact it is."""
    # SIGTERM too must end the servers that we have started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(seconds, batch, connections, rate, loader, identity, workers, rounds, seed, folder, warm_up)
    _check(options)
    if url is not None:
        findings = [_elsewhere(url, project, key, options)]
        _print(findings[0], json)
    else:
        names = list(SCENARIOS) if scenario == "all" else [scenario]
        findings = [_measure(name, options, json) for name in names]
    _conclude(findings, json)


def _check(options: Options) -> None:
    if options.batch is not None and not 1 <= options.batch <= 1000:
        raise BadArgument(f"--batch is {options.batch}.", "A request may have 1 to 1000 events.")
    for name in ("seconds", "connections", "rate", "rounds"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise BadArgument(f"--{name} is {value}.", "It has to be more than 0.")


def _measure(name: str, options: Options, json: bool) -> Finding:
    with progress_bar(name, round(length_s(name, options))) as advance:
        finding = SCENARIOS[name](options, advance)
    _print(finding, json)
    return finding


def _elsewhere(url: str, project: str | None, key: str | None, options: Options) -> Finding:
    if project is None or key is None:
        raise BadArgument("--url needs a project and a key to send as.", "Give --project and --key.")
    with progress_bar(url, options.seconds or 10.0) as advance:
        return elsewhere(url, Credential(project, key), options, advance)


def _print(finding: Finding, json: bool) -> None:
    if not json:
        print_finding(finding)


def _conclude(findings: list[Finding], json: bool) -> None:
    """Prints what is left to be said; raises `AuditFailed` where a server did not hold what it had accepted."""
    if json:
        print_json({"findings": findings, "table": comparison(findings)})
    elif comparison(findings):
        print_comparison(findings)
    failed = [f"{finding.scenario}: {check}" for finding in findings for check in finding.failed]
    if failed:
        raise AuditFailed(f"Not so: {'; '.join(failed)}.", "The figures above are not to be trusted.")
