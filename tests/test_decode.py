"""The two paths of decoding: the fast one takes only what the slow one takes too, and no input is too odd for them."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec import json as msgspec_json

from fuzz.target import events_as_sent
from kixo import depth, stored
from kixo.decode import VECTOR_BYTES_MIN, credentials, decode_request, judge_events, mend_surrogates, open_request
from kixo.depth import DEPTH_KEPT, at_any_depth, depth_of, flatten_below
from kixo.errors import InvalidJSON, InvalidRequest
from kixo.event import PROPERTIES_DEPTH_MAX, REJECTION_CODES
from kixo.timestamp import parse_us
from tests.conftest import Project, event
from tests.test_timestamp import FORMS, NONE_OF_THEM

SENDER = Project("kx_proj_abc123", "kx_key_xyz789")

# Lone surrogates and U+0000 are among these; `json.dumps` writes them as escapes.
TEXTS = st.text(st.characters(), max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4))
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)

DIGITS = st.text("0123456789", max_size=12)
INSTANTS = st.builds(
    "{:04d}-{:02d}-{:02d}{}{:02d}:{:02d}:{:02d}{}{}".format,
    st.sampled_from([0, 1, 1969, 2024, 2026, 9999]),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from("Tt _"),
    st.integers(0, 25),
    st.integers(0, 61),
    st.integers(0, 61),
    DIGITS.map(lambda digits: f".{digits}") | st.just(""),
    st.sampled_from(["", "Z", "z", "+02:00", "-0530", "+24:00", "+23:60", "-23:59", "+02"]),
)
TIMESTAMPS = st.sampled_from([text for text, _ in FORMS] + NONE_OF_THEM) | INSTANTS

GOOD_EVENTS = st.builds(event, event_name=st.text(min_size=1, max_size=20), properties=OBJECTS)
NEARLY_EVENTS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("event_type", "event_name", "device_id", "session_id", "unknown"), TEXTS | VALUES),
        "timestamp": TIMESTAMPS | VALUES,
        "properties": OBJECTS | VALUES,
        "event_id": TEXTS | VALUES,
    },
).map(lambda members: {**event(), **members})
EVENTS = GOOD_EVENTS | NEARLY_EVENTS | VALUES
ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "platform": st.sampled_from(["ios", "android", "web", "amiga"]),
        "environment": st.sampled_from(["production", "staging", "development", "prod"]) | st.none(),
        "sent_at": TIMESTAMPS | st.none(),
        "bundle_id": TEXTS,
        "unknown": VALUES,
    },
)


def written(value: object, *, ascii_only: bool, indent: int | None) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")


BODIES = st.builds(
    written,
    st.builds(lambda events, members: SENDER.batch(*events, **members), st.lists(EVENTS, max_size=5), ENVELOPES),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 2),
)


def agree(body: bytes) -> None:
    """What the fast path takes, the slow one takes whole and with the same values."""
    if decode_request(body) is None:
        return
    sent = stored.decode_sent(body)
    opened = open_request(body)
    assert (opened.project_id, opened.bundle_id, opened.platform) == (sent.project_id, sent.bundle_id, sent.platform)
    assert (opened.environment, opened.sent_at) == (sent.environment or "production", sent.sent_at)
    accepted, rejected = judge_events(opened.events)
    assert rejected == []
    assert accepted == events_as_sent(sent)


@settings(max_examples=200)
@given(BODIES)
def test_the_fast_path_takes_only_what_the_slow_one_takes_with_the_same_values(body: bytes) -> None:
    agree(body)


@given(st.lists(GOOD_EVENTS, max_size=3))
def test_good_requests_take_the_fast_path(events: list[dict[str, Any]]) -> None:
    body = SENDER.body(*events)
    has_odd_escapes = b"\\ud" in body or b"\\u0000" in body
    assert has_odd_escapes or decode_request(body) is not None


@settings(max_examples=200)
@given(BODIES, st.integers(0, 10_000), st.binary(max_size=3), st.integers(0, 3))
def test_a_change_of_a_few_bytes_is_never_too_odd(body: bytes, place: int, inserted: bytes, removed: int) -> None:
    place %= len(body)
    changed = body[:place] + inserted + body[place + removed :]
    agree(changed)
    try:
        accepted, rejected = judge_events(events := open_request(changed).events)
        assert len(accepted) + len(rejected) == len(events)
    except InvalidJSON as error:
        assert 0 <= int(str(error.members["position"])) <= len(changed)
        assert credentials(changed) is None
    except InvalidRequest as error:
        assert f"`{error.members['field']}`" in error.message
    else:
        json.loads(changed, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_not(body: bytes) -> None:
    assert decode_request(body) is None
    with pytest.raises((InvalidJSON, InvalidRequest)):
        open_request(body)


@given(st.lists(EVENTS, max_size=8))
def test_every_event_gets_exactly_one_verdict(events: list[object]) -> None:
    accepted, rejected = judge_events(open_request(SENDER.body(*events)).events)
    indexes = [found.index for found in accepted] + [found.index for found in rejected]
    assert sorted(indexes) == list(range(len(events)))
    assert [found.index for found in accepted] == sorted(found.index for found in accepted)
    for found in rejected:
        assert found.code in REJECTION_CODES
        assert found.message.endswith(".")
        assert found.field is not None or found.code == "invalid_event"


@given(st.lists(st.tuples(st.booleans(), GOOD_EVENTS), max_size=4), st.lists(VALUES, min_size=4, max_size=4))
def test_bad_events_cost_no_good_ones(draws: list[tuple[bool, dict[str, Any]]], bad: list[object]) -> None:
    events = [found if good else other for (good, found), other in zip(draws, bad, strict=False)]
    accepted, rejected = judge_events(open_request(SENDER.body(*events)).events)
    assert [found.index for found in accepted] == [index for index, (good, _) in enumerate(draws) if good]
    assert [found.event_name for found in accepted] == [
        found["event_name"].replace("\0", "\ufffd") for good, found in draws if good
    ]
    assert len(rejected) == len(events) - len(accepted)


@settings(max_examples=400)
@given(TIMESTAMPS)
def test_both_paths_take_the_same_timestamps(text: str) -> None:
    body = SENDER.body(event(timestamp=text), sent_at=None)
    accepted, _ = judge_events(open_request(body).events)
    assert bool(accepted) == is_instant(text)
    assert decode_request(body) is None or is_instant(text)
    assert decode_request(SENDER.body(sent_at=text)) is None or is_instant(text)


def is_instant(text: str) -> bool:
    try:
        parse_us(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("text", ["2026-04-08T12:00:00Z", "2026-04-08T12:00:00.123Z", "2026-04-08T14:00:00.5+02:00"])
def test_the_usual_timestamps_take_the_fast_path(text: str) -> None:
    assert decode_request(SENDER.body(event(timestamp=text), sent_at=text)) is not None


@pytest.mark.parametrize("padding", [0, 2 * VECTOR_BYTES_MIN])
@pytest.mark.parametrize("properties", [b"[]", b'"{"', b"7", b"true", b'[{"a":1}]', b'"\\u0000{"', b"-1"])
def test_properties_that_are_no_object_never_pass_the_fast_path(padding: int, properties: bytes) -> None:
    """However large the batch, which decides how the objects are counted."""
    others = [event(properties={"a": "x" * (padding // 4), "b": [{"c": {}}]}) for _ in range(4)]
    body = SENDER.body(*others, event(properties="HERE")).replace(b'"HERE"', properties)
    assert decode_request(body) is None
    assert decode_request(body.replace(b"[]", b"{}")) is not None or properties != b"[]"


def depth_by_looking(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_by_looking, value.values()), default=0)
    return 1 + max(map(depth_by_looking, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.booleans())
def test_depth_is_what_recursion_would_find(value: object, ascii_only: bool) -> None:
    assert depth_of(written(value, ascii_only=ascii_only, indent=1)) == depth_by_looking(value)


@given(VALUES, st.integers(1, 4))
def test_what_is_flattened_is_json_of_the_same_length_and_no_deeper(value: object, kept: int) -> None:
    text = written(value, ascii_only=True, indent=None)
    flat = flatten_below(text, kept)
    assert len(flat) == len(text)
    assert depth_by_looking(json.loads(flat)) == min(depth_by_looking(value), kept)
    assert kept <= depth_by_looking(value) or flat == text


@pytest.mark.parametrize("opening", [b'{"a":', b"[", b'[{"a":'])
@pytest.mark.parametrize("depth", [DEPTH_KEPT, 900, 1000, 100_000])
def test_a_decoder_reads_any_depth(opening: bytes, depth: int) -> None:
    closing = opening.replace(b'"a":', b"").translate(bytes.maketrans(b"[{", b"]}"))[::-1]
    text = b'{"deep":' + opening * depth + b"7" + closing * depth + b',"kept":[7]}'
    found = at_any_depth(msgspec_json.Decoder(dict[str, Raw]).decode)(text)
    assert bytes(found["kept"]) == b"[7]"
    assert len(found["deep"]) == len(text) - len(b'{"deep":,"kept":[7]}')


def test_as_much_depth_as_properties_may_have_is_never_flattened() -> None:
    properties = b'{"a":' * PROPERTIES_DEPTH_MAX + b"1" + b"}" * PROPERTIES_DEPTH_MAX
    deep = b"[" * 2000 + b"]" * 2000
    body = SENDER.body(event(properties="HERE"), unknown="DEEP").replace(b'"HERE"', properties).replace(b'"DEEP"', deep)
    accepted, rejected = judge_events(open_request(body).events)
    assert (accepted[0].properties.encode(), rejected) == (properties, [])


@settings(deadline=None)
@given(st.lists(VALUES, max_size=12), st.booleans(), st.none() | st.integers(0, 2), st.integers(1, 40))
def test_elements_are_counted_as_they_are_decoded(
    values: list[object], ascii_only: bool, indent: int | None, piece: int
) -> None:
    text = written(values, ascii_only=ascii_only, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth, "PIECE_BYTES", piece)
        assert depth.count_elements(text) == len(values)


def test_counting_millions_of_elements_takes_little_memory() -> None:
    text = b"[" + b"{}," * 3_000_000 + b"{}]"
    tracemalloc.start()
    try:
        assert depth.count_elements(text) == 3_000_001
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("look", "text"),
    [
        (depth_of, b'{"a":"' + b'\\"' * (2 * MIB) + b'"}'),
        (depth_of, b"[" * (2 * MIB) + b"]" * (2 * MIB)),
        (lambda text: flatten_below(text, DEPTH_KEPT), b"[" * (2 * MIB) + b"]" * (2 * MIB)),
        (mend_surrogates, b'"' + rb"\u0000" * (4 * MIB // 6) + b'"'),
        (mend_surrogates, b'"' + rb"\ud800" + rb"\u0000" * (MIB // 6) + b'"'),
    ],
)
def test_the_oddest_text_takes_a_few_times_a_piece_of_memory(look: Callable[[bytes], object], text: bytes) -> None:
    tracemalloc.start()
    try:
        look(text)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text) + 24 * depth.PIECE_BYTES
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(VALUES, st.booleans(), st.integers(1, 40), st.integers(1, 4))
def test_where_pieces_end_changes_nothing(value: object, ascii_only: bool, piece: int, kept: int) -> None:
    text = written(value, ascii_only=ascii_only, indent=1)
    whole = depth_of(text), flatten_below(text, kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth, "PIECE_BYTES", piece)
        assert (depth_of(text), flatten_below(text, kept)) == whole


@pytest.mark.parametrize("place", ["envelope", "event"])
def test_a_million_members_that_nobody_knows_take_no_memory(place: str) -> None:
    many = ",".join(f'"{number:x}":1' for number in range(900_000))
    whole = SENDER.body(event(), platform="none").decode()
    body = (whole[:-1] + f",{many}}}" if place == "envelope" else whole.replace('"}]', f'",{many}}}]')).encode()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="platform"):
            open_request(body)
        judge_events(open_request(body.replace(b'"none"', b'"web"')).events)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(body)
    finally:
        tracemalloc.stop()
