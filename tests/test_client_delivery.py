"""The delivery, step by step with a clock that stands: what is sent when, repeated, split, held and given up."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kixo.client import Answer, Options, Rejection, TrackedEvent
from kixo.client.delivery import Delivery
from kixo.client.outbox import Outbox
from kixo.client.report import Report
from kixo.client.sender import Sender
from kixo.client.stamps import Stamps
from kixo.client.store import MemoryStore
from kixo.client.tracked import encode_event
from tests.clienting import Clock, FakeServer, answer, error, in_turn
from tests.test_client_event import tracked


@dataclass
class Bench:
    """A delivery and everything around it, in the hands of a test."""

    server: FakeServer = field(default_factory=FakeServer)
    options: Options = field(default_factory=Options)
    clock: Clock = field(default_factory=Clock)
    chance: float = 0.5
    rejected: list[tuple[str, str]] = field(default_factory=list)
    wakes: int = 0

    def __post_init__(self) -> None:
        self.report = Report(self._note, None, self.clock.monotonic_s)
        self.outbox = Outbox(self.options, self._wake)
        stamps = Stamps(self.clock.now_ns, bytes)
        sender = Sender({"project_id": "p"}, lambda: self.server, stamps, lambda: self.clock.now_ns() / 1e9)
        self.delivery = Delivery(
            MemoryStore(self.outbox), sender, self.report, self.options, self.clock.monotonic_s, lambda: self.chance
        )

    def _note(self, event: TrackedEvent, rejection: Rejection) -> None:
        self.rejected.append((event.event_name, rejection.code))

    def _wake(self) -> None:
        self.wakes += 1

    def track(self, *names: str, **members: Any) -> None:
        for name in names:
            self.outbox.put(encode_event(tracked(event_name=name, event_id=name, **members)))

    def run(self, *, urgent: bool = True, steps_max: int = 10_000) -> float | None:
        """Steps until it wants to wait; returns for how long."""
        for _ in range(steps_max):
            wait_s = self.delivery.step(urgent=urgent)
            if wait_s != 0:
                return wait_s
        pytest.fail("it never rests")

    def run_on(self, seconds_max: float = 10_000) -> None:
        """Steps and moves the clock until nothing is left to do."""
        while (wait_s := self.run()) is not None:
            self.clock.elapsed_s += wait_s
            assert self.clock.elapsed_s < seconds_max


def test_a_few_events_wait_for_others_and_a_full_batch_does_not() -> None:
    bench = Bench(options=Options(flush_interval_s=2, batch_events_max=3))
    bench.track("a")
    assert bench.run(urgent=False) == 2
    bench.clock.elapsed_s = 0.5
    bench.track("b")
    assert bench.run(urgent=False) == 1.5
    bench.track("c", "d")
    assert bench.run(urgent=False) == 1.5
    assert bench.server.names() == ["a", "b", "c"]
    bench.clock.elapsed_s = 2
    assert bench.run(urgent=False) is None
    assert bench.server.names() == ["a", "b", "c", "d"]


def test_a_batch_is_bounded_in_bytes() -> None:
    bench = Bench(options=Options(batch_bytes_max=2000))
    bench.track(*"abcdef", properties={"x": "y" * 700})
    bench.run()
    assert [len(request["batch"]) for request in bench.server.requests] == [2, 2, 2]


def test_an_event_larger_than_a_batch_may_be_goes_alone() -> None:
    bench = Bench(options=Options(batch_bytes_max=2000))
    bench.track("a", "b", properties={"x": "y" * 5000})
    bench.run()
    assert [len(request["batch"]) for request in bench.server.requests] == [1, 1]


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionRefusedError("away"),
        TimeoutError(),
        error(408, "timeout"),
        error(500, "internal"),
        Answer(502, {}, b""),
    ],
    ids=["refused", "silent", "408", "500", "502"],
)
def test_what_may_pass_later_is_sent_again_the_same_but_for_the_time(failure: Answer | Exception) -> None:
    bench = Bench(FakeServer(in_turn(failure, failure)))
    bench.track("a", "b")
    bench.run_on()
    first, *others = bench.server.requests
    assert len(others) == 2
    assert bench.server.names() == ["a", "b"]
    assert [other["batch"] for other in others] == [first["batch"]] * 2
    assert len({request["sent_at"] for request in bench.server.requests}) == 3


def test_waits_grow_up_to_a_bound() -> None:
    bench = Bench(FakeServer(lambda _: error(503, "unavailable")), Options(retry_s_max=4), chance=1.0)
    bench.track("a")
    waits = []
    for _ in range(6):
        wait_s = bench.run()
        assert wait_s is not None
        waits.append(wait_s)
        bench.clock.elapsed_s += wait_s
    assert waits == [0.5, 1, 2, 4, 4, 4]


def test_retry_after_is_obeyed_up_to_a_bound_and_no_flush_cuts_it_short() -> None:
    replies = [error(429, "rate_limited"), error(503, "unavailable")]
    with_header = [
        Answer(reply.status, {"retry-after": value}, reply.body)
        for reply, value in zip(replies, ("7", "9999"), strict=True)
    ]
    bench = Bench(FakeServer(in_turn(*with_header)), Options(retry_after_s_max=100))
    bench.track("a")
    assert bench.run() == 7
    bench.delivery.hurry()
    assert bench.run() == 7
    bench.clock.elapsed_s = 7
    assert bench.run() == 100


def test_a_flush_ends_a_wait_that_nobody_ordered() -> None:
    bench = Bench(FakeServer(in_turn(ConnectionError("away"))))
    bench.track("a")
    assert bench.run() == 0.25
    bench.delivery.hurry()
    assert bench.run() is None
    assert bench.server.names() == ["a"]


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_json"), (415, "unsupported_encoding"), (422, "x")])
def test_a_batch_that_can_never_pass_is_reported_and_not_repeated(status: int, code: str) -> None:
    bench = Bench(FakeServer(in_turn(error(status, code))), Options(batch_events_max=2))
    bench.track("a", "b", "c")
    bench.run()
    assert bench.rejected == [("a", code), ("b", code)]
    assert bench.server.names() == ["c"]


def test_a_batch_of_which_nothing_is_good_tells_the_reason_of_each() -> None:
    reasons = [{"index": 0, "code": "empty", "message": "m"}, {"index": 1, "code": "too_deep", "message": "m"}]
    bench = Bench(FakeServer(in_turn(error(400, "no_valid_events", rejected=2, errors=reasons))))
    bench.track("a", "b")
    bench.run()
    assert bench.rejected == [("a", "empty"), ("b", "too_deep")]


def test_rejections_that_the_answer_does_not_name_are_counted() -> None:
    reasons = [{"index": index, "code": "empty", "message": "m"} for index in range(100)]
    reply = answer(200, {"status": "ok", "accepted": 50, "rejected": 150, "errors": reasons})
    bench = Bench(FakeServer(in_turn(reply)))
    bench.track(*map(str, range(200)))
    bench.run()
    assert len(bench.rejected) == 100
    assert (bench.report.rejected, bench.report.delivered) == (150, 50)


def test_an_index_that_cannot_be_is_passed_over() -> None:
    reasons = [{"index": index, "code": "empty", "message": "m"} for index in (7, -1)]
    bench = Bench(FakeServer(in_turn(answer(200, {"status": "ok", "accepted": 1, "rejected": 1, "errors": reasons}))))
    bench.track("a", "b")
    assert bench.run() is None
    assert bench.rejected == []
    assert bench.report.rejected == 1


@pytest.mark.parametrize("errors", ["all", [1], [{"index": "first"}], None])
def test_errors_in_words_we_do_not_know_do_not_repeat_what_was_taken(errors: object) -> None:
    reply = answer(200, {"status": "ok", "accepted": 1, "rejected": 1, "errors": errors})
    bench = Bench(FakeServer(in_turn(reply)))
    bench.track("a", "b")
    assert bench.run() is None
    assert (bench.report.delivered, bench.report.rejected) == (1, 1)


@pytest.mark.parametrize(("status", "code"), [(401, "unauthorized"), (404, "not_found"), (301, "moved")])
def test_a_refused_key_or_address_stops_the_sending_and_loses_nothing(status: int, code: str) -> None:
    refusal = error(status, code)
    bench = Bench(FakeServer(in_turn(refusal, refusal)), Options(refused_pause_s=300))
    bench.track("a", "b")
    assert bench.run() == 300
    bench.track("c")
    bench.delivery.hurry()
    assert bench.run() == 300, "the batch is not repeated"
    bench.clock.elapsed_s = 300
    assert bench.run() == 300
    assert [len(request["batch"]) for request in bench.server.requests] == [2, 0]
    bench.clock.elapsed_s = 600
    bench.run_on()
    assert [len(request["batch"]) for request in bench.server.requests] == [2, 0, 0, 2, 1]
    assert bench.server.names() == ["a", "b", "c"]
    assert bench.rejected == []


def test_a_single_event_that_is_too_large_is_reported() -> None:
    bench = Bench(FakeServer(in_turn(error(413, "body_too_large"))))
    bench.track("a")
    bench.run()
    bench.track("b")
    bench.run()
    assert bench.rejected == [("a", "body_too_large")]
    assert bench.server.names() == ["b"]


def test_the_servers_limit_is_learned() -> None:
    def script(request: dict[str, Any]) -> Answer | None:
        count = len(request["batch"])
        return error(429, "too_many_events", limit=10, actual=count) if count > 10 else None

    bench = Bench(FakeServer(script))
    bench.track(*map(str, range(35)))
    bench.run()
    bench.track(*map(str, range(35, 60)))
    bench.run()
    assert bench.server.names() == [*map(str, range(60))]
    assert [len(request["batch"]) for request in bench.server.requests] == [35, 10, 10, 10, 5, 10, 10, 5]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.sets(st.integers(0, 59)), st.booleans())
def test_splitting_keeps_every_event_once_and_in_order(count: int, fit: int, huge: set[int], by_size: bool) -> None:
    def script(request: dict[str, Any]) -> Answer | None:
        names = {int(event["event_name"]) for event in request["batch"]}
        if by_size and (names & huge or len(names) > fit):
            return Answer(413, {}, b"")
        return error(429, "too_many_events") if len(names) > fit else None

    bench = Bench(FakeServer(script))
    bench.track(*map(str, range(count)))
    bench.run()
    lost = {str(number) for number in huge if number < count} if by_size else set()
    assert bench.server.names() == [str(number) for number in range(count) if str(number) not in lost]
    assert {name for name, _ in bench.rejected} == lost
    assert bench.delivery.left == count


REPLIES = st.sampled_from(
    [
        None,
        ConnectionError("away"),
        error(429, "rate_limited"),
        error(503, "unavailable"),
        error(413, "body_too_large"),
        error(401, "unauthorized"),
        error(400, "invalid_request"),
    ]
)


@settings(deadline=None)
@given(st.lists(REPLIES, max_size=30), st.integers(1, 40), st.integers(1, 7))
def test_whatever_the_server_answers_every_event_has_one_end(
    replies: list[Answer | Exception | None], count: int, batch: int
) -> None:
    bench = Bench(FakeServer(in_turn(*replies)), Options(batch_events_max=batch))
    bench.track(*map(str, range(count)))
    bench.run_on(seconds_max=100_000)
    ends = bench.server.names() + [name for name, _ in bench.rejected]
    assert sorted(ends) == sorted(map(str, range(count)))
    assert bench.delivery.left == count
    assert bench.report.delivered + bench.report.rejected == count


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 400), max_size=60),
    st.integers(1, 20),
    st.integers(1024, 3000),
    st.sampled_from(["newest", "oldest"]),
)
def test_the_queue_is_never_over_its_bounds_and_every_drop_is_counted(
    sizes: list[int], events_max: int, bytes_max: int, drop: Any
) -> None:
    outbox = Outbox(Options(queue_events_max=events_max, queue_bytes_max=bytes_max, drop=drop), lambda: None)
    events = [b"%d:" % number + bytes(size) for number, size in enumerate(sizes)]
    for event in events:
        outbox.put(event)
        assert len(outbox) <= events_max
        assert outbox.bytes <= bytes_max
    dropped = outbox.dropped
    kept = outbox.take_all()
    assert len(kept) + dropped == len(events)
    if drop == "oldest":
        assert kept == events[len(events) - len(kept) :]
    elif not dropped:
        assert kept == events
    else:
        assert kept == [event for event in events if event in kept], "in order"
        assert not events or kept[0] == events[0]


def test_the_worker_is_woken_when_there_is_something_and_when_a_batch_is_full() -> None:
    bench = Bench(options=Options(batch_events_max=3))
    counts = []
    for name in "abcde":
        bench.track(name)
        counts.append(bench.wakes)
    assert counts == [1, 1, 2, 2, 2]


def test_large_bodies_are_compressed_and_small_ones_are_not() -> None:
    bench = Bench()
    sizes = []
    post = bench.server.post

    def note(body: bytes, headers: Any) -> Answer:
        sizes.append((headers.get("Content-Encoding"), len(body)))
        return post(body, headers)

    bench.server.post = note  # type: ignore[method-assign]
    bench.track("a")
    bench.run()
    bench.track("b", properties={"x": "y" * 5000})
    bench.run()
    assert sizes[0][0] is None
    assert sizes[1][0] == "gzip"
    assert sizes[1][1] < 1000
