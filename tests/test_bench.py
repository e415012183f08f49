"""`kixo bench`: traffic that is valid and never repeats, a driver that counts exactly, and figures that are right."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st

from kixo.bench import floor
from kixo.bench.connection import UnreadableAnswer, parse_answer
from kixo.bench.decoding import decode_cpu_us
from kixo.bench.driver import Plan, Report
from kixo.bench.driving import Drive
from kixo.bench.elsewhere import elsewhere
from kixo.bench.latency import Latencies
from kixo.bench.options import Finding, Identity, Options, projects
from kixo.bench.probe import MARKER, Sightings, added_files, marker_body, markers
from kixo.bench.processes import SUPERVISOR, cpu_s, family, proportional_bytes, resident_peak_bytes, watch_memory
from kixo.bench.report import TABLE, amount, comparison, print_comparison, print_finding
from kixo.bench.scenarios import SCENARIOS, length_s
from kixo.bench.schedule import Schedule
from kixo.bench.steering import LAG_S, Steering, steer
from kixo.bench.traffic import Credential, Ring, Shape, ring_size
from kixo.bench.trial import Trial, describe, drive
from kixo.errors import StartFailed
from kixo.event import EVENT_TYPES, BatchRequest
from kixo.timestamp import parse_us

NOON_US = 1_775_649_600_000_000
CREDENTIALS = [Credential(f"kx_proj_{number:04}", f"kx_key_{number:04}") for number in range(7)]
decode = msgspec.json.Decoder(BatchRequest).decode


def body(data: memoryview) -> bytes:
    head, _, content = bytes(data).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(content)}".encode() in head
    return content


def make_ring(shape: Shape, clock: Iterator[int] | None = None, seed: int = 1) -> Ring:
    return Ring(shape, CREDENTIALS, "localhost", seed, lambda: NOON_US if clock is None else next(clock))


@pytest.mark.parametrize("batch", [1, 3, 100, 1000])
@pytest.mark.parametrize("identity", ["event_id", "fingerprint"])
def test_ids_never_repeat_and_every_body_is_valid(batch: int, identity: Identity) -> None:
    ring = make_ring(Shape(batch, identity))
    seen: set[str] = set()
    events = 0
    for request in islice(ring.requests(), max(40_000 // batch, 3 * ring_size(batch, 7))):
        found = decode(body(request.data))
        assert len(found.batch) == request.events == batch
        for event in found.batch:
            properties = json.loads(bytes(event.properties))
            seen.add(event.event_id or properties["message_id"])
        events += batch
    assert len(seen) == events


def test_ids_do_not_repeat_when_the_clock_stands_still_or_goes_back() -> None:
    ticks = iter(NOON_US - (tick // 50) * 1_000_000 for tick in range(10**9))
    requests = islice(make_ring(Shape(500), ticks).requests(), 600)
    ids = [event.event_id for request in requests for event in decode(body(request.data)).batch]
    assert len(set(ids)) == len(ids)


def test_ids_look_like_uuid_7() -> None:
    request = next(make_ring(Shape(10)).requests())
    for event in decode(body(request.data)).batch:
        assert event.event_id is not None
        assert [len(part) for part in event.event_id.split("-")] == [8, 4, 4, 4, 12]
        assert int(event.event_id.replace("-", "")[:12], 16) == NOON_US // 1000
        assert event.event_id[14] == "7"
        assert event.event_id[19] == "9"


def test_the_same_seed_gives_the_same_traffic() -> None:
    first, second = (islice(make_ring(Shape(20)).requests(), 50) for _ in range(2))
    assert [bytes(request.data) for request in first] == [bytes(request.data) for request in second]


def test_events_lie_shortly_before_they_are_sent_and_follow_the_clock() -> None:
    ticks = iter(range(NOON_US, 10 * NOON_US, 700_000))
    for request in islice(make_ring(Shape(400), ticks).requests(), 100):
        found = json.loads(body(request.data))
        sent_us = parse_us(found["sent_at"])
        stamps_us = [parse_us(event["timestamp"]) for event in found["batch"]]
        assert stamps_us == sorted(stamps_us)
        assert sent_us - stamps_us[-1] >= 0
        assert sent_us - stamps_us[0] < 22_000_000


def test_traffic_has_every_type_many_sessions_and_is_about_300_bytes_an_event() -> None:
    requests = list(islice(make_ring(Shape(1000)).requests(), 14))
    events = [event for request in requests for event in decode(body(request.data)).batch]
    types = Counter(event.event_type for event in events)
    assert set(types) == set(EVENT_TYPES)
    assert types["screen_view"] > 20 * types["rage_click"]
    assert len({event.session_id for event in events}) == 14 * 40
    assert len({event.device_id for event in events}) == 14 * 20
    assert 280 < sum(len(request.data) for request in requests) / len(events) < 340


def test_every_project_gets_equally_many_requests() -> None:
    ring = make_ring(Shape(5))
    requests = islice(ring.requests(), ring_size(5, 7))
    sent = Counter(decode(body(request.data)).project_id for request in requests)
    assert len(sent) == 7
    assert len(set(sent.values())) == 1


def test_an_empty_batch_can_be_sent() -> None:
    assert decode(body(next(make_ring(Shape(0)).requests()).data)).batch == []


ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\ncontent-length: 30\r\n\r\n{"status":"ok","accepted":123}'
)


def test_an_answer_is_read_only_when_it_is_there_in_full() -> None:
    assert parse_answer(ANSWER) == (200, 123, 0)
    assert all(parse_answer(ANSWER[:cut]) is None for cut in range(len(ANSWER)))


@given(st.integers(0, 1000), st.integers(0, 1000), st.booleans())
def test_counts_are_read_however_the_answer_is_written(accepted: int, rejected: int, spaces: bool) -> None:
    content = json.dumps(
        {"status": "ok", "accepted": accepted, "rejected": rejected},
        separators=None if spaces else (",", ":"),
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    assert parse_answer(head + content) == (200, accepted, rejected)


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(UnreadableAnswer):
        parse_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=300))
def test_percentiles_are_at_most_one_percent_too_high(values: list[float]) -> None:
    latencies = Latencies()
    for value in values:
        latencies.append(value)
    summary = latencies.summary()
    for share, found_ms in ((50, summary.p50_ms), (99, summary.p99_ms), (99.9, summary.p999_ms)):
        true_ms = float(np.percentile(values, share, method="inverted_cdf")) * 1e3
        assert true_ms * 0.999 <= found_ms <= true_ms * 1.011
    assert summary.count == len(values)


def test_no_latencies_are_all_zero() -> None:
    assert Latencies().summary().p99_ms == 0


@given(st.integers(1, 5), st.integers(1, 10), st.sampled_from([None, 3.0, 20.0, 500.0]))
def test_no_project_is_sent_more_than_its_limit_in_any_second(projects: int, limit: int, rate: float | None) -> None:
    schedule = Schedule(rate, projects, limit, 0.0)
    recent: list[deque[float]] = [deque(maxlen=limit) for _ in range(projects)]
    now_s = 0.0
    for number in range(projects * limit * 4):
        now_s = max(now_s + 0.001, schedule.due_s)
        schedule.advance(now_s)
        schedule.set_rate(rate, now_s)
        sent = recent[number % projects]
        assert len(sent) < limit or now_s - sent[0] > 1.0
        sent.append(now_s)


def test_a_closed_loop_counts_from_when_a_request_is_sent() -> None:
    schedule = Schedule(None, 3, 100, 0.0)
    assert [schedule.advance(now_s) for now_s in (1.0, 2.0, 5.0, 9.0)] == [1.0, 2.0, 5.0, 9.0]


def test_an_open_loop_counts_what_was_due_and_not_sent() -> None:
    schedule = Schedule(10.0, 1, 100, 0.0)
    assert [schedule.advance(5.0) for _ in range(3)] == pytest.approx([0.0, 0.1, 0.2])
    assert schedule.overdue(5.0) == 47


class FakeDrive(Drive):
    """Takes rates and does nothing."""

    def __init__(self) -> None:
        self.rate = 0.0

    def set_rate(self, requests_per_s: float) -> None:
        self.rate = requests_per_s


def steered(capacity: float, ingest: float) -> tuple[Steering, float]:
    """Steers a pretended server for 60 s that loads `capacity` and accepts `ingest` events a second at most."""
    accepted = settled = 0.0
    loadable = deque([0.0, 0.0], maxlen=2)
    steering = Steering(1000, lambda: int(settled))
    drive = FakeDrive()
    drive.rate = 100.0
    for step in range(240):
        settled = min(loadable[0], settled + capacity / 4)
        loadable.append(accepted)
        accepted += min(drive.rate * 1000, ingest) / 4
        state = "measuring" if step == 60 else "running"
        steering(Report(state, step / 4, accepted=int(accepted)), drive)
    return steering, drive.rate * 1000


@pytest.mark.parametrize(("capacity", "ingest"), [(400_000, 1_000_000), (900_000, 300_000), (60_000, 90_000)])
def test_steering_finds_what_loading_and_accepting_can_sustain(capacity: float, ingest: float) -> None:
    steering, _ = steered(capacity, ingest)
    assert steering.sustained() == pytest.approx(min(capacity, ingest), rel=0.1)
    assert abs(steering.lag_growth_s()) < 0.5


def test_steering_goes_faster_below_the_lag_it_aims_at_and_slower_above() -> None:
    assert steer(0) > 1 == steer(LAG_S) > steer(5)


def test_the_family_of_a_process_is_it_and_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = family(os.getpid())
        assert found[os.getpid()] == SUPERVISOR
        assert child.pid in found
        assert resident_peak_bytes(found)[SUPERVISOR] > 1_000_000
        assert proportional_bytes(found) > 1_000_000
        assert cpu_s(found)[SUPERVISOR] > 0
        assert child.stdin is not None
        child.stdin.close()
    assert child.pid not in family(os.getpid())


def test_the_memory_watch_keeps_the_largest_sample() -> None:
    enough = threading.Event()
    values = iter([5, 9, 3])

    def sample(_pids: dict[int, str]) -> int:
        value = next(values, None)
        if value is None:
            enough.set()
        return value or 0

    with watch_memory(os.getpid(), sample) as memory:
        assert enough.wait(10)
    assert memory.peak_bytes == 9


def test_the_typed_decode_costs_something() -> None:
    assert 0.05 < decode_cpu_us(Shape(100), 1, seconds=0.02) < 50


def run(url: str, shape: Shape, connections: int = 4, seconds: float = 0.5, rate: float | None = None) -> Report:
    plan = Plan(url, CREDENTIALS, shape, connections, seconds, warm_up_s=0.2, rate=rate, limit_per_project=100_000)
    return drive(plan, dict, lambda _: None).done


def test_the_driver_and_the_floor_agree() -> None:
    with floor.running(2) as (url, pids):
        assert len(pids) == 2
        many = run(url, Shape(1000))
        few = run(url, Shape(2), rate=200.0)
    for report, batch in ((many, 1000), (few, 2)):
        assert report.statuses == {200: report.requests}
        assert report.accepted == batch * report.requests > 0
        assert report.unknown_events == report.connection_errors == 0
        assert report.latency is not None
        assert 0 < report.latency.p50_ms <= report.latency.p99_ms <= report.latency.max_ms
    assert few.window_requests == pytest.approx(200 * 0.5, rel=0.2)


@contextmanager
def canned(*answers: bytes) -> Iterator[str]:
    """A server that gives each request the next of the answers, for ever; an empty one hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            number = 0
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while connection.recv(100_000):
                        answer = answers[number % len(answers)]
                        number += 1
                        if not answer:
                            break
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_refusals_are_counted_by_status_and_are_no_throughput() -> None:
    with canned(ANSWER, b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}") as url:
        report = run(url, Shape(1), connections=1, rate=100.0)
    assert report.statuses.keys() == {200, 503}
    assert report.requests == report.statuses[200]
    assert report.accepted == 123 * report.requests


def test_a_lost_connection_is_opened_again_and_its_events_are_unknown() -> None:
    with canned(ANSWER, b"") as url:
        report = run(url, Shape(3), connections=1, rate=50.0)
    assert report.connection_errors > 0
    assert report.unknown_events == 3 * report.connection_errors
    assert report.requests > 0


def test_a_driver_that_finds_no_server_says_so() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        with pytest.raises(StartFailed):
            run(f"http://127.0.0.1:{place.getsockname()[1]}", Shape(1))


def test_elsewhere_is_paced_to_the_rate_limit_of_one_project_and_says_so() -> None:
    with floor.running(1) as (url, _):
        finding = elsewhere(url, CREDENTIALS[0], Options(seconds=1.0, batch=10), lambda _: None)
    assert finding.figures["requests_per_s"] <= 100
    assert "One project may send 100 requests a second" in finding.notes[0]


def test_a_probe_finds_its_markers_in_a_commit_and_leaves_merges_alone(tmp_path: Path) -> None:
    names = ["Home", f"{MARKER}3", f"{MARKER}12", "Cart"]
    write_deltalake(
        tmp_path / "events", pa.table({"event_name": names, "date": ["a b", "a b", "c", "c"]}), partition_by=["date"]
    )
    log = tmp_path / "events" / "_delta_log"
    files = added_files(log / f"{0:020}.json")
    assert len(files) == 2
    assert set().union(*map(markers, files)) == {3, 12}
    merge = log / f"{1:020}.json"
    merge.write_text(json.dumps({"add": {"path": "x.parquet", "dataChange": False}}))
    assert added_files(merge) == []


def test_a_marker_is_a_valid_batch() -> None:
    assert decode(marker_body(CREDENTIALS[0], 5)).batch[0].event_name == f"{MARKER}5"


def test_a_marker_seen_before_its_answer_has_no_delay() -> None:
    sightings = Sightings()
    sightings.seen(1, 10.0)
    sightings.answered(1, 10.5)
    sightings.answered(2, 11.0)
    sightings.seen(2, 11.5)
    assert sightings.latency.count == 2
    assert sightings.latency.max_ms == pytest.approx(500)
    assert not sightings.answered_s


def test_the_comparison_says_what_is_met() -> None:
    finding = Finding("latency", {"ack_p99_ms": 31.0, "visible_p99_s": 1.5})
    rows = {str(row["figure"]): row for row in comparison([finding])}
    assert rows["ack_p99_ms"]["met"] is False
    assert rows["visible_p99_s"]["met"] is True


def test_every_row_of_the_table_belongs_to_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    findings = {due.scenario: Finding(due.scenario) for due in TABLE}
    for due in TABLE:
        findings[due.scenario].figures[due.figure] = due.due
    assert findings.keys() <= SCENARIOS.keys()
    print_comparison(list(findings.values()))
    assert capsys.readouterr().out.count("yes") == len(TABLE)


def test_figures_are_printed_with_their_units(capsys: pytest.CaptureFixture[str]) -> None:
    finding = Finding("x", {"ack_p99_ms": 1.234, "memory_peak_bytes": 2.5e8}, {"all is well": False}, ["hm"])
    print_finding(finding)
    printed = " ".join(capsys.readouterr().out.split())
    assert "ack p99 1.23 ms" in printed
    assert "memory peak 250 MB" in printed
    assert "NO all is well" in printed
    assert amount(1_234_567) == "1,234,567"


def test_what_went_wrong_is_noted() -> None:
    report = Report(
        statuses={200: 5, 429: 2}, connection_errors=1, unknown_events=3, unsent=4, paced_s=1.0, window_seconds=1.0
    )
    finding = Finding("x")
    describe(Trial(report, report), finding)
    assert len(finding.notes) == 4


def test_there_are_enough_projects_for_full_speed() -> None:
    cores = os.cpu_count() or 1
    assert projects(1) * 87 >= 29_000 * cores
    assert projects(1000) * 87 >= 1_200 * cores


@pytest.mark.parametrize("scenario", ["batches", "singles"])
def test_a_server_without_a_loader_holds_what_it_accepted(scenario: str, tmp_path: Path) -> None:
    options = Options(seconds=0.5, rounds=1, loader=False, folder=tmp_path)
    seconds: list[float] = []
    finding = SCENARIOS[scenario](options, seconds.append)
    assert not finding.failed
    assert finding.figures["logged_events"] == finding.figures["accepted_events"] > 0
    assert 0 < finding.figures["ratio_to_floor"] < 2
    assert sum(seconds) == pytest.approx(length_s(scenario, options), rel=0.5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scenario", ["sustained", "latency"])
def test_a_server_with_a_loader_has_every_accepted_event_in_its_table(scenario: str, tmp_path: Path) -> None:
    options = Options(seconds=1.5, warm_up_s=1.0, rate=20_000, folder=tmp_path)
    finding = SCENARIOS[scenario](options, lambda _: None)
    assert not finding.failed
    assert finding.figures["table_rows"] == finding.figures["accepted_events"] > 0
    assert finding.figures["memory_peak_loader_bytes"] > 0
    wanted = {due.figure for due in TABLE if due.scenario == scenario}
    assert wanted <= finding.figures.keys()
