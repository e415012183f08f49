"""What an operator changes in rejected events before they are judged again.

A change is to the JSON as sent: what it does not name stays as it was, letter by letter.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw, json

from kixo.decode import mend_surrogates
from kixo.depth import at_any_depth
from kixo.errors import BadArgument
from kixo.event import PROPERTIES_BYTES_MAX, Event
from kixo.rejected.selection import Place

PROPERTIES = "properties"
MEMBERS = Event.__struct_fields__
# A whole event may be many times its properties; one that nobody would ever send is refused here.
EVENT_BYTES_MAX = 1024 * 1024

_members_of = at_any_depth(json.Decoder(dict[str, Raw]).decode)
_encode = json.Encoder().encode
_POSITION = re.compile(r"\(byte (\d+)\)")


@dataclass(frozen=True)
class Change:
    """Members to remove and to set (to JSON texts), by path, in every event; or events whose JSON is another.

    A path is a member of an event, such as `device_id`, or one of its properties, such as `properties.city`.
    Removing comes first. A replaced event is what it was replaced by, and gets no other change.
    """

    set: Mapping[str, bytes] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    replace: Mapping[Place, bytes] = field(default_factory=dict)


NO_CHANGE = Change()


def check_path(path: str) -> str:
    """The path; raises `BadArgument` where no event has such a member."""
    first, _, rest = path.partition(".")
    if first in MEMBERS and (not rest or first == PROPERTIES) and not path.endswith("."):
        return path
    similar = difflib.get_close_matches(first, MEMBERS, 1)
    hint = f"Do you mean {similar[0]}?" if similar else f"Members are {', '.join(MEMBERS)}, and properties.NAME."
    raise BadArgument(f"An event has no member {path!r}.", hint)


def check_json(text: str, bytes_max: int = PROPERTIES_BYTES_MAX) -> bytes:
    """The JSON text as bytes, without lone surrogates; raises `BadArgument` where it is none or too long."""
    data = text.encode("utf-8", "surrogatepass").strip()
    if len(data) > bytes_max:
        raise BadArgument(f"The JSON has {len(data)} bytes, {bytes_max} are allowed.", "Shorten it.")
    try:
        data = mend_surrogates(data)
        data.decode()
        json.decode(data)
    except RecursionError:
        raise BadArgument("The JSON is nested too deep.", "Flatten it.") from None
    except UnicodeDecodeError:
        raise BadArgument("The JSON is not UTF-8.", "Correct it.") from None
    except msgspec.DecodeError as error:
        found = _POSITION.search(str(error))
        where = f" at byte {found[1]}" if found else ""
        reason = _POSITION.sub("", str(error)).removeprefix("JSON is malformed: ").strip().rstrip(".")
        raise BadArgument(f"That is not JSON{where}: {reason}.", 'A text stands in quotes: "…".') from None
    return data


def changed(text: str, place: Place, change: Change) -> bytes:
    """The JSON of a rejected event after the change. What is no object stays as it is."""
    data = change.replace.get(place)
    if data is not None:
        return data
    data = text.encode()
    if not change.set and not change.remove:
        return data
    try:
        return _with_members(data, change)
    except msgspec.ValidationError:
        return data


def _with_members(data: bytes, change: Change) -> bytes:
    members = _members_of(data)
    for path in change.remove:
        _edit(members, path, None)
    for path, value in change.set.items():
        _edit(members, path, Raw(value))
    return _encode(members)


def _edit(members: dict[str, Raw], path: str, value: Raw | None) -> None:
    first, _, rest = path.partition(".")
    if rest:
        value = _edited_properties(members.get(first), rest, value)
    if value is None:
        members.pop(first, None)
    else:
        members[first] = value


def _edited_properties(properties: Raw | None, name: str, value: Raw | None) -> Raw | None:
    """The properties with one of them set or removed; what is no object has none, and is one once it gets one."""
    try:
        found = {} if properties is None else _members_of(bytes(properties))
    except msgspec.ValidationError:
        if value is None:
            return properties
        found = {}
    if value is None and name not in found:
        return properties
    found.pop(name, None) if value is None else found.update({name: value})
    return Raw(_encode(found))
