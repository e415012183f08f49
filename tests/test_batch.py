"""What a batch is answered with, and what of it is kept."""

import json
from typing import Any

import httpx
import pytest

from kixo import stored
from kixo.event import ENVIRONMENTS, ERRORS_SHOWN_MAX, PLATFORMS, REJECTION_CODES
from tests.conftest import Project, Server, event

ONE_ACCEPTED = {"status": "ok", "accepted": 1}


def post(client: httpx.Client, body: object) -> httpx.Response:
    return client.post("/v1/batch", json=body)


def test_an_accepted_batch_is_answered_with_exactly_two_members(
    client: httpx.Client, server: Server, project: Project
) -> None:
    answer = post(client, project.batch(event(), event(properties={"a": [1, None]}), sent_at="2026-04-08T12:00:01Z"))
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "accepted": 2})
    assert answer.content == b'{"status":"ok","accepted":2}'
    (frame,) = server.frames(project)
    assert (frame.kind, frame.accepted, frame.rejected) == (stored.AS_SENT, 2, 0)
    kept = stored.decode_sent(frame.payload)
    assert [bytes(found.properties) for found in kept.batch] == [b"{}", b'{"a":[1,null]}']
    assert kept.sent_at == "2026-04-08T12:00:01Z"


def test_an_empty_batch_is_accepted_and_nothing_is_kept(client: httpx.Client, server: Server, project: Project) -> None:
    answer = post(client, project.batch())
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "accepted": 0})
    assert server.frames(project) == []


def test_a_bad_event_costs_no_good_one(client: httpx.Client, server: Server, project: Project) -> None:
    answer = post(client, project.batch(event(event_name="a"), event(timestamp="soon"), event(event_name="b")))
    assert answer.status_code == 200
    assert list(answer.json()) == ["status", "accepted", "rejected", "errors"]
    (error,) = answer.json().pop("errors")
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (2, 1)
    assert list(error) == ["index", "field", "code", "message"]
    assert (error["index"], error["field"], error["code"]) == (1, "timestamp", "invalid_timestamp")
    assert '"soon"' in error["message"]
    (frame,) = server.frames(project)
    kept = stored.decode_judged(frame.payload)
    assert [(found.index, found.event_name) for found in kept.events] == [(0, "a"), (2, "b")]
    assert [(found.index, found.code, found.message) for found in kept.rejected] == [
        (1, "invalid_timestamp", error["message"])
    ]
    assert json.loads(kept.rejected[0].event) == event(timestamp="soon")


def test_where_every_event_is_rejected_the_answer_is_400_and_all_are_kept(
    client: httpx.Client, server: Server, project: Project
) -> None:
    answer = post(client, project.batch(None, event(device_id="")))
    assert answer.status_code == 400
    assert set(answer.json()) == {"status", "code", "message", "accepted", "rejected", "errors"}
    assert {**answer.json(), "errors": [], "message": ""} == {
        "status": "error",
        "code": "no_valid_events",
        "message": "",
        "accepted": 0,
        "rejected": 2,
        "errors": [],
    }
    assert [error["code"] for error in answer.json()["errors"]] == ["invalid_event", "empty"]
    assert [frame.rejected for frame in server.frames(project)] == [2]


def test_only_the_first_hundred_errors_are_told_and_all_are_kept(
    client: httpx.Client, server: Server, project: Project
) -> None:
    answer = post(client, project.batch(*[7] * 250, event())).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 250)
    assert [error["index"] for error in answer["errors"]] == list(range(ERRORS_SHOWN_MAX))
    assert len(server.payloads(project)[0]["rejected"]) == 250


def test_a_thousand_events_are_taken_and_one_more_is_not(
    client: httpx.Client, server: Server, project: Project
) -> None:
    assert post(client, project.batch(*[event()] * 1000)).json() == {"status": "ok", "accepted": 1000}
    for batch in ([event()] * 1001, [7] * 1001):
        refused = post(client, project.batch(*batch))
        assert refused.status_code == 429
        assert {**refused.json(), "message": ""} == {
            "status": "error",
            "code": "too_many_events",
            "message": "",
            "limit": 1000,
            "actual": 1001,
        }
        assert "retry-after" not in refused.headers
    assert [frame.accepted for frame in server.frames(project)] == [1000]


def test_of_members_that_stand_twice_the_last_one_wins(client: httpx.Client, server: Server, project: Project) -> None:
    first, last = event(timestamp="never", event_name="first"), event(event_name="last")
    twice = json.dumps(first)[:-1] + "," + json.dumps(last)[1:]
    body = project.body(platform="amiga")[:-1] + b',"platform":"ios","batch":[' + twice.encode() + b"]}"
    answer = client.post("/v1/batch", content=body)
    assert answer.json() == ONE_ACCEPTED
    assert server.payloads(project)[0]["platform"] == "ios"
    assert server.payloads(project)[0]["events"][0]["event_name"] == "last"


def test_the_last_member_wins_even_where_it_is_the_bad_one(client: httpx.Client, project: Project) -> None:
    twice = json.dumps(event())[:-1] + ',"timestamp":7}'
    answer = client.post("/v1/batch", content=project.body()[:-1] + b',"batch":[' + twice.encode() + b"]}")
    assert answer.json()["errors"][0]["code"] == "invalid_timestamp"


def test_members_that_nobody_knows_are_ignored(client: httpx.Client, project: Project) -> None:
    answer = post(client, project.batch(event(colour="red", nested={"a": [{}]}), sdk={"version": 3}, library=None))
    assert answer.json() == ONE_ACCEPTED


def test_null_means_absent_for_every_optional_member(client: httpx.Client, server: Server, project: Project) -> None:
    answer = post(client, project.batch(event(properties=None, event_id=None), environment=None, sent_at=None))
    assert answer.json() == ONE_ACCEPTED
    (kept,) = server.payloads(project)
    assert (kept["environment"], kept["events"][0]["properties"]) == ("production", "{}")


def test_every_platform_and_environment_is_taken(client: httpx.Client, server: Server, project: Project) -> None:
    pairs = [(platform, environment) for platform in PLATFORMS for environment in ENVIRONMENTS]
    for platform, environment in pairs:
        assert post(client, project.batch(event(), platform=platform, environment=environment)).json() == ONE_ACCEPTED
    kept = [(found["platform"], found["environment"]) for found in server.payloads(project)]
    assert sorted(kept) == sorted(pairs)


@pytest.mark.parametrize(
    "members",
    [
        {"event_type": "x" * 128, "event_name": "x" * 2048, "device_id": "x" * 255, "session_id": "x" * 255},
        {"event_type": "😀" * 128, "event_name": "😀" * 2048, "device_id": "😀" * 255, "session_id": "😀" * 255},
        {"event_type": "anything at all", "event_name": " ", "event_id": "x" * 128},
        {"properties": {"a": "x" * (64 * 1024 - len('{"a":""}'))}},
    ],
)
def test_what_is_exactly_as_long_as_it_may_be_is_taken(
    client: httpx.Client, project: Project, members: dict[str, Any]
) -> None:
    # The second request has a bad event too, and so is judged event by event.
    assert post(client, project.batch(event(**members), bundle_id="x" * 255)).json() == ONE_ACCEPTED
    assert post(client, project.batch(event(**members), 7)).json()["accepted"] == 1


LONG = "x" * 3000
NOT_AN_EVENT: list[object] = [None, 7, "text", [], [{}], True]
NOT_A_TEXT: list[object] = [None, 7, True, [], {}]
NOT_AN_OBJECT: list[object] = ["{}", 7, [], True, [{}]]
NOT_AN_INSTANT: list[object] = [None, 1775649600, 1.5, "", "soon", [], {}]
REQUIRED = ("event_type", "event_name", "device_id", "session_id")
REJECTIONS: list[tuple[object, str | None, str]] = [
    *[(bad, None, "invalid_event") for bad in NOT_AN_EVENT],
    *[({k: v for k, v in event().items() if k != name}, name, "missing") for name in (*REQUIRED, "timestamp")],
    *[(event(**{name: bad}), name, "wrong_type") for name in REQUIRED for bad in NOT_A_TEXT],
    *[(event(**{name: ""}), name, "empty") for name in (*REQUIRED, "event_id")],
    *[(event(**{name: LONG}), name, "too_long") for name in (*REQUIRED, "event_id")],
    *[(event(event_id=bad), "event_id", "wrong_type") for bad in NOT_A_TEXT[1:]],
    *[(event(properties=bad), "properties", "wrong_type") for bad in NOT_AN_OBJECT],
    *[(event(timestamp=bad), "timestamp", "invalid_timestamp") for bad in NOT_AN_INSTANT],
    (event(properties={"a": "x" * (64 * 1024 - len('{"a":""}') + 1)}), "properties", "too_large"),
]
WRONG: dict[str, list[object]] = {
    "project_id": NOT_A_TEXT,
    "api_key": NOT_A_TEXT,
    "bundle_id": [*NOT_A_TEXT, "", "x" * 256],
    "platform": [*NOT_A_TEXT, "", "IOS", "amiga"],
    "environment": [*NOT_A_TEXT[1:], "", "prod"],
    "batch": [None, {}, "[]", 7],
    "sent_at": NOT_AN_INSTANT[1:],
}


def test_every_bad_event_has_its_code_and_field(client: httpx.Client, project: Project) -> None:
    answer = post(client, project.batch(*[bad for bad, _, _ in REJECTIONS]))
    assert answer.status_code == 400
    told = [(error["index"], error.get("field"), error["code"]) for error in answer.json()["errors"]]
    assert told == [(index, field, code) for index, (_, field, code) in enumerate(REJECTIONS)]
    assert {code for _, _, code in told} == set(REJECTION_CODES) - {"too_deep"}
    assert all("field" in error for error in answer.json()["errors"])


def test_a_message_says_the_limit_the_measured_value_and_what_to_do(client: httpx.Client, project: Project) -> None:
    bad = [event(event_name="x" * 2049), event(properties={"a": "x" * 70_000}), event(device_id="")]
    messages = [error["message"] for error in post(client, project.batch(*bad)).json()["errors"]]
    assert messages == [
        "`event_name` has 2049 characters, 2048 are allowed. Shorten it.",
        "`properties` is 70008 bytes of JSON, 65536 are allowed. Send less.",
        "`device_id` is empty. Send 1 to 255 characters.",
    ]


@pytest.mark.parametrize(("field", "bad"), [(field, bad) for field, values in WRONG.items() for bad in values])
def test_a_wrong_envelope_is_answered_with_its_member(
    client: httpx.Client, server: Server, refused_project: Project, field: str, bad: object
) -> None:
    answer = post(client, {**refused_project.batch(event()), field: bad})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_request", field)
    assert set(answer.json()) == {"status", "code", "message", "field"}
    assert f"`{field}`" in answer.json()["message"]
    assert server.frames(refused_project) == []


@pytest.mark.parametrize("field", ["project_id", "api_key", "bundle_id", "platform", "batch"])
def test_a_missing_member_of_the_envelope_is_named(client: httpx.Client, refused_project: Project, field: str) -> None:
    body = refused_project.batch(event())
    del body[field]
    answer = post(client, body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "invalid_request", field)
    assert answer.json()["message"].startswith(f"`{field}` is missing.")


def test_properties_are_kept_letter_by_letter(client: httpx.Client, server: Server, project: Project) -> None:
    """The fingerprint is made of them."""
    odd = b'{ "b" : 1.50 ,\t"a":"\\u00e9\\/" , "b":2 }'
    body = project.body(event(properties="HERE")).replace(b'"HERE"', odd)
    assert client.post("/v1/batch", content=body).json() == ONE_ACCEPTED
    assert client.post("/v1/batch", content=body.replace(b'"batch": [', b'"batch": [7,')).json()["accepted"] == 1
    as_sent, judged = server.frames(project)
    assert bytes(stored.decode_sent(as_sent.payload).batch[0].properties) == odd
    assert stored.decode_judged(judged.payload).events[0].properties.encode() == odd
