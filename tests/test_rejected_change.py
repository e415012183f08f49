import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kixo.errors import BadArgument
from kixo.rejected.change import Change, changed, check_json, check_path
from kixo.rejected.selection import Place

HERE = Place("log", 0, 0, 0)


def after(text: str, **change: Any) -> str:
    return changed(text, HERE, Change(**change)).decode()


def test_members_are_set_and_removed_and_the_rest_stays_letter_by_letter() -> None:
    text = '{"event_type": "tap", "timestamp":7,"properties":{"b": 1.10, "a":[ ]}, "x":1e999}'
    assert after(text, set={"timestamp": b'"2026-04-08"'}, remove=("x",)) == (
        '{"event_type":"tap","timestamp":"2026-04-08","properties":{"b": 1.10, "a":[ ]}}'
    )


@pytest.mark.parametrize(
    ("event", "change", "expected"),
    [
        ('{"properties":{"a": 1,"b":2}}', {"remove": ("properties.a",)}, '{"properties":{"b":2}}'),
        ('{"properties":{"a": 1}}', {"set": {"properties.b.c": b"2"}}, '{"properties":{"a":1,"b.c":2}}'),
        ('{"properties":[1]}', {"set": {"properties.b": b"2"}}, '{"properties":{"b":2}}'),
        ('{"properties":[1]}', {"remove": ("properties.b",)}, '{"properties":[1]}'),
        ('{"properties": { "a": 1}}', {"remove": ("properties.b",)}, '{"properties":{ "a": 1}}'),
        ("{}", {"set": {"properties.b": b"2"}}, '{"properties":{"b":2}}'),
        ("{}", {"remove": ("device_id",)}, "{}"),
        ('{"device_id":1,"device_id":2}', {"remove": ("session_id",)}, '{"device_id":2}'),
        ("7", {"set": {"device_id": b'"d"'}}, "7"),
        ('"text"', {"remove": ("device_id",)}, '"text"'),
        ('{"device_id":1}', {"replace": {HERE: b"[]"}, "set": {"device_id": b"2"}}, "[]"),
        ('{"device_id":1}', {"replace": {Place("log", 0, 0, 1): b"[]"}}, '{"device_id":1}'),
    ],
)
def test_a_change_is_to_what_it_names(event: str, change: dict[str, Any], expected: str) -> None:
    assert after(event, **change) == expected


@pytest.mark.parametrize("path", ["devce_id", "", ".", "device_id.x", "properties.", "bundle_id"])
def test_what_no_event_has_cannot_be_changed(path: str) -> None:
    with pytest.raises(BadArgument, match="no member"):
        check_path(path)


def test_a_misspelt_member_is_guessed() -> None:
    with pytest.raises(BadArgument, match=r"Do you mean device_id\?"):
        check_path("devce_id")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("none", "not JSON at byte.*quotes"),
        ('{"a":', "not JSON"),
        ("", "not JSON"),
        ("1 2", "not JSON at byte"),
        ("[" * 60_000, "too deep"),
        ('"' + "x" * 70_000 + '"', "70002 bytes, 65536 are allowed"),
        ('"\udc80"', "not UTF-8"),
    ],
)
def test_what_is_no_json_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        check_json(text)


def test_half_an_emoji_is_mended_as_a_sender_s_would_be() -> None:
    assert json.loads(check_json('"\\ud83c x"')) == "\ufffd x"


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none(), max_size=5), st.text(max_size=8))
def test_setting_and_removing_again_leaves_the_rest(members: dict[str, Any], value: str) -> None:
    text = json.dumps(members)
    there = json.loads(after(text, set={"device_id": json.dumps(value).encode()}))
    assert there == {**members, "device_id": value}
    members.pop("device_id", None)
    assert json.loads(after(json.dumps(there), remove=("device_id",))) == members
