"""What a person types into the form that mends rejected events."""

import pytest

from kixo.console.navigation import Chosen
from kixo.console.rejected_form import read_form
from kixo.errors import BadArgument

NOBODY = Chosen(None, "production", ())


def typed(value: str) -> bytes:
    fields = {"set_member_1": "timestamp", "set_value_1": value}
    return read_form(fields, NOBODY).change.set["timestamp"]


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("2026-04-08T12:00:00Z", b'"2026-04-08T12:00:00Z"'),
        (" pro plan ", b'"pro plan"'),
        ('say "hi"', b'"say \\"hi\\""'),
        ('"quoted"', b'"quoted"'),
        ("5", b"5"),
        ("null", b"null"),
        ('{"a": 1}', b'{"a": 1}'),
    ],
)
def test_what_is_no_json_is_a_text(value: str, meant: bytes) -> None:
    assert typed(value) == meant


@pytest.mark.parametrize("value", ["", "  ", '{"a": ', "[1,", '"open'])
def test_what_begins_like_json_and_is_none_is_refused(value: str) -> None:
    with pytest.raises(BadArgument):
        typed(value)
