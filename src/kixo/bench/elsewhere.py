"""Driving a server that somebody else runs: what it answers can be seen, what it costs and holds cannot."""

from msgspec.structs import replace

from kixo.bench.options import Finding, Options
from kixo.bench.traffic import Credential
from kixo.bench.trial import Advance, describe, drive

# Short of the limit of 100 requests in any second, so that no answer is 429 and the schedule never has to wait.
REQUESTS_PER_S = 85.0


def elsewhere(url: str, credential: Credential, options: Options, advance: Advance) -> Finding:
    """Drives the server at `url` as one project, paced to its rate limit."""
    finding = Finding("elsewhere")
    shape = options.shape(1000)
    wanted = REQUESTS_PER_S if options.rate is None else options.rate / shape.batch
    plan = options.plan(url, [credential], shape, options.seconds or 10.0)
    plan = replace(plan, rate=min(wanted, REQUESTS_PER_S))
    trial = drive(plan, dict, advance)
    describe(trial, finding)
    finding.checks["events were accepted"] = trial.done.accepted > 0
    finding.notes.insert(
        0,
        f"One project may send 100 requests a second, so the driver sends {plan.rate:g}: this is no measure of what "
        "the server can do. Without --url, kixo bench starts a server with enough projects.",
    )
    return finding
