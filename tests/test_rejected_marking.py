import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kixo.rejected.marking import Marked, mark


def marked(text: str, field: str | None, around_max: int = 100, wrong_max: int = 100) -> Marked:
    return mark(text, field, around_max=around_max, wrong_max=wrong_max)


@pytest.mark.parametrize(
    ("text", "field", "wrong"),
    [
        ('{"a": 1, "b": [1, {"b": 2}], "c": 3}', "b", '[1, {"b": 2}]'),
        ('{ "timestamp" : "soon" }', "timestamp", '"soon"'),
        ('{"b": 1, "b": 2}', "b", "2"),
        ('{"a": {"b": 1}}', "b", ""),
        ("{}", "b", ""),
        ("7", None, "7"),
        ("7", "b", ""),
        ('{"b": 1e999, "c": "\\"}"}', "b", "1e999"),
        ('{"n": ' + "9" * 5000 + ', "b": true}', "b", "true"),
        ('{"\\u0062": 1}', "b", "1"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + ', "b": 1}', "b", ""),
    ],
)
def test_what_is_wrong_is_marked(text: str, field: str | None, wrong: str) -> None:
    assert marked(text, field).wrong == wrong


def test_what_is_long_is_cut_around_the_mark() -> None:
    text = json.dumps({"a": "x" * 500, "b": "y" * 500, "c": "z" * 500})
    found = marked(text, "b", 10, 20)
    assert (len(found.before), len(found.wrong), len(found.after)) == (11, 21, 11)
    assert found.wrong.startswith('"yyy')
    assert len(marked(text, "d", 10, 20).before) == 11


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4) | st.lists(st.none()), min_size=1))
def test_the_parts_are_the_text_and_the_mark_is_the_value(members: dict[str, Any]) -> None:
    text = json.dumps(members)
    for name, value in members.items():
        found = marked(text, name, 10_000, 10_000)
        assert "".join(found) == text
        assert json.loads(found.wrong) == value
