"""One stretch of driving: what the driver saw, and the CPU that the server's processes used meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field

from kixo.bench.driver import Plan, Report
from kixo.bench.driving import Drive
from kixo.bench.options import Finding
from kixo.bench.processes import cpu_s

Advance = Callable[[float], None]
"""Told of each second that has passed, or a part of it."""

Processes = Callable[[], dict[int, str]]
Follow = Callable[[Report, Drive], None]


@dataclass
class Trial:
    """What came of a plan: reports at the end of measuring and at the end of all, and CPU seconds of both by role."""

    measured: Report = field(default_factory=Report)
    done: Report = field(default_factory=Report)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def requests_per_s(self) -> float:
        """Requests answered 200 per second of the window."""
        return self.measured.window_requests / self.measured.window_seconds

    @property
    def events_per_s(self) -> float:
        """Events accepted per second of the window."""
        return self.measured.window_accepted / self.measured.window_seconds

    def cpu_us(self, role: str) -> float:
        """CPU-µs per accepted event of the processes of a role; 0 where nothing was accepted."""
        return self.cpu_s.get(role, 0.0) / self.measured.window_accepted * 1e6 if self.measured.window_accepted else 0.0


def drive(plan: Plan, processes: Processes, advance: Advance, follow: Follow | None = None) -> Trial:
    """Carries a plan out; `follow` is shown each report and may change the rate."""
    trial = Trial()
    seconds = 0.0
    with Drive(plan) as driving:
        for report in driving.reports():
            advance(report.seconds - seconds)
            seconds = report.seconds
            if follow is not None:
                follow(report, driving)
            _note(trial, report, processes)
    return trial


def _note(trial: Trial, report: Report, processes: Processes) -> None:
    if report.state == "measuring":
        trial.cpu_s = cpu_s(processes())
    elif report.state == "measured":
        trial.cpu_s = spent(trial.cpu_s, cpu_s(processes()))
        trial.measured = report
    elif report.state == "done":
        trial.done = report


def spent(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU seconds between two readings, by role."""
    return {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}


def describe(trial: Trial, finding: Finding) -> None:
    """Adds what every trial has to say to a finding."""
    measured, latency = trial.measured, trial.done.latency
    finding.figures["requests_per_s"] = trial.requests_per_s
    finding.figures["events_per_s"] = trial.events_per_s
    if latency is not None:
        finding.figures |= {"ack_p50_ms": latency.p50_ms, "ack_p99_ms": latency.p99_ms, "ack_p999_ms": latency.p999_ms}
    if trial.cpu_s:
        finding.figures["ingest_cpu_us_per_event"] = trial.cpu_us("worker")
        finding.figures["loader_cpu_us_per_event"] = trial.cpu_us("loader")
    if measured.window_requests:
        finding.figures["driver_cpu_us_per_request"] = measured.cpu_s / measured.window_requests * 1e6
    remark(trial.done, finding)


def remark(report: Report, finding: Finding) -> None:
    """Adds a note for everything that did not go as it should."""
    refused = {status: count for status, count in report.statuses.items() if status != 200}
    if refused:
        counts = ", ".join(f"{count} times {status}" for status, count in sorted(refused.items()))
        finding.notes.append(f"Answers other than 200: {counts}.")
    if report.connection_errors:
        finding.notes.append(
            f"{report.connection_errors} connections failed; of {report.unknown_events} events it is not known "
            "whether they were stored."
        )
    if report.unsent:
        finding.notes.append(f"{report.unsent} requests were due and not sent: the server is too slow for this rate.")
    if report.paced_s > 0.01:
        finding.notes.append(
            f"The driver waited {report.paced_s:.1f} s so as not to exceed the rate limit of its projects: "
            "the server may be faster than shown."
        )
