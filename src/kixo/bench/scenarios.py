"""The scenarios of `kixo bench`. Each starts a server of its own, drives it, and checks what it holds afterwards."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

from msgspec.structs import replace

from kixo.bench import floor, subject
from kixo.bench.checking import Sent, check_log, check_table
from kixo.bench.decoding import decode_cpu_us
from kixo.bench.disk import fdatasync_ms
from kixo.bench.latency import Latency
from kixo.bench.options import Finding, Options, projects
from kixo.bench.probe import Sightings, probing
from kixo.bench.processes import Memory, cpu_s, proportional_bytes, resident_peak_bytes, watch_memory
from kixo.bench.steering import Steering
from kixo.bench.subject import Subject
from kixo.bench.traffic import Credential
from kixo.bench.trial import Advance, Trial, describe, drive, spent
from kixo.layout import Layout

IDLE_S = 3.0
STEER_WARM_UP_S = 15.0
CALIBRATION_S = 10.0
LATENCY_WARM_UP_S = 3.0
LAG_GROWTH_S_MAX = 1.0
BATCH_SECONDS = 10.0
SUSTAINED_SECONDS = 60.0
LATENCY_SECONDS = 30.0


def batches(options: Options, advance: Advance) -> Finding:
    """Batches of 1,000 with the loader off, against the floor."""
    return _against_floor("batches", 1000, options, advance, loader=bool(options.loader))


def singles(options: Options, advance: Advance) -> Finding:
    """Batches of 1 on 128 connections, against the floor. The loader runs, as it does for users."""
    return _against_floor("singles", 1, options, advance, loader=options.loader is not False)


def sustained(options: Options, advance: Advance) -> Finding:
    """As much as can be accepted and loaded without the lag growing; CPU per event; memory, idle and loaded."""
    finding, sent = Finding("sustained"), Sent()
    shape = options.shape(1000)
    decodes = [decode_cpu_us(shape, options.seed)]
    with _server(options, shape.batch, loader=True) as (server, credentials):
        finding.figures["memory_idle_bytes"] = _idle_memory(server)
        before = cpu_s(server.processes())
        plan = options.plan(server.url, credentials, shape, options.seconds or SUSTAINED_SECONDS)
        plan = replace(plan, warm_up_s=options.warm_up_s or STEER_WARM_UP_S, rate=_first_rate(options, shape.batch))
        steering = Steering(shape.batch, server.settled, fixed_rate=options.rate)
        with watch_memory(server.pid) as memory:
            trial = drive(plan, server.processes, advance, steering)
            sent.add(trial)
            finding.figures["drain_s"] = server.drain(sent.accepted) or float("inf")
        decodes.append(decode_cpu_us(shape, options.seed))
        describe(trial, finding)
        _tell_steering(steering, finding)
        _tell_cpu(spent(before, cpu_s(server.processes())), sent, fmean(decodes), finding)
        _tell_memory(server, memory, finding)
        check_table(server, sent, finding)
    return finding


def latency(options: Options, advance: Advance) -> Finding:
    """Batches of 100 at half of what the server can sustain: time to the answer, and from there to a query."""
    finding, sent = Finding("latency"), Sent()
    batch = options.shape(100).batch
    with _server(options, batch, loader=True) as (server, credentials), watch_memory(server.pid) as memory:
        rate = options.rate or _half_load(options, server, credentials, sent, advance)
        plan = options.plan(server.url, credentials[1:], options.shape(100), options.seconds or LATENCY_SECONDS)
        plan = replace(plan, warm_up_s=options.warm_up_s or LATENCY_WARM_UP_S, rate=rate / batch, seed=options.seed + 1)
        lags_s: list[float] = []
        with probing(server.url, Layout(server.folder).lake, credentials[0]) as sightings:
            trial = drive(plan, server.processes, advance, lambda _report, _drive: lags_s.append(server.lag_s()))
        sent.add(trial)
        sent.accepted += sightings.accepted
        describe(trial, finding)
        finding.figures |= {"load_events_per_s": rate, "load_lag_mean_s": fmean(lags_s), "load_lag_max_s": max(lags_s)}
        _tell_sightings(sightings, finding)
        check_table(server, sent, finding)
        _tell_memory(server, memory, finding)
    return finding


@contextmanager
def _server(options: Options, batch: int, *, loader: bool) -> Iterator[tuple[Subject, list[Credential]]]:
    with tempfile.TemporaryDirectory(prefix="kixo-bench-", dir=options.folder) as name:
        folder = Path(name) / "data"
        # One project more than the driver needs: the first is the probe's.
        credentials = subject.prepare(folder, projects(batch) + 1)
        with subject.running(folder, options.workers, loader=loader) as server:
            yield server, credentials


def _against_floor(name: str, batch: int, options: Options, advance: Advance, *, loader: bool) -> Finding:
    """Drives floor and server in turn, so that whatever else the machine does meets both; the median round counts."""
    finding, sent = Finding(name), Sent()
    shape = options.shape(batch)
    seconds = (options.seconds or BATCH_SECONDS) / options.rounds
    rounds: list[tuple[Trial, Trial]] = []
    finding.figures["disk_fdatasync_300kb_ms"] = fdatasync_ms(options.folder)
    with (
        _server(options, shape.batch, loader=loader) as (server, credentials),
        floor.running(server.workers) as (floor_url, floor_pids),
    ):
        floor_processes = dict.fromkeys(floor_pids, "worker")
        for number in range(options.rounds):
            plan = replace(options.plan(floor_url, credentials, shape, seconds), seed=options.seed + number)
            below = drive(plan, lambda: floor_processes, advance)
            rounds.append((below, drive(replace(plan, url=server.url), server.processes, advance)))
            sent.add(rounds[-1][1])
            if loader:
                # What is left to load must not slow the floor down.
                server.drain(sent.accepted)
        _tell_rounds(rounds, finding)
        (check_table if loader else check_log)(server, sent, finding)
    return finding


def _ratio(pair: tuple[Trial, Trial]) -> float:
    below, above = pair
    return above.requests_per_s / below.requests_per_s if below.requests_per_s else 0.0


def _tell_rounds(rounds: list[tuple[Trial, Trial]], finding: Finding) -> None:
    ordered = sorted(rounds, key=_ratio)
    below, above = ordered[len(ordered) // 2]
    describe(above, finding)
    finding.figures |= {
        "floor_requests_per_s": below.requests_per_s,
        "floor_events_per_s": below.events_per_s,
        "floor_cpu_us_per_event": below.cpu_us("worker"),
        "ratio_to_floor": _ratio((below, above)),
        "ratio_to_floor_least": _ratio(ordered[0]),
        "ratio_to_floor_most": _ratio(ordered[-1]),
    }
    if above.cpu_us("worker"):
        finding.figures["cpu_ratio_to_floor"] = below.cpu_us("worker") / above.cpu_us("worker")


def _first_rate(options: Options, batch: int) -> float:
    return (options.rate or 200_000.0) / batch


def _idle_memory(server: Subject) -> int:
    time.sleep(IDLE_S)
    return proportional_bytes(server.processes())


def _half_load(options: Options, server: Subject, credentials: list[Credential], sent: Sent, advance: Advance) -> float:
    """Half of the events per second that can be sustained with batches of this size, found by driving."""
    shape = options.shape(100)
    plan = options.plan(server.url, credentials[1:], shape, CALIBRATION_S)
    plan = replace(plan, warm_up_s=options.warm_up_s or STEER_WARM_UP_S, rate=_first_rate(options, shape.batch))
    steering = Steering(shape.batch, server.settled)
    sent.add(drive(plan, server.processes, advance, steering))
    server.drain(sent.accepted)
    return steering.sustained() / 2


def _tell_steering(steering: Steering, finding: Finding) -> None:
    growth_s = steering.lag_growth_s()
    finding.figures |= {
        "sustained_events_per_s": steering.sustained(),
        "load_lag_mean_s": fmean(steering.lags_s),
        "load_lag_max_s": max(steering.lags_s),
        "load_lag_growth_s": growth_s,
    }
    if growth_s > LAG_GROWTH_S_MAX:
        finding.notes.append(f"The load lag grew by {growth_s:.1f} s: this rate cannot be sustained.")


def _tell_cpu(spent_s: dict[str, float], sent: Sent, decode_us: float, finding: Finding) -> None:
    """CPU from the first request to the last commit, over all events; the idle time of the drain is in it."""
    per_event = {role: seconds / max(1, sent.accepted) * 1e6 for role, seconds in spent_s.items()}
    total = sum(per_event.values())
    finding.figures |= {
        "ingest_cpu_us_per_event": per_event.get("worker", 0.0),
        "loader_cpu_us_per_event": per_event.get("loader", 0.0),
        "total_cpu_us_per_event": total,
        "decode_cpu_us_per_event": decode_us,
        "cpu_ratio_to_decode": total / decode_us,
    }


def _tell_memory(server: Subject, memory: Memory, finding: Finding) -> None:
    finding.figures["memory_peak_bytes"] = memory.peak_bytes
    for role, peak in resident_peak_bytes(server.processes()).items():
        finding.figures[f"memory_peak_{role}_bytes"] = peak


def _tell_sightings(sightings: Sightings, finding: Finding) -> None:
    seen: Latency = sightings.latency
    finding.figures |= {
        "visible_p50_s": seen.p50_ms / 1e3,
        "visible_p99_s": seen.p99_ms / 1e3,
        "visible_max_s": seen.max_ms / 1e3,
        "probes": seen.count,
    }
    finding.checks["every probe became visible"] = not sightings.answered_s
    if sightings.refused:
        finding.notes.append(f"{sightings.refused} probes were refused.")


def length_s(scenario: str, options: Options) -> float:
    """How long the driving of a scenario takes, for a progress bar."""
    steer_s = options.warm_up_s or STEER_WARM_UP_S
    calibrate_s = 0.0 if options.rate else steer_s + CALIBRATION_S
    settle_s = options.warm_up_s or LATENCY_WARM_UP_S
    lengths = {
        "sustained": steer_s + (options.seconds or SUSTAINED_SECONDS),
        "latency": calibrate_s + settle_s + (options.seconds or LATENCY_SECONDS),
    }
    return lengths.get(scenario, 2 * ((options.seconds or BATCH_SECONDS) + options.rounds * 1.0))


SCENARIOS: dict[str, Callable[[Options, Advance], Finding]] = {
    "batches": batches,
    "singles": singles,
    "sustained": sustained,
    "latency": latency,
}
