"""`kixo conformance`: with `--json`, each case has `case`, `what`, `passed`, `requests`, `failures` and `exchange`.

A failure has `check`, `expected`, `found`, `why` and `count`, which is how often the check failed. `exchange` has a
line of text for each request.
"""

import difflib
from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import Json
from kixo.conformance.case import Case, Kit, load
from kixo.conformance.driver import PATIENCE_S, run_cases
from kixo.conformance.host import END_PATH, Host
from kixo.conformance.verdict import Verdict, judge_case
from kixo.errors import AddressInUse, BadArgument
from kixo.output import print_json, print_line, print_table, progress_bar

FAILED = 1
# A case that is driven by hand has ended when nothing more has come for this long after all is settled.
QUIET_S = 2.0


def conformance(
    *,
    client: Annotated[
        str | None, Parameter(help="A command that runs the client under test; started once for each case.")
    ] = None,
    serve: Annotated[str | None, Parameter(help="Play the host of this one case, for a client driven by hand.")] = None,
    case: Annotated[tuple[str, ...], Parameter(help="Only this case; can be given several times.")] = (),
    port: Annotated[int, Parameter(help="The port of --serve; 0 picks a free one.")] = 0,
    jobs: Annotated[int, Parameter(help="Cases that run at the same time.")] = 4,
    patience: Annotated[
        float, Parameter(help="Seconds that a client gets beyond its own deadline, to start and to end in.")
    ] = PATIENCE_S,
    list: Annotated[bool, Parameter(help="List the cases.")] = False,
    json: Json = False,
) -> int:
    """Runs a client against scripted answers and says what it does wrong; ends with status 1 where it does."""
    kit = load()
    chosen = [find(kit, name) for name in case] or [*kit.cases]
    if list:
        return _list(chosen, json)
    if serve is not None:
        return _serve(kit, find(kit, serve), port, json)
    if client is None:
        raise BadArgument("There is no client.", "Give --client COMMAND, or --serve CASE to drive one by hand.")
    if jobs < 1:
        raise BadArgument(f"--jobs is {jobs}.", "It has to be at least 1.")
    with progress_bar("cases", len(chosen)) as advance:
        verdicts = run_cases(kit, chosen, client, jobs, patience, lambda verdict: advance(1))
    return _show(verdicts, json)


def find(kit: Kit, name: str) -> Case:
    """The case of that name; raises `BadArgument`."""
    names = [case.name for case in kit.cases]
    if name in names:
        return kit.cases[names.index(name)]
    similar = difflib.get_close_matches(name, names, 1)
    hint = f"Do you mean {similar[0]}?" if similar else "--list shows them all."
    raise BadArgument(f"There is no case {name}.", hint)


def _list(cases: list[Case], json: bool) -> int:
    if json:
        for case in cases:
            print_json(case)
    else:
        print_table(("case", "what happens"), [(case.name, case.what) for case in cases])
    return 0


def _serve(kit: Kit, case: Case, port: int, json: bool) -> int:
    host = _host(case, port)
    try:
        host.open()
        if not json:
            _print_invitation(host)
        # Without an end: it is a person who is awaited.
        while not host.ended.is_set():
            host.wait(lambda seen: seen.ended.is_set() or (seen.settled and bool(seen.requests)), 0.5)
            if host.settled and host.requests and not _more_comes(host):
                break
    except KeyboardInterrupt:
        pass
    finally:
        host.close()
    return _show([judge_case(kit, case, host.trace(None))], json)


def _host(case: Case, port: int) -> Host:
    try:
        return Host(case, port=port)
    except OSError as error:
        raise AddressInUse(f"Port {port} cannot be had: {error.strerror}.", "Choose another --port.") from error


def _more_comes(host: Host) -> bool:
    """Whether another request comes while it is quiet."""
    before = len(host.requests)
    return (
        host.wait(lambda seen: seen.ended.is_set() or len(seen.requests) > before, QUIET_S) and not host.ended.is_set()
    )


def _print_invitation(host: Host) -> None:
    print_line(f"{host.case.name}: {host.case.what} {host.case.why}")
    print_line(f"Send to {host.url}. The task is at {host.url}/conformance/case.")
    print_line(f"The verdict comes when all is settled, after POST {END_PATH}, or with Ctrl-C.")


def _show(verdicts: list[Verdict], json: bool) -> int:
    """Prints the verdicts; returns the status of the process."""
    passed = sum(verdict.passed for verdict in verdicts)
    if json:
        for verdict in verdicts:
            print_json(verdict)
    else:
        rows = [(v.case, "passed" if v.passed else "FAILED", v.requests, v.what) for v in verdicts]
        print_table(("case", "verdict", "requests", "what happens"), rows)
        for verdict in verdicts:
            _print_failures(verdict)
        print_line(f"{passed} of {len(verdicts)} cases passed.")
    return 0 if passed == len(verdicts) else FAILED


def _print_failures(verdict: Verdict) -> None:
    for failure in verdict.failures:
        print_line("")
        print_line(f"{verdict.case}: {failure.check}" + (f" ({failure.count} times)" if failure.count > 1 else ""))
        print_line(f"  expected  {failure.expected}")
        print_line(f"  came      {failure.found}")
        print_line(f"  why       {failure.why}")
    if verdict.failures:
        print_line("  requests" + ("" if verdict.exchange else "  none"))
        for line in verdict.exchange:
            print_line(f"            {line}")
