"""Runs a client under test: one process for each case, the task on stdin, the report as the last line of stdout.

The process may say `tracked` on a line of its own once it has been given all events; a host that refuses connections
at first begins to listen some time after that, or after the start of a client that does not say so.
"""

import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import IO

import msgspec
from msgspec import json

from kixo.conformance.case import Case, Kit
from kixo.conformance.host import Host
from kixo.conformance.task import task
from kixo.conformance.trace import Report, Trace
from kixo.conformance.verdict import Verdict, judge_case
from kixo.errors import BadArgument

TRACKED = b"tracked"
# What a client gets on top of its own deadline for a flush, to start and to end in.
PATIENCE_S = 15.0
REFUSED_S_MAX = 5.0
SHOWN_CHARACTERS = 600


def run_cases(
    kit: Kit, cases: Iterable[Case], command: str, jobs: int, patience_s: float, done: Callable[[Verdict], None]
) -> list[Verdict]:
    """Runs a client through cases, `jobs` at a time; `done` hears of each. Raises `BadArgument`."""
    words = shlex.split(command)

    def run(case: Case) -> Verdict:
        verdict = judge_case(kit, case, run_case(case, words, patience_s))
        done(verdict)
        return verdict

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(run, cases))


def run_case(case: Case, words: list[str], patience_s: float = PATIENCE_S) -> Trace:
    """Runs a client through one case; raises `BadArgument` where it cannot be started."""
    host = Host(case)
    try:
        if not case.refused_ms:
            host.open()
        return _drive(host, words, case.options.flush_timeout_ms / 1000 + patience_s)
    finally:
        host.close()


def _drive(host: Host, words: list[str], seconds: float) -> Trace:
    with tempfile.TemporaryFile() as stderr:
        process = _start(words, stderr)
        _, output = reader = _collect(host, process)
        _give(process, json.encode(task(host.case, host.url)))
        ending = _wait(process, seconds)
        reader[0].join()
        host.wait(lambda seen: seen.answered, 1.0)
        ending = ending or _status(process, stderr)
        try:
            report = _report(output)
        except msgspec.DecodeError as error:
            return host.trace(ending or f"its report is not what it has to be: {error}")
    return host.trace(ending, report)


def _start(words: list[str], stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
    except (OSError, IndexError) as error:
        raise BadArgument(f"The client cannot be started: {error}.", "Give --client a command that can.") from error


def _collect(host: Host, process: "subprocess.Popen[bytes]") -> tuple[threading.Thread, list[bytes]]:
    """Reads what the client prints, and opens a host that refuses when its time has come."""
    lines: list[bytes] = []
    delay_s = host.case.refused_ms / 1000
    timer = threading.Timer(REFUSED_S_MAX, host.open)

    def read() -> None:
        assert process.stdout is not None
        with process.stdout as stdout:
            for line in stdout:
                if line.strip() == TRACKED and host.case.refused_ms:
                    threading.Timer(delay_s, host.open).start()
                elif line.strip():
                    lines.append(line)
        timer.cancel()

    if host.case.refused_ms:
        timer.start()
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread, lines


def _give(process: "subprocess.Popen[bytes]", data: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(data)


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> str | None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"it was still running after {seconds:g} s and was killed"
    finally:
        # The client may have children of its own, such as a browser.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return None


def _status(process: "subprocess.Popen[bytes]", stderr: IO[bytes]) -> str | None:
    if process.returncode == 0:
        return None
    stderr.seek(0)
    said = " | ".join(line.strip() for line in stderr.read().decode("utf-8", "replace").splitlines() if line.strip())
    if len(said) > 2 * SHOWN_CHARACTERS:
        # What went wrong stands first in some languages and last in others.
        said = f"{said[:SHOWN_CHARACTERS]} … {said[-SHOWN_CHARACTERS:]}"
    return f"it ended with status {process.returncode}: {said or 'it said nothing on stderr'}"


def _report(lines: list[bytes]) -> Report:
    """The last line, where it is JSON; what else a client prints is its own business."""
    if not lines or not lines[-1].lstrip().startswith(b"{"):
        return Report()
    return json.decode(lines[-1], type=Report)
