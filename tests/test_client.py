"""The client as an app sees it: what it takes, what it never does to its caller, and what becomes of events."""

import sys
import threading
from typing import Any

import pytest

from kixo import Client
from kixo.client import BadOption, Options, Rejection, TrackedEvent
from tests.clienting import WHERE, WHO, FakeServer, answer, connected, error, in_turn


def test_an_event_arrives_as_it_was_tracked() -> None:
    server = FakeServer()
    with connected(server, platform="ios", environment="staging") as client:
        client.track("purchase", {"value": 49.5}, **WHERE)
        assert client.flush()
    (request,) = server.requests
    (event,) = request.pop("batch")
    assert request.pop("sent_at")
    assert request == {
        "project_id": "kx_proj_abc123",
        "api_key": "kx_key_xyz789",
        "bundle_id": "com.example.shop",
        "platform": "ios",
        "environment": "staging",
    }
    assert event.pop("event_id")
    assert event.pop("timestamp")
    assert event == {"event_type": "custom", "event_name": "purchase", "properties": {"value": 49.5}, **WHERE}


def test_screens_and_pages_have_their_own_types() -> None:
    server = FakeServer()
    with connected(server) as client:
        client.screen("Home", **WHERE)
        client.page("/pricing", {"referrer": "a"}, **WHERE)
        client.track("Buy", event_type="tap", **WHERE)
    assert [event["event_type"] for event in server.stored] == ["screen_view", "page_view", "tap"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"project_id": ""}, "`project_id` is empty"),
        ({"project_id": None}, "`project_id` is of type NoneType"),
        ({"project_id": "kx_key_1", "api_key": "kx_proj_1"}, "is an API key"),
        ({"bundle_id": "x" * 256}, "256 characters, 255 are allowed"),
        ({"platform": "windows"}, "ios, android, web"),
        ({"environment": "prod"}, "production, staging, development"),
        ({"host": "api.kixo.io"}, "`host` is 'api.kixo.io'"),
        ({"host": "http://[::1"}, "`host` is"),
        ({"host": "https://me:pass@api.kixo.io"}, "`host` is"),
    ],
)
def test_what_a_client_cannot_be_made_of_is_said_at_once(arguments: dict[str, Any], words: str) -> None:
    good = {"project_id": "kx_proj_1", "api_key": "kx_key_1", "bundle_id": "com.example"}
    with pytest.raises(BadOption, match=words):
        Client(**{**good, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"timeout_s": 0}, "`timeout_s` is 0: expected `float` >= 0.1"),
        ({"timeout_s": float("nan")}, "`timeout_s` is nan: expected `float`"),
        ({"batch_events_max": 1001}, "`batch_events_max` is 1001: expected `int` <= 1000"),
        ({"batch_events_max": True}, "`batch_events_max` is True"),
        ({"drop": "all"}, "`drop` is 'all'"),
    ],
)
def test_an_option_that_cannot_be_is_said_at_once(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        Options(**arguments)


def test_rejected_events_reach_the_app_with_the_reason() -> None:
    told: list[tuple[TrackedEvent, Rejection]] = []
    reasons = [{"index": 1, "field": "timestamp", "code": "invalid_timestamp", "message": "Mend it."}]
    reply = answer(200, {"status": "ok", "accepted": 2, "rejected": 1, "errors": reasons, "new_member": [1]})
    with connected(FakeServer(in_turn(reply)), on_rejected=lambda *what: told.append(what)) as client:
        for name in "abc":
            client.track(name, {"n": name}, **WHERE)
        assert not client.flush(), "not all were accepted"
        assert client.stats.delivered == 2
        assert client.stats.rejected == 1
    ((event, rejection),) = told
    assert (event.event_name, event.properties) == ("b", {"n": "b"})
    assert (rejection.code, rejection.field) == ("invalid_timestamp", "timestamp")


def test_an_event_that_cannot_be_sent_is_reported_at_once_and_not_sent() -> None:
    told: list[str] = []
    server = FakeServer()
    with connected(server, on_rejected=lambda event, rejection: told.append(rejection.code)) as client:
        client.track("x" * 2049, **WHERE)
        client.track("x", {"file": object()}, **WHERE)
        client.track("x", device_id=None, session_id="s")  # type: ignore[arg-type]
        assert told == ["too_long", "wrong_type", "wrong_type"]
    assert server.requests == []


def test_a_callback_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer(in_turn(error(400, "invalid_request")))
    with connected(server, on_rejected=lambda *_: 1 / 0) as client:
        client.track("first", **WHERE)
        assert not client.flush()
        client.track("second", **WHERE)
        assert client.flush()
    assert server.names() == ["second"]
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_that_wants_to_end_the_program_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer(in_turn(error(400, "invalid_request")))
    with connected(server, on_rejected=lambda *_: sys.exit(3)) as client:
        client.track("first", **WHERE)
        assert not client.flush()
        client.track("second", **WHERE)
        assert client.flush()
    assert server.names() == ["second"]
    assert "SystemExit: 3" in caplog.text


class Unspeakable:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_tracking_raises_nothing_whatever_the_values_do(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer()
    with connected(server) as client:
        client.track(Unspeakable(), **WHERE)  # type: ignore[arg-type]
        client.track("n", **WHERE, timestamp=Unspeakable())  # type: ignore[arg-type]
        assert client.stats.rejected == 2
    assert "of type Unspeakable" in caplog.text


def test_many_threads_may_track() -> None:
    server = FakeServer()
    with connected(server, Options(batch_events_max=37)) as client:

        def run(thread: int) -> None:
            for number in range(500):
                client.track(f"{thread}-{number}", **WHERE)

        threads = [threading.Thread(target=run, args=(thread,)) for thread in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(60)
    assert sorted(server.names()) == sorted(f"{thread}-{number}" for thread in range(8) for number in range(500))
    assert len({event["event_id"] for event in server.stored}) == 4000
    assert max(len(request["batch"]) for request in server.requests) <= 37


def test_a_closed_client_drops_and_says_so() -> None:
    dropped: list[int] = []
    server = FakeServer()
    with connected(server, on_dropped=dropped.append) as client:
        client.track("before", **WHERE)
    client.track("after", **WHERE)
    client.close()
    assert server.names() == ["before"]
    assert client.stats.dropped == 1


def test_what_could_not_be_sent_until_the_end_counts_as_dropped() -> None:
    dropped: list[int] = []
    server = FakeServer(lambda _: ConnectionRefusedError("nobody there"))
    with connected(server, Options(exit_s_max=0), on_dropped=dropped.append) as client:
        client.track("lost", **WHERE)
    assert dropped == [1]
    assert (client.stats.queued, client.stats.dropped) == (0, 1)


def test_the_client_is_made_without_a_thread_or_a_connection() -> None:
    before = threading.active_count()
    client = Client(*WHO)
    assert threading.active_count() == before
    client.close()
