"""Running a driver: starting its process, following its reports, changing its rate."""

import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from msgspec import json

from kixo.bench.driver import Plan, Report
from kixo.errors import StartFailed


class Drive:
    """A driver at work. Use it in a `with` block, which ends the driver, and go through its `reports`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "kixo.bench.driver"]
        # In a group of its own: the Ctrl-C of a terminal is for us, who then end it.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0)
        self._write(json.encode(self._plan))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def reports(self) -> Iterator[Report]:
        """Each report as it comes, the last with state `done`; raises `StartFailed` when the driver gives up."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = json.decode(line, type=Report)
            yield report
            if report.state == "done":
                return
        raise StartFailed("The driver has ended before its time.", "The lines above say why.")

    def set_rate(self, requests_per_s: float) -> None:
        """Goes on at another rate."""
        self._write(f"{requests_per_s:.6f}".encode())

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()
