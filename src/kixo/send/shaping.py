"""From a row to an event: which column gives which member, what stands in for a missing one, and the event's id.

    event_id   the row's own; or, for a row of `kixo export` that has none, "kixo:" and its `identity`; or "row:" and
               128 bits of BLAKE2b over the salt, the row's number and its text
    timestamp  of a row of `kixo export` the `client_timestamp`: what the client sent, not what the server made of it

Both follow from the row alone, so sending it again changes nothing. Values are spliced in as the JSON text they are.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, NamedTuple, TypeGuard

import msgspec
from msgspec import Raw, Struct, json

from kixo.errors import BadArgument
from kixo.event import ENVIRONMENT_DEFAULT
from kixo.identity import scope
from kixo.send.rows import NULL, Row, Text
from kixo.timestamp import format_us

TEXTS = ("event_type", "event_name", "device_id", "session_id")
ENVELOPE = ("environment", "bundle_id", "platform")
MEMBERS = (*TEXTS, "timestamp", "event_id", "properties", *ENVELOPE)
# Columns of an export that are looked at, or are the server's own.
KNOWN = {"client_timestamp", "identity", "project_id", "sent_at", "received_at", "clock_rule", "rejected", "date"}
EPOCH_US = {"s": 1_000_000, "ms": 1000, "us": 1}
INSIDE = "properties."
EVERY_OTHER = "*"
PLANS_MAX = 1024
UNUSED_MAX = 50

_NULL = Raw(NULL)
_members = json.Decoder(dict[str, Raw]).decode
_text = json.Decoder(str).decode


class Shape(Struct, frozen=True):
    """How rows become events: columns by member, defaults by member, and what numbers in `timestamp` count.

    `properties` gives paths within the properties by column; `rest`: all other columns are properties too.
    """

    columns: dict[str, str] = {}
    properties: dict[str, tuple[str, ...]] = {}
    defaults: dict[str, str] = {}
    epoch: str | None = None
    rest: bool = False
    salt: str = ""


class Shaped(NamedTuple):
    """An event as JSON text, and the environment, bundle and platform of its request, as JSON text too."""

    envelope: tuple[bytes, bytes, bytes]
    event: bytes


class RowRefused(Exception):
    """Why a row cannot be sent: the member, the stable code and the message."""

    def __init__(self, field: str | None, code: str, message: str) -> None:
        super().__init__(message)
        self.field, self.code, self.message = field, code, message


class _Plan(NamedTuple):
    """What is looked up once for all rows that have the same columns."""

    texts: tuple[tuple[bytes, str], ...]
    timestamps: tuple[str, ...]
    properties: tuple[tuple[str, tuple[str, ...]], ...]


class Shaper:
    """Makes events of rows. `unused` are columns that went into nothing; `corrected` counts times that differ."""

    def __init__(self, shape: Shape, project_id: str) -> None:
        self.unused: dict[str, None] = {}
        self.corrected = 0
        self._shape = shape
        self._project_id = project_id
        self._scopes: dict[bytes, bytes] = {}
        self._salt = shape.salt.encode() + b"\0"
        self._columns = {member: shape.columns.get(member, member) for member in MEMBERS}
        self._defaults = {member: json.encode(value) for member, value in shape.defaults.items()}
        self._defaults.setdefault("environment", json.encode(ENVIRONMENT_DEFAULT))
        self._plans: dict[tuple[str, ...], _Plan] = {}

    def shape(self, row: Row) -> Shaped:
        """The row's event; raises `RowRefused`."""
        values = row.columns
        plan = self._plans.get(tuple(values)) or self._plan_anew(tuple(values))
        parts = [prefix + value for prefix, column in plan.texts if (value := values[column]) != _NULL]
        if len(parts) < len(TEXTS):
            found = [(name.encode(), self._value(values, name)) for name in TEXTS]
            parts = [b'"%b":%b' % (name, text) for name, text in found if text is not None]
        if timestamp := self._timestamp(values, plan):
            parts.append(b'"timestamp":%b' % timestamp)
        parts.append(b'"event_id":%b' % self._event_id(row))
        if properties := self._properties(values, plan):
            parts.append(b'"properties":%b' % properties)
        return Shaped(self._envelope(values), b"{%b}" % b",".join(parts))

    def _envelope(self, values: Mapping[str, Text]) -> tuple[bytes, bytes, bytes]:
        environment, bundle, platform = [self._value(values, member) for member in ENVELOPE]
        if bundle is None or platform is None or environment is None:
            missing = "bundle_id" if bundle is None else "platform"
            flag = "--bundle" if bundle is None else "--platform"
            raise RowRefused(missing, "missing", f"`{missing}` is missing. Give {flag}, or --map COLUMN={missing}.")
        return bytes(environment), bytes(bundle), bytes(platform)

    def _value(self, values: Mapping[str, Text], member: str) -> Text | None:
        value = values.get(self._columns[member])
        return value if _is_there(value) else self._defaults.get(member)

    def _plan_anew(self, names: tuple[str, ...]) -> _Plan:
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        plan = self._plans[names] = self._plan(names)
        return plan

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        used = set(self._columns.values()) | KNOWN
        paths = {name: tuple(name.removeprefix(INSIDE).split(".")) for name in names if name.startswith(INSIDE)}
        paths |= {name: path for name, path in self._shape.properties.items() if name in names}
        rest = [name for name in names if name not in used and name not in paths]
        if self._shape.rest:
            paths |= {name: (name,) for name in rest}
        elif len(self.unused) < UNUSED_MAX:
            self.unused |= dict.fromkeys(rest)
        columns = {member: self._columns[member] for member in TEXTS}
        texts = [(b'"%b":' % member.encode(), column) for member, column in columns.items() if column in names]
        chosen = self._shape.columns.get("timestamp")
        timestamps = (chosen,) if chosen else ("client_timestamp", "timestamp")
        present = tuple(name for name in timestamps if name in names)
        return _Plan(tuple(texts), present, tuple(paths.items()))

    def _timestamp(self, values: Mapping[str, Text], plan: _Plan) -> Text | None:
        found = [value for name in plan.timestamps if (value := values[name]) != _NULL]
        if not found:
            return self._defaults.get("timestamp")
        if len(found) > 1:
            self.corrected += bytes(found[0]) != bytes(found[1])
        return found[0] if self._shape.epoch is None else _instant(found[0], EPOCH_US[self._shape.epoch])

    def _event_id(self, row: Row) -> Text:
        given = self._value(row.columns, "event_id")
        if given is not None:
            return given
        identity = row.columns.get("identity")
        if _is_there(identity):
            digits = bytes(identity).strip(b'"')
            if not digits.isalnum():
                message = (
                    f"`identity` is {digits[:64].decode(errors='replace')}. Leave it as the export has it, or out."
                )
                raise RowRefused("identity", "invalid_identity", message)
            self._check_elsewhere(row.columns, digits)
            return b'"kixo:%b"' % digits
        digest = blake2b(self._salt + b"%d\0" % row.number + row.text, digest_size=16).hexdigest()
        return b'"row:%b"' % digest.encode()

    def _check_elsewhere(self, values: Mapping[str, Text], identity: bytes) -> None:
        environment = bytes(self._value(values, "environment") or NULL)
        if environment not in self._scopes and len(self._scopes) < PLANS_MAX:
            self._scopes[environment] = scope(self._project_id, environment.decode().strip('"')).hex().encode()
        if identity.startswith(self._scopes.get(environment, b"?")):
            message = (
                "The event comes from a project and environment of these names and has no event_id: sent to where it "
                "comes from, it would count twice. If it is not there, as on another server, take the column "
                "`identity` out of the file."
            )
            raise RowRefused("event_id", "already_there", message)

    def _properties(self, values: Mapping[str, Text], plan: _Plan) -> Text | None:
        found = self._value(values, "properties")
        given = None if found is None else bytes(found)
        if given is not None and given.startswith(b'"'):
            given = _object_in(given)
        if not plan.properties:
            return given
        tree: dict[str, Any] = {} if given is None else _opened(given)
        for name, path in plan.properties:
            value = values.get(name)
            if _is_there(value):
                _plant(tree, path, Raw(bytes(value)))
        return json.encode(tree)


def _is_there(value: Text | None) -> TypeGuard[Text]:
    """Whether a column has a value; null means absent."""
    return value is not None and value != _NULL


def _opened(text: bytes) -> dict[str, Any]:
    try:
        return dict(_members(text))
    except msgspec.DecodeError:
        raise RowRefused("properties", "not_an_object", "`properties` is not an object. Map it elsewhere.") from None


def _object_in(value: Text) -> bytes:
    """The JSON text that a string holds, as an export and a cell of CSV have it."""
    text = _text(value).encode()
    try:
        _members(text)
    except msgspec.DecodeError as error:
        raise RowRefused("properties", "not_json", f"`properties` is text that is no JSON object: {error}.") from None
    except RecursionError:
        raise RowRefused("properties", "too_deep", "`properties` is nested too deep. Flatten it.") from None
    return text


def _plant(tree: dict[str, Any], path: tuple[str, ...], value: Raw) -> None:
    for name in path[:-1]:
        inner = tree.setdefault(name, {})
        if not isinstance(inner, dict):
            raise RowRefused("properties", "not_an_object", f"`{'.'.join(path)}` lies in `{name}`, which has a value.")
        tree = inner
    tree[path[-1]] = value


def _instant(value: Text, unit_us: int) -> bytes:
    try:
        microseconds = int(Decimal(bytes(value).strip(b'"').decode()) * unit_us)
    except (InvalidOperation, ValueError, OverflowError):
        # The server says what is wrong with it.
        return bytes(value)
    return json.encode(format_us(microseconds))


def parse_maps(maps: tuple[str, ...]) -> Shape:
    """The shape that `column=member` texts describe; raises `BadArgument`."""
    columns: dict[str, str] = {}
    properties: dict[str, tuple[str, ...]] = {}
    rest = False
    for text in maps:
        column, equals, member = text.rpartition("=")
        if equals and column == EVERY_OTHER and member == INSIDE + EVERY_OTHER:
            rest = True
        elif equals and column and member in MEMBERS:
            columns[member] = column
        elif equals and column and member.startswith(INSIDE) and member != INSIDE:
            properties[column] = tuple(member.removeprefix(INSIDE).split("."))
        else:
            raise BadArgument(
                f"--map {text} is not COLUMN=MEMBER.",
                f"Members are {', '.join(MEMBERS)} and properties.NAME; *=properties.* takes all other columns.",
            )
    return Shape(columns, properties, rest=rest)
