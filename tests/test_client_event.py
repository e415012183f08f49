"""What an event becomes when it is tracked: its JSON, its time, its id, and the reason where it cannot be sent."""

import dataclasses
import enum
import os
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct, json

from kixo.client.stamps import Stamps
from kixo.client.tracked import EventRefused, TrackedEvent, decode_event, encode_event, instant_text
from kixo.decode import decode_request, judge_events, open_request
from kixo.event import Event
from tests.conftest import Project

PROJECT = Project("kx_proj_1", "kx_key_1")


def tracked(**members: Any) -> TrackedEvent:
    usual = {
        "event_type": "custom",
        "event_name": "n",
        "device_id": "d",
        "session_id": "s",
        "timestamp": "2026-04-08T12:00:00.000000Z",
        "properties": {},
        "event_id": "018f2b1e-7c1a-7d3e-9b57-0c5f2f6a1d10",
    }
    return TrackedEvent(**{**usual, **members})


def written(properties: Any) -> Any:
    return json.decode(encode_event(tracked(properties=properties)))["properties"]


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (datetime(2026, 4, 8, 12, tzinfo=UTC), "2026-04-08T12:00:00Z"),
        (date(2026, 4, 8), "2026-04-08"),
        (timedelta(seconds=90), "PT90S"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("49.50"), "49.50"),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (b"ab", "YWI="),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (deque([1]), [1]),
        ({"a": 1}.keys(), ["a"]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Point(1), {"x": 1}),
        (Text("t"), "t"),
        (Whole(7), 7),
        (np.float64(1.5), 1.5),
        (np.int64(3), 3),
        (np.array([1, 2]), [1, 2]),
        (PurePosixPath("a/b"), "a/b"),
        (10**30, 10**30),
        ("cut \ud83d here", "cut � here"),
        ("\ud83d\ude00", "😀"),
        ("\0", "\0"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_written_by_the_rules(value: object, form: object) -> None:
    assert written({"value": value}) == {"value": form}


def test_keys_are_text() -> None:
    assert written({1: "a", Color.RED: "b", "\ud800": "c"}) == {"1": "a", "red": "b", "�": "c"}


def test_a_mapping_that_is_no_dict_may_be_the_properties() -> None:
    assert written(MappingProxyType({"a": 1})) == {"a": 1}


def test_properties_are_read_when_the_event_is_tracked() -> None:
    properties = {"items": [1]}
    text = encode_event(tracked(properties=properties))
    properties["items"].append(2)
    assert decode_event(text).properties == {"items": [1]}


class Hostile:
    def __fspath__(self) -> str:
        raise KeyError("mine")


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    ("members", "field", "code"),
    [
        ({"event_name": ""}, "event_name", "empty"),
        ({"event_name": "x" * 2049}, "event_name", "too_long"),
        ({"event_type": "x" * 129}, "event_type", "too_long"),
        ({"device_id": "x" * 256}, "device_id", "too_long"),
        ({"device_id": None}, "device_id", "wrong_type"),
        ({"session_id": 7}, "session_id", "wrong_type"),
        ({"session_id": ["s"]}, "session_id", "wrong_type"),
        ({"properties": [1]}, "properties", "wrong_type"),
        ({"properties": "{}"}, "properties", "wrong_type"),
        ({"properties": {"a": object()}}, "properties", "wrong_type"),
        ({"properties": {"a": Hostile()}}, "properties", "wrong_type"),
        ({"properties": {None: 1}}, "properties", "wrong_type"),
        ({"properties": {"a": "x" * 65_536}}, "properties", "too_large"),
        ({"properties": nested(101)}, "properties", "too_deep"),
        ({"properties": nested(50_000)}, "properties", "too_deep"),
        ({"properties": endless()}, "properties", "too_deep"),
    ],
)
def test_what_the_server_would_refuse_is_refused_here(members: dict[str, Any], field: str, code: str) -> None:
    with pytest.raises(EventRefused) as refused:
        encode_event(tracked(**members))
    assert (refused.value.rejection.field, refused.value.rejection.code) == (field, code)


@pytest.mark.parametrize(
    "members",
    [
        {"event_name": "x" * 2048, "device_id": "ü" * 255, "session_id": "s" * 255, "event_type": "t" * 128},
        {"properties": {"a": "x" * (65_536 - 8)}},
        {"properties": nested(100)},
        {"properties": {"brackets": "[{" * 200}},
        {"event_name": "half \ud83d", "properties": {"b": [1] * 200}},
    ],
    ids=["names", "size", "depth", "brackets", "surrogate"],
)
def test_what_is_just_within_the_limits_is_taken_here_and_there(members: dict[str, Any]) -> None:
    body = PROJECT.body()[:-2] + encode_event(tracked(**members)) + b"]}"
    verdict = judge_events(open_request(body).events)
    assert [refusal.message for refusal in verdict.rejected] == []
    assert len(verdict.accepted) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=())), json_values), st.text(min_size=1))
def test_whatever_is_tracked_passes_the_servers_fast_path_or_is_refused(properties: dict[str, Any], name: str) -> None:
    try:
        text = encode_event(tracked(properties=properties, event_name=name))
    except EventRefused:
        return
    request = decode_request(PROJECT.body()[:-2] + text + b"]}")
    if request is None:  # An escaped NUL gets a closer look.
        assert b"\\u0000" in text
    else:
        assert isinstance(request.batch[0], Event)


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        (datetime(2026, 4, 8, 12, tzinfo=timezone(timedelta(hours=2))), "2026-04-08T12:00:00.000000+02:00"),
        (datetime(2026, 4, 8, 12), "2026-04-08T12:00:00.000000+00:00"),  # noqa: DTZ001 - what apps pass
        ("2026-04-08 12:00Z", "2026-04-08 12:00Z"),
    ],
)
def test_a_time_may_be_given(timestamp: object, text: str) -> None:
    assert instant_text(timestamp) == text


class BrokenZone(tzinfo):
    """A zone that fails whenever it is asked."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError("no zone")

    def dst(self, _: datetime | None) -> None:
        """It knows of none."""

    def tzname(self, _: datetime | None) -> None:
        """It has none."""


class Unspeakable:
    """What cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Unlistable:
    def tolist(self) -> list[object]:
        raise UnspeakableError


def test_the_odd_seconds_of_a_zone_are_counted_in() -> None:
    odd = timezone(timedelta(minutes=19, seconds=32))
    assert instant_text(datetime(1900, 1, 1, 12, tzinfo=odd)) == "1900-01-01T11:40:28.000000+00:00"


def test_what_fails_when_it_is_shown_is_refused_like_anything_else() -> None:
    with pytest.raises(EventRefused, match="of type Unspeakable"):
        instant_text(Unspeakable())
    with pytest.raises(EventRefused, match="UnspeakableError"):
        written({"a": Unlistable()})


@pytest.mark.parametrize(
    "timestamp",
    ["yesterday", 1775649600, 1.5, b"2026-04-08", "", datetime(2026, 4, 8, tzinfo=BrokenZone())],
)
def test_a_time_that_is_none_is_refused(timestamp: object) -> None:
    with pytest.raises(EventRefused, match="datetime or ISO 8601"):
        instant_text(timestamp)


def test_a_stamp_is_the_time_and_a_uuid_of_version_7() -> None:
    text, event_id = Stamps(lambda: 1_775_649_600_123_456_789, os.urandom)()
    identity = UUID(event_id)
    assert text == "2026-04-08T12:00:00.123456Z"
    assert (identity.version, identity.variant) == (7, "specified in RFC 4122")
    assert identity.int >> 80 == 1_775_649_600_123


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**47), min_size=1, max_size=50), st.data())
def test_ids_rise_whatever_the_clock_does(milliseconds: list[int], data: st.DataObject) -> None:
    clock = iter(milliseconds)
    stamps = Stamps(lambda: next(clock) * 1_000_000, lambda size: data.draw(st.binary(min_size=size, max_size=size)))
    ids = [stamps()[1] for _ in milliseconds]
    assert ids == sorted(set(ids))
    assert all(UUID(event_id).version == 7 for event_id in ids)


class Holder(Struct):
    inner: Raw


@dataclasses.dataclass
class PlainHolder:
    inner: list[Raw]


def holders(raw: Raw) -> list[Any]:
    """Properties that hold it where it is looked into."""
    return [{"a": raw}, {"a": 1, "b": [1, {"c": (raw,)}]}, OrderedDict(a=raw), {"a": [OrderedDict(a=raw)]}]


@pytest.mark.parametrize(
    "text", [b"nonsense", b"", b'1, "b": 2', b'1}, "event_name": "x", "y": {"a": 1', b'"\xff"', b"[1", b"NaN"]
)
@pytest.mark.parametrize("place", range(len(holders(Raw(b"1")))))
def test_raw_json_that_is_none_is_refused(text: bytes, place: int) -> None:
    with pytest.raises(EventRefused) as refused:
        encode_event(tracked(properties=holders(Raw(text))[place]))
    assert refused.value.rejection.code == "wrong_type"


@pytest.mark.parametrize(
    "held", [Holder(Raw(b"1")), PlainHolder([Raw(b"1")]), deque([Raw(b"1")]), [{"b": Holder(Raw(b"1"))}]]
)
def test_raw_json_that_nobody_can_look_at_is_refused(held: Any) -> None:
    with pytest.raises(EventRefused, match="Raw"):
        encode_event(tracked(properties={"a": held}))


@pytest.mark.parametrize("place", range(len(holders(Raw(b"1")))))
def test_raw_json_is_sent_as_what_it_says(place: int) -> None:
    held = holders(Raw(b' {"x": [1, null, "\\u00e4"]} '))[place]
    assert {"x": [1, None, "ä"]} in flat(written(held))


def flat(value: Any) -> list[Any]:
    """Everything in it."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(found for each in inner for found in flat(each))]


def test_raw_json_is_held_to_the_bounds_of_properties() -> None:
    for text, code in ((b"[" * 101 + b"]" * 101, "too_deep"), (b'"' + b"x" * 70_000 + b'"', "too_large")):
        with pytest.raises(EventRefused) as refused:
            encode_event(tracked(properties={"a": Raw(text)}))
        assert refused.value.rejection.code == code
