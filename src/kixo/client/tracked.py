"""From what `track` was given to the event's JSON text, which is what is queued, spooled and sent.

An event is written when it is tracked, so whatever happens to its properties afterwards does not matter. What JSON
does not know is written by these rules:

- NaN and the infinities: null, as in a browser.
- `datetime`, `date`, `time`: ISO 8601. `timedelta`: an ISO 8601 duration. `UUID`: text. `Decimal`: text, exact.
- Enum members: their value. `bytes`: base64. Tuples, sets and other collections: arrays. Dataclasses: objects.
- Subclasses of `str`, `int`, `float`: as those. Scalars and arrays of numpy: as numbers and arrays. Paths: text.
- `msgspec.Raw` in dicts, lists, tuples and sets: the JSON that it holds, if it is JSON.
- Half an emoji (a lone surrogate): U+FFFD, as the server would write it.

Anything else, and an event that the server would refuse, is refused here.
"""

import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Raw, Struct, json, structs

from kixo import event as limits
from kixo.errors import KixoError
from kixo.event import Rejection
from kixo.timestamp import parse_us

_TEXTS = (
    ("event_type", limits.EVENT_TYPE_LENGTH_MAX),
    ("event_name", limits.EVENT_NAME_LENGTH_MAX),
    ("device_id", limits.DEVICE_ID_LENGTH_MAX),
    ("session_id", limits.SESSION_ID_LENGTH_MAX),
)
# Types that hold nothing else, and that most properties have.
_PLAIN = frozenset({str, int, float, bool, type(None)})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_SCALAR_MODULES = frozenset({"datetime", "decimal", "uuid"})
_SHORTEST_MAX = min(length_max for _, length_max in _TEXTS)


class TrackedEvent(Struct, gc=False):
    """An event as it was tracked. Of one that cannot be written, members are what `track` was given."""

    event_type: str
    event_name: str
    device_id: str
    session_id: str
    timestamp: str
    properties: Mapping[str, Any]
    event_id: str


class EventRefused(KixoError):
    """The event cannot be sent; `rejection` says why, in the server's terms."""

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.rejection = Rejection(0, field, code, message)


def encode_event(event: TrackedEvent) -> bytes:
    """The event's JSON text; raises `EventRefused`."""
    try:
        text = _encode(event)
        names = event.event_type, event.event_name, event.device_id, event.session_id
        if (
            len("".join(names)) <= _SHORTEST_MAX
            and all(names)
            and type(event.properties) is dict
            and not _may_hold_raw(event.properties)
            and len(text) <= limits.PROPERTIES_BYTES_MAX
            and text.count(b"{") + text.count(b"[") <= limits.PROPERTIES_DEPTH_MAX
        ):
            return text
    except Exception:  # noqa: BLE001 - the edge to values of the app's own classes, which may raise anything
        pass  # Something is odd, and is looked at closely.
    return _encode_closely(event)


def _may_hold_raw(value: Any) -> bool:
    """Whether there can be a `Raw` in it, which the encoder writes unseen."""
    kind = type(value)
    if kind is dict:
        return not _PLAIN.issuperset(map(type, value.values())) and any(map(_may_hold_raw, value.values()))
    if kind in _SEQUENCES:
        return not _PLAIN.issuperset(map(type, value)) and any(map(_may_hold_raw, value))
    return kind not in _PLAIN and kind.__module__ not in _SCALAR_MODULES


def _opened(value: Any) -> Any:
    """The value with what each `Raw` says in its place; raises `ValueError` where one is no JSON."""
    kind = type(value)
    if kind is Raw:
        return _decode_raw(str(value, "utf-8"))
    if isinstance(value, Mapping):
        return {key: _opened(inner) for key, inner in value.items()}
    return [_opened(inner) for inner in value] if kind in _SEQUENCES else value


def decode_event(text: bytes) -> TrackedEvent:
    """The event again, from its JSON text."""
    return _decode(text)


def instant_text(timestamp: object) -> str:
    """ISO 8601 of a `timestamp` argument; a datetime without a zone is UTC, as it is for the server.

    Raises `EventRefused`.
    """
    try:
        text = _moment_text(timestamp) if isinstance(timestamp, datetime) else timestamp
        parse_us(text)  # type: ignore[arg-type]  # what is no text is a TypeError, and that is what we ask
    except Exception:  # noqa: BLE001 - the edge to values of the app's own classes, zones among them
        message = f"`timestamp` is {shown(timestamp)}. Pass a datetime or ISO 8601 such as 2026-04-08T12:00:00Z."
        raise EventRefused("timestamp", "invalid_timestamp", message) from None
    return str(text)


def shown(value: object) -> str:
    """A value of the app's, as it may stand in a message: short, and whatever its own `repr` does."""
    try:
        return f"{value!r:.100}"
    except Exception:  # noqa: BLE001 - the edge to values of the app's own classes, which may raise anything
        return f"of type {type(value).__name__}"


def _moment_text(moment: datetime) -> str:
    if (moment.utcoffset() or timedelta()) % timedelta(minutes=1):
        moment = moment.astimezone(UTC)  # ISO 8601 has no form for the odd seconds of a zone's early years.
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat(timespec="microseconds")


def _encode_closely(event: TrackedEvent) -> bytes:
    for name, length_max in _TEXTS:
        _check_text(name, getattr(event, name), length_max)
    if not isinstance(event.properties, Mapping):
        kind = type(event.properties).__name__
        raise EventRefused("properties", "wrong_type", f"`properties` is of type {kind}. Pass a dict.")
    try:
        opened = structs.replace(event, properties=_opened(event.properties))
        plain = msgspec.convert(_mended(msgspec.to_builtins(opened, str_keys=True, enc_hook=_plain)), TrackedEvent)
        text = _encode(plain)
        _check_properties(plain.properties)
    except RecursionError:
        raise _too_deep() from None
    except Exception as error:
        if isinstance(error, EventRefused):
            raise
        message = f"`properties` cannot be written as JSON: {_reason(error)}. Pass plain values."
        raise EventRefused("properties", "wrong_type", message) from None
    return text


def _reason(error: Exception) -> str:
    """What an error says, which may be an error of the app's."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the edge to the app's own classes, errors among them
        return type(error).__name__


def _check_text(name: str, value: object, length_max: int) -> None:
    if not isinstance(value, str):
        message = f"`{name}` is of type {type(value).__name__}. Pass a str of 1 to {length_max} characters."
        raise EventRefused(name, "wrong_type", message)
    if not value:
        raise EventRefused(name, "empty", f"`{name}` is empty. Pass 1 to {length_max} characters.")
    if len(value) > length_max:
        message = f"`{name}` has {len(value)} characters, {length_max} are allowed. Shorten it."
        raise EventRefused(name, "too_long", message)


def _check_properties(properties: Mapping[str, Any]) -> None:
    size, allowed = len(_encode(properties)), limits.PROPERTIES_BYTES_MAX
    if size > allowed:
        message = f"`properties` is {size} bytes of JSON, {allowed} are allowed. Send less."
        raise EventRefused("properties", "too_large", message)
    if _depth(properties) > limits.PROPERTIES_DEPTH_MAX:
        raise _too_deep()


def _too_deep() -> EventRefused:
    message = f"`properties` is nested more than {limits.PROPERTIES_DEPTH_MAX} deep, or holds itself. Flatten it."
    return EventRefused("properties", "too_deep", message)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def _mended(value: Any) -> Any:
    """The plain value, with U+FFFD for lone surrogates, and surrogates that are a pair joined."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_mended(inner) for inner in value]
    return value


def _plain(value: Any) -> Any:
    """What stands for a value that JSON does not know; raises `TypeError`."""
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    if isinstance(value, Collection):
        return list(value)
    raise TypeError(f"a value of type {type(value).__name__} has no form there")


_encode = json.Encoder(enc_hook=_plain).encode
_decode_raw = json.Decoder().decode
_decode = json.Decoder(TrackedEvent).decode
