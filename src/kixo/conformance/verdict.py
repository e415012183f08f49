"""The verdict: what each case found, as structs that become the table and the JSON."""

from msgspec import Struct

from kixo.conformance.case import Case, Kit
from kixo.conformance.checks import FINDERS
from kixo.conformance.trace import Trace


class Failure(Struct, frozen=True):
    """A check that failed: the first thing that is wrong, of `count` such, and why it matters."""

    check: str
    expected: str
    found: str
    why: str
    count: int


class Verdict(Struct, frozen=True):
    """What came of a case. `exchange` has a line for each request: its events and its answer."""

    case: str
    what: str
    passed: bool
    requests: int
    failures: list[Failure]
    exchange: list[str]


EXCHANGE_MAX = 12


def judge_case(kit: Kit, case: Case, trace: Trace) -> Verdict:
    """Runs every check."""
    failures: list[Failure] = []
    for check in kit.checks:
        problems = list(FINDERS[check.name](case, trace))
        if problems:
            failures.append(Failure(check.name, *problems[0], check.why, len(problems)))
    return Verdict(case.name, case.what, not failures, len(trace.requests), failures, _exchange(trace))


def _exchange(trace: Trace) -> list[str]:
    lines = [
        f"{request.number}: {(request.arrived_us - trace.began_us) / 1e6:.3f} s, {len(request.events)} events, "
        f"{request.bytes_sent} bytes: {request.answer or 'no answer yet'}"
        for request in trace.requests[:EXCHANGE_MAX]
    ]
    if len(trace.requests) > EXCHANGE_MAX:
        lines.append(f"and {len(trace.requests) - EXCHANGE_MAX} more")
    return lines
