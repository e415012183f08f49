"""The sending end of a measurement: one process, one epoll, N connections with one request outstanding each.

`python -m kixo.bench.driver` reads a `Plan` as one line of JSON on standard input, and writes `Report`s as lines of
JSON on standard output: some `running`, one `measuring` when the warm-up is over, one `measured` when sending ends,
and one `done` when the last answer is in. Later lines on standard input may set another rate: a number of requests
per second.

*Closed loop* (no rate): each connection sends as soon as it has its answer. *Open loop*: requests are due by the
clock, and latency counts from when a request was due, also when it had to wait for a connection; so a server that
stalls cannot hide it (no coordinated omission).
"""

import os
import select
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from msgspec import Struct, json

from kixo.bench.connection import Connection
from kixo.bench.latency import Latencies, Latency
from kixo.bench.schedule import Schedule
from kixo.bench.traffic import Credential, Ring, Shape
from kixo.timestamp import now_us

REPORT_INTERVAL_S = 0.25
ANSWER_S_MAX = 30.0
RECONNECT_ERRORS_MAX = 1000


class Plan(Struct, frozen=True):
    """What a driver is to do. `rate` is requests per second, None: closed loop."""

    url: str
    credentials: list[Credential]
    shape: Shape
    connections: int
    seconds: float
    warm_up_s: float = 1.0
    rate: float | None = None
    seed: int = 1
    limit_per_project: int = 100


class Report(Struct):
    """Where a driver stands. Counts are totals; those in `window` are since the warm-up.

    `unknown_events` were sent but never answered. `unsent` requests were due but found no connection free.
    """

    state: str = "running"
    seconds: float = 0.0
    requests: int = 0
    accepted: int = 0
    rejected: int = 0
    unknown_events: int = 0
    connection_errors: int = 0
    statuses: dict[int, int] = {}
    window_seconds: float = 0.0
    window_requests: int = 0
    window_accepted: int = 0
    window_bytes: int = 0
    unsent: int = 0
    paced_s: float = 0.0
    cpu_s: float = 0.0
    latency: Latency | None = None


@dataclass
class Tally:
    """What has happened since the start."""

    requests: int = 0
    accepted: int = 0
    rejected: int = 0
    unknown_events: int = 0
    connection_errors: int = 0
    bytes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


class Driver:
    """Sends what a plan says. `run` does it all."""

    def __init__(self, plan: Plan) -> None:
        address = urlsplit(plan.url)
        self._plan = plan
        self._tally = Tally()
        self._latencies = Latencies()
        ring = Ring(plan.shape, plan.credentials, address.netloc, plan.seed, now_us)
        self._requests = ring.requests()
        self._epoll = select.epoll()
        opened = [Connection((address.hostname or "", address.port or 80)) for _ in range(plan.connections)]
        self._connections = {connection.number: connection for connection in opened}
        for number in self._connections:
            self._epoll.register(number, select.EPOLLIN)
        self._idle = deque(opened)
        self._schedule = Schedule(plan.rate, len(plan.credentials), plan.limit_per_project, time.monotonic())
        self._commands = b""

    def run(self) -> None:
        """Warms up, measures, waits for the last answers, and reports all the while."""
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._began_s = time.monotonic()
        self._send_until(self._began_s + self._plan.warm_up_s)
        self._start_window()
        self._report("measuring")
        self._send_until(self._window_s + self._plan.seconds)
        self._report("measured")
        self._finish()
        self._report("done")

    def _start_window(self) -> None:
        self._window_s = time.monotonic()
        self._window_cpu_s = time.process_time()
        self._before = Tally(self._tally.requests, self._tally.accepted, bytes=self._tally.bytes)
        self._schedule.paced_s = 0.0
        self._latencies.clear()

    def _send_until(self, end_s: float) -> None:
        report_s = time.monotonic() + REPORT_INTERVAL_S
        now_s = time.monotonic()
        while now_s < end_s:
            if now_s >= report_s:
                self._report("running")
                report_s = now_s + REPORT_INTERVAL_S
            self._send_due(now_s, end_s)
            self._wait(min(end_s, report_s), sending=True)
            now_s = time.monotonic()

    def _finish(self) -> None:
        end_s = time.monotonic() + ANSWER_S_MAX
        while len(self._idle) < len(self._connections) and time.monotonic() < end_s:
            self._wait(end_s, sending=False)
        for connection in self._connections.values():
            if connection.outstanding is not None:
                self._tally.unknown_events += connection.outstanding.events
            connection.close()

    def _send_due(self, now_s: float, end_s: float) -> None:
        while self._idle and self._schedule.due_s <= now_s < end_s:
            self._send(self._idle.popleft(), now_s)

    def _wait(self, until_s: float, *, sending: bool) -> None:
        """Waits for answers, or until the next request is due."""
        if sending and self._idle:
            # epoll waits in whole milliseconds, which would be seen in the latencies; select does not.
            pause_s = min(self._schedule.due_s, until_s) - time.monotonic()
            select.select([self._epoll], [], [], max(0.0, pause_s))
            ready = self._epoll.poll(0)
        else:
            ready = self._epoll.poll(max(0.0, until_s - time.monotonic()))
        for number, events in ready:
            connection = self._connections.get(number)
            if connection is None:
                self._read_command(number)
            else:
                self._advance(connection, events, sending)

    def _advance(self, connection: Connection, events: int, sending: bool) -> None:
        try:
            if events & select.EPOLLOUT and connection.send_rest():
                self._epoll.modify(connection.number, select.EPOLLIN)
            answer = connection.receive() if events & ~select.EPOLLOUT else None
        except OSError:
            self._reconnect(connection)
            return
        if answer is None:
            return
        now_s = time.monotonic()
        self._count(connection, answer, now_s)
        if connection.sending:
            # Refused before it was all there: what is left of it must not reach the server as the next request.
            self._reconnect(connection)
        elif sending and self._schedule.due_s <= now_s:
            self._send(connection, now_s)
        else:
            self._idle.append(connection)

    def _count(self, connection: Connection, answer: tuple[int, int, int], now_s: float) -> None:
        status, accepted, rejected = answer
        tally = self._tally
        tally.statuses[status] += 1
        if status == 200:
            self._latencies.append(now_s - connection.began_s)
            tally.requests += 1
            tally.accepted += accepted
            tally.rejected += rejected
            tally.bytes += len(connection.outstanding.data) if connection.outstanding else 0
        connection.outstanding = None

    def _send(self, connection: Connection, now_s: float) -> None:
        due_s = self._schedule.advance(now_s)
        try:
            if not connection.send(next(self._requests), due_s):
                self._epoll.modify(connection.number, select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._reconnect(connection)

    def _reconnect(self, connection: Connection) -> None:
        """Counts a failed connection; whether its request was stored is not known."""
        self._tally.connection_errors += 1
        if self._tally.connection_errors > RECONNECT_ERRORS_MAX:
            raise ConnectionAbortedError(f"{RECONNECT_ERRORS_MAX} connections failed: is the server there?")
        if connection.outstanding is not None:
            self._tally.unknown_events += connection.outstanding.events
        del self._connections[connection.number]
        connection.close()
        connection.open()
        self._connections[connection.number] = connection
        self._epoll.register(connection.number, select.EPOLLIN)
        self._idle.append(connection)

    def _read_command(self, number: int) -> None:
        data = os.read(number, 4096)
        if not data:
            self._epoll.unregister(number)
        lines = (self._commands + data).split(b"\n")
        self._commands = lines.pop()
        for line in lines:
            self._schedule.set_rate(float(line), time.monotonic())

    def _report(self, state: str) -> None:
        now_s = time.monotonic()
        self._latencies.fold()
        tally = self._tally
        report = Report(
            state=state,
            seconds=now_s - self._began_s,
            requests=tally.requests,
            accepted=tally.accepted,
            rejected=tally.rejected,
            unknown_events=tally.unknown_events,
            connection_errors=tally.connection_errors,
            statuses=dict(tally.statuses),
        )
        if state in {"measured", "done"}:
            self._measure(report, now_s)
        sys.stdout.buffer.write(json.encode(report) + b"\n")
        sys.stdout.buffer.flush()

    def _measure(self, report: Report, now_s: float) -> None:
        report.window_seconds = now_s - self._window_s
        report.window_requests = self._tally.requests - self._before.requests
        report.window_accepted = self._tally.accepted - self._before.accepted
        report.window_bytes = self._tally.bytes - self._before.bytes
        report.unsent = self._schedule.overdue(now_s)
        report.paced_s = self._schedule.paced_s
        report.cpu_s = time.process_time() - self._window_cpu_s
        report.latency = self._latencies.summary()


def main() -> None:
    """Reads the plan and carries it out."""
    # Unbuffered, so that what follows the plan is left for the driver's epoll.
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as lines:
        plan = json.decode(lines.readline(), type=Plan)
    Driver(plan).run()


if __name__ == "__main__":
    main()
