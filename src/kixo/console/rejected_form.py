"""What the forms of the page Rejected say: which events are meant, and what is changed in them.

Fields of a group are in the address and in forms alike: `code`, `field`, `platform`, `bundle_id`, `app_version` (empty:
none), `from_us` and `to_us`. Single events are fields `event:LOG:PARTITION:OFFSET:INDEX`. A change is `set_member` and
`set_value`, numbered, `remove`, and `json` with `json_of` for the one event that is replaced.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from msgspec import json

from kixo.console.navigation import Chosen
from kixo.errors import BadArgument
from kixo.rejected.change import EVENT_BYTES_MAX, Change, check_json, check_path
from kixo.rejected.selection import Place, RequestPlace, Selection

GROUP = ("code", "field", "platform", "bundle_id", "app_version")
SETS = (1, 2, 3)
EVENT = "event:"


class Asked(NamedTuple):
    """What a form asks for: events, a change, and the request after which a replay goes on, if it has begun."""

    selection: Selection
    change: Change
    after: RequestPlace | None


def selection_of(fields: Mapping[str, str], chosen: Chosen) -> Selection:
    """The events that are meant; raises `BadArgument`. Without a project there are none."""
    return Selection(
        from_us=_number(fields, "from_us"),
        to_us=_number(fields, "to_us"),
        project_id=(chosen.project.id if chosen.project else "",),
        environment=(chosen.environment,),
        places=tuple(_places(fields)),
        **{name: (fields[name],) for name in GROUP if name in fields},
    )


def read_form(fields: Mapping[str, str], chosen: Chosen) -> Asked:
    """What a form asks for; raises `BadArgument`."""
    after = fields.get("after")
    return Asked(selection_of(fields, chosen), _change(fields), _request(after) if after else None)


def as_previewed(fields: Mapping[str, str], *, only_chosen: bool, now_us: int) -> dict[str, str] | None:
    """The fields by which events are previewed and then replayed, the same ones both times.

    `only_chosen`: only the events that were ticked, None where there are none; else what was ticked does not matter.
    """
    single = "json_of" in fields
    bounded = {**fields, "to_us": fields.get("to_us") or str(now_us)}
    if single or only_chosen:
        return bounded if any(name.startswith(EVENT) for name in fields) else None
    return {name: value for name, value in bounded.items() if not name.startswith(EVENT)}


def kept(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields that a form hands on to the next."""
    names = {*GROUP, "from_us", "to_us", "remove", "json", "json_of"}
    names |= {f"set_{part}_{number}" for part in ("member", "value") for number in SETS}
    return {name: value for name, value in fields.items() if name in names or name.startswith(EVENT)}


def place_text(place: Place) -> str:
    """A place as it stands in fields."""
    return f"{place.log_id}:{place.partition}:{place.offset}:{place.index}"


def read_place(text: str) -> Place:
    """The place that a field names; raises `BadArgument`."""
    try:
        log_id, *numbers = text.split(":")
        partition, offset, index = map(int, numbers)
    except ValueError:
        raise _unreadable(text) from None
    return Place(log_id, partition, offset, index)


def _places(fields: Mapping[str, str]) -> Iterator[Place]:
    for name in fields:
        if name.startswith(EVENT):
            yield read_place(name.removeprefix(EVENT))


def _change(fields: Mapping[str, str]) -> Change:
    if "json_of" in fields:
        return Change(replace={read_place(fields["json_of"]): check_json(fields.get("json", ""), EVENT_BYTES_MAX)})
    set_members = {
        check_path(path): _value(fields.get(f"set_value_{number}", ""))
        for number in SETS
        if (path := fields.get(f"set_member_{number}", "").strip())
    }
    remove = fields.get("remove", "").replace(",", " ").split()
    return Change(set_members, tuple(map(check_path, remove)))


def _value(text: str) -> bytes:
    """The JSON that was typed; what is none and does not begin like it is a text, as a person would write one."""
    try:
        return check_json(text)
    except BadArgument:
        if not text.strip() or text.lstrip()[0] in '{["':
            raise
        return check_json(json.encode(text.strip()).decode())


def _request(text: str) -> RequestPlace:
    try:
        return RequestPlace(*map(int, text.split(":")))
    except (ValueError, TypeError):
        raise _unreadable(text) from None


def _number(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name, "")
    try:
        return int(text) if text else None
    except ValueError:
        raise _unreadable(text) from None


def _unreadable(text: str) -> BadArgument:
    return BadArgument(f"The form says {text[:100]!r}, which cannot be read.", "Load the page again.")
