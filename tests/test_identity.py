from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import json

from kixo.identity import (
    Described,
    event_id_digest,
    event_id_digests,
    fingerprint_digest,
    fingerprint_digests,
    identity,
    repeat_digest,
    scope,
)
from kixo.loader.pieces import cut_pieces
from kixo.loader.requests import PlacedFrame
from kixo.log import Frame
from kixo.stored import AS_SENT, JUDGED, JudgedBatch, JudgedEvent, encode_judged

HOME: Described = (
    "com.example.app",
    "ios",
    "d_001",
    "s_001",
    "screen_view",
    "HomeScreen",
    "2026-04-08T12:00:00Z",
    b'{"referrer":"https://google.com"}',
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
described = st.tuples(texts, texts, texts, texts, texts, texts, texts, texts.map(str.encode))
members = st.fixed_dictionaries(
    {"event_type": texts, "event_name": texts, "device_id": texts, "session_id": texts, "timestamp": texts},
    optional={"event_id": st.none() | texts, "properties": st.none() | st.dictionaries(texts, texts, max_size=2)},
)


def test_identities_are_what_they_always_were() -> None:
    # Never change these: the tables hold such values, and with other ones every event would come in once more.
    assert scope("kx_proj_abc123", "production").hex() == "2aad9a10"
    assert event_id_digest("a").hex() == "fdd9b77fdcaf3221d2f6d0996f37a720"
    assert event_id_digest("018f2b1e-7c1a-7d3e-9b57-0c5f2f6a1d10").hex() == "e9dd0ba959532bf96a4d5977bf8178e0"
    assert fingerprint_digest(HOME).hex() == "a481bdf0b3948647bb365898ab7e9fbd"
    assert repeat_digest(fingerprint_digest(HOME), 1).hex() == "5230de613edbe42d74c05263075760b7"
    assert repeat_digest(fingerprint_digest(HOME), 2).hex() == "ea0cef8ec0f195335de3b9b83788574f"
    assert identity(scope("kx_proj_abc123", "production"), event_id_digest("a")).hex() == (
        "2aad9a10dcaf3221d2f6d0996f37a720"
    )


def test_projects_and_environments_do_not_share_identities() -> None:
    owners = [("a", "production"), ("a", "staging"), ("b", "production"), ("ap", "roduction")]
    assert len({scope(*owner) for owner in owners}) == len(owners)


@given(described, described)
def test_events_that_differ_anywhere_have_other_fingerprints(one: Described, other: Described) -> None:
    assert (fingerprint_digest(one) == fingerprint_digest(other)) == (one == other)


@given(described, st.integers(0, 6))
def test_moving_a_character_to_the_next_member_makes_another_event(event: Described, place: int) -> None:
    moved: list[Any] = [*event[:7], event[7].decode()]
    moved[place], moved[place + 1] = moved[place] + "x", moved[place + 1]
    other = [*moved]
    other[place], other[place + 1] = other[place][:-1], "x" + other[place + 1]
    both = [fingerprint_digest((*each[:7], each[7].encode())) for each in (moved, other)]
    assert both[0] != both[1]


def test_the_three_kinds_of_identity_do_not_meet() -> None:
    plain = fingerprint_digest(HOME)
    assert len({plain, repeat_digest(plain, 1), repeat_digest(plain, 2), event_id_digest("")}) == 4


@given(st.lists(texts), st.lists(described))
def test_many_at_once_are_as_one_by_one(event_ids: list[str], events: list[Described]) -> None:
    assert event_id_digests(event_ids) == b"".join(map(event_id_digest, event_ids))
    assert fingerprint_digests(events) == b"".join(map(fingerprint_digest, events))


def identities(*frames: Frame) -> list[str]:
    pieces = cut_pieces([PlacedFrame(0, frame) for frame in frames], lambda _: None)
    return [row.tobytes().hex() for piece in pieces for row in piece.identities]


def as_sent(events: list[dict[str, Any]], sent_at: str | None = None, received_at_us: int = 0) -> Frame:
    batch = {"project_id": "p", "bundle_id": "b", "platform": "ios", "sent_at": sent_at, "batch": events}
    return Frame(0, received_at_us, AS_SENT, len(events), 0, json.encode(batch))


def judged(events: list[dict[str, Any]]) -> Frame:
    judged = [
        JudgedEvent(
            number,
            event["event_type"],
            event["event_name"],
            event["device_id"],
            event["session_id"],
            event["timestamp"],
            json.encode(event.get("properties") or {}).decode(),
            event.get("event_id"),
        )
        for number, event in enumerate(events)
    ]
    payload = encode_judged(JudgedBatch("p", "production", "b", "ios", None, judged, []))
    return Frame(0, 0, JUDGED, len(events), 0, payload)


@given(st.lists(members, max_size=8))
def test_a_batch_sent_again_has_the_same_identities(events: list[dict[str, Any]]) -> None:
    again = as_sent(events, "2026-04-08T12:00:00Z", 5)
    assert identities(as_sent(events)) == identities(again) == identities(judged(events))


@given(members, st.integers(2, 5))
def test_equal_events_without_id_in_one_batch_are_several(event: dict[str, Any], times: int) -> None:
    event = {**event, "event_id": None}
    found = identities(as_sent([event] * times))
    assert len(set(found)) == times
    assert identities(as_sent([event])) == found[:1]


@given(members, st.integers(2, 5))
def test_equal_events_with_one_id_in_one_batch_are_one(event: dict[str, Any], times: int) -> None:
    event = {**event, "event_id": "x"}
    assert len(set(identities(as_sent([event] * times)))) == 1


def test_equal_events_in_two_batches_are_one() -> None:
    event = {"event_type": "t", "event_name": "n", "device_id": "d", "session_id": "s", "timestamp": "2026-04-08"}
    assert len(set(identities(as_sent([event]), as_sent([event])))) == 1
