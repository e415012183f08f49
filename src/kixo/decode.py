"""From bytes to events: a fast path for the usual request, and a slow one that judges event by event.

The fast path is one typed decode into `BatchRequest` and a few scans of the whole body. It succeeds only where every
event is sure to be good; whatever it is not sure of goes to the slow path, which gives each event its own verdict.

Four traps of the decoder are closed here. A `Raw` member takes anything, so `properties` has to be shown to be an
object; the decoder does not look for invalid UTF-8 in what it skips; it reports a lone surrogate escape as malformed
JSON; and deep nesting ends in a RecursionError.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np
from msgspec import Raw, defstruct, json

from kixo import event as limits
from kixo.depth import at_any_depth, count_elements, depth_of
from kixo.errors import InvalidJSON, InvalidRequest
from kixo.event import BatchRequest, Event
from kixo.stored import JudgedEvent, RejectedEvent
from kixo.timestamp import parse_us


def _members_of(struct: type[Event] | type[BatchRequest]) -> Callable[[bytes], dict[str, Raw]]:
    """A decoder to the JSON of each member that the struct has, without a look at it; others cost no memory."""
    names = struct.__struct_fields__
    decode = json.Decoder(defstruct(struct.__name__, [(name, Raw, _ABSENT) for name in names], gc=False)).decode

    def read(text: bytes) -> dict[str, Raw]:
        found = decode(text)
        return {name: raw for name in names if len(raw := getattr(found, name))}

    return read


_ABSENT = Raw(b"")
_decode_request = json.Decoder(BatchRequest).decode
_request_members = at_any_depth(_members_of(BatchRequest))
_event_members = _members_of(Event)
_decode_list = json.Decoder(list[Raw]).decode
_decode_text = json.Decoder(str).decode

# Escapes that need a closer look: surrogates, which may be alone, and U+0000.
_ODD_ESCAPE = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_BYTE_POSITION = re.compile(r"\(byte (\d+)\)")
_NUL = "\0"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_BACKSLASH = b"\\"
_OPEN_BRACE, _OPEN_BRACKET = ord("{"), ord("[")
# From here on numpy counts faster than bytes do.
VECTOR_BYTES_MIN = 8 * 1024
# Up to this the events of a batch are counted by taking them apart, which is many times as fast.
COUNTED_WHOLE_BYTES_MAX = 512 * 1024
# Envelopes mostly begin with the project.
LOOKED_AT_BYTES = 1024
_PROJECT_MEMBER = re.compile(rb'"project_id"\s{0,16}:\s{0,16}"([^"\\]{1,128})"')


def decode_request(body: bytes) -> BatchRequest | None:
    """The request, where every event of it is certainly good; None where somebody has to look closer."""
    if not body.isascii() and not _is_utf8(body):
        return None
    if _BACKSLASH in body and _ODD_ESCAPE.search(body) is not None:
        return None
    try:
        request = _decode_request(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return request if _properties_are_good(request.batch) else None


def _is_utf8(body: bytes) -> bool:
    try:
        str(body, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _properties_are_good(batch: list[Event]) -> bool:
    """Whether all properties are objects within their bounds, by a few scans instead of a look at each."""
    if not batch:
        return True
    texts = [event.properties for event in batch]
    # No byte of valid JSON is NUL, so an object begins after each NUL exactly where all are objects.
    joined = b"\0".join([b"", *texts])
    objects, openings, longest = _measure(joined, texts)
    if objects != len(texts) or longest > limits.PROPERTIES_BYTES_MAX:
        return False
    if openings - len(texts) < limits.PROPERTIES_DEPTH_MAX:
        return True
    return all(_is_shallow(bytes(text)) for text in texts)


def _measure(joined: bytes, texts: list[Raw]) -> tuple[int, int, int]:
    """How many objects begin after a NUL, how many brackets open, in strings too, and the longest text."""
    if len(joined) < VECTOR_BYTES_MIN:
        return joined.count(b"\0{"), joined.count(b"{") + joined.count(b"["), max(map(len, texts))
    data = np.frombuffer(joined, np.uint8)
    seams = np.flatnonzero(data == 0)
    # A NUL at the very end would start an empty text, which is no object.
    objects = np.count_nonzero(data[np.minimum(seams + 1, len(data) - 1)] == _OPEN_BRACE)
    openings = np.count_nonzero(data == _OPEN_BRACE) + np.count_nonzero(data == _OPEN_BRACKET)
    return int(objects), int(openings), int(np.diff(seams, append=len(data)).max()) - 1


def _is_shallow(text: bytes) -> bool:
    openings = text.count(b"{") + text.count(b"[")
    return openings <= limits.PROPERTIES_DEPTH_MAX or depth_of(text) <= limits.PROPERTIES_DEPTH_MAX


class OpenedRequest(NamedTuple):
    """A request whose envelope is good and whose events nobody has looked at: `batch` is the JSON of their array."""

    project_id: str
    api_key: str
    bundle_id: str
    platform: str
    environment: str
    sent_at: str | None
    batch: Raw

    def event_count(self) -> int:
        """How many events there are. There can be five million, which as objects take forty times their bytes."""
        if len(self.batch) <= COUNTED_WHOLE_BYTES_MAX:
            return len(_decode_list(self.batch))
        return count_elements(bytes(self.batch))

    @property
    def events(self) -> list[Raw]:
        """The JSON of each event."""
        return _decode_list(self.batch)


def open_request(body: bytes) -> OpenedRequest:
    """Checks JSON and envelope, member by member; raises `InvalidJSON` or `InvalidRequest`."""
    members = _read_members(body)
    return OpenedRequest(
        project_id=_envelope_text(members, "project_id", None),
        api_key=_envelope_text(members, "api_key", None),
        bundle_id=_envelope_text(members, "bundle_id", limits.BUNDLE_ID_LENGTH_MAX),
        platform=_choice(members, "platform", limits.PLATFORMS, None),
        environment=_choice(members, "environment", limits.ENVIRONMENTS, limits.ENVIRONMENT_DEFAULT),
        batch=_envelope_batch(members),
        sent_at=_envelope_instant(members, "sent_at"),
    )


def likely_project(body: bytes) -> str | None:
    """What a body seems to call its project, by a look at its first bytes; whether it does has to be found out."""
    found = _PROJECT_MEMBER.search(body, 0, LOOKED_AT_BYTES)
    return None if found is None else found[1].decode("utf-8", "replace")


def credentials(body: bytes) -> tuple[str, str] | None:
    """Project and key of a request whose envelope may be wrong elsewhere; None where they cannot be told."""
    try:
        members = _read_members(body)
        return _envelope_text(members, "project_id", None), _envelope_text(members, "api_key", None)
    except (InvalidJSON, InvalidRequest):
        return None


def _read_members(body: bytes) -> dict[str, Raw]:
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as error:
        _raise_invalid_json("The body is not UTF-8", error.start)
    body = mend_surrogates(body)
    try:
        return _request_members(body)
    except msgspec.ValidationError:
        _raise_invalid_json("The body is JSON, but not an object", 0)
    except msgspec.DecodeError as error:
        found = _BYTE_POSITION.search(str(error))
        reason = _BYTE_POSITION.sub("", str(error)).strip().rstrip(".")
        _raise_invalid_json(f"The body is not JSON: {reason}", int(found[1]) if found else len(body))


def _raise_invalid_json(reason: str, position: int) -> NoReturn:
    raise InvalidJSON(f"{reason} (at byte {position}). Send one JSON object in UTF-8.", position=position) from None


def mend_surrogates(body: bytes) -> bytes:
    """Lone surrogate escapes become U+FFFD, in place and of the same length, so positions stay true."""
    if _SURROGATE.search(body) is None:
        return body
    # One by one: a body can have two million escapes, and what `sub` makes of them takes forty times its bytes.
    mended = bytearray(body)
    for found in _ESCAPE.finditer(body):
        if found.start(1) >= 0:
            mended[found.start() : found.end()] = b"\\ufffd"
    return bytes(mended)


def _envelope_text(members: dict[str, Raw], name: str, length_max: int | None) -> str:
    value = _text_of(members.get(name))
    if value is None:
        _raise_envelope(name, "is missing" if name not in members else "is not a string", "Send a string.")
    if length_max is not None and not 1 <= len(value) <= length_max:
        _raise_envelope(name, f"has {len(value)} characters", f"Send 1 to {length_max}.")
    return value.replace(_NUL, _REPLACEMENT)


def _choice(members: dict[str, Raw], name: str, choices: tuple[str, ...], default: str | None) -> str:
    raw = members.get(name)
    if default is not None and _is_absent(raw):
        return default
    value = _text_of(raw)
    if value not in choices:
        shown = None if raw is None else _shown(raw)
        wrong = "is missing" if shown is None else f"is {shown}"
        _raise_envelope(name, wrong, f"It has to be one of {', '.join(choices)}.", shown)
    return str(value)


def _envelope_batch(members: dict[str, Raw]) -> Raw:
    raw = members.get("batch")
    if raw is None:
        _raise_envelope("batch", "is missing", "Send an array of events.")
    if not bytes(raw).startswith(b"["):
        _raise_envelope("batch", "is not an array", "Send an array of events.")
    return raw


def _envelope_instant(members: dict[str, Raw], name: str) -> str | None:
    raw = members.get(name)
    if raw is None or _is_absent(raw):
        return None
    value = _text_of(raw)
    if value is None or not _is_instant(value):
        shown = _shown(raw)
        _raise_envelope(name, f"is {shown}", "Send ISO 8601 such as 2026-04-08T12:00:01Z, or leave it out.", shown)
    return value


def _raise_envelope(name: str, wrong: str, advice: str, shown: str | None = None) -> NoReturn:
    raise InvalidRequest(f"`{name}` {wrong}. {advice}", field=name, quoted=shown)


def _text_of(raw: Raw | None) -> str | None:
    try:
        return None if raw is None else _decode_text(raw)
    except msgspec.ValidationError:
        return None


def _is_instant(text: str) -> bool:
    try:
        parse_us(text)
    except ValueError:
        return False
    return True


def _shown(raw: Raw) -> str:
    """A value as it may stand in a message: short, and never a control character."""
    text = bytes(raw)[:200].decode("utf-8", "replace")
    return text if len(text) <= 64 else text[:61] + "…"


class Verdict(NamedTuple):
    """The events of a batch that are taken, and those that are not."""

    accepted: list[JudgedEvent]
    rejected: list[RejectedEvent]


class _Refused(Exception):
    """Why one event is not taken: the member, the stable code and the message."""

    def __init__(self, field: str | None, code: str, message: str) -> None:
        super().__init__(message)
        self.field, self.code, self.message = field, code, message


def judge_events(events: list[Raw]) -> Verdict:
    """Looks at each event by itself, so that a bad one never costs a good one."""
    verdict = Verdict([], [])
    for index, raw in enumerate(events):
        try:
            verdict.accepted.append(_judge_event(index, raw))
        except _Refused as refused:
            text = bytes(raw).decode()
            verdict.rejected.append(RejectedEvent(index, refused.field, refused.code, refused.message, text))
    return verdict


_TEXT_MEMBERS = (
    ("event_type", limits.EVENT_TYPE_LENGTH_MAX),
    ("event_name", limits.EVENT_NAME_LENGTH_MAX),
    ("device_id", limits.DEVICE_ID_LENGTH_MAX),
    ("session_id", limits.SESSION_ID_LENGTH_MAX),
)


def _judge_event(index: int, raw: Raw) -> JudgedEvent:
    try:
        members = _event_members(raw)
    except msgspec.ValidationError:
        raise _Refused(None, "invalid_event", f"The event is {_shown(raw)}. Send a JSON object.") from None
    texts = (_event_text(members, name, length_max) for name, length_max in _TEXT_MEMBERS)
    event_type, event_name, device_id, session_id = texts
    timestamp = _event_timestamp(members)
    properties = _event_properties(members)
    event_id = None
    if not _is_absent(members.get("event_id")):
        event_id = _event_text(members, "event_id", limits.EVENT_ID_LENGTH_MAX)
    return JudgedEvent(index, event_type, event_name, device_id, session_id, timestamp, properties, event_id)


def _is_absent(raw: Raw | None) -> bool:
    return raw is None or bytes(raw) == b"null"


def _event_text(members: dict[str, Raw], name: str, length_max: int) -> str:
    raw = members.get(name)
    if raw is None:
        raise _Refused(name, "missing", f"`{name}` is missing. Send a string of 1 to {length_max} characters.")
    value = _text_of(raw)
    if value is None:
        raise _Refused(name, "wrong_type", f"`{name}` is {_shown(raw)}, not a string. Send a string.")
    if not value:
        raise _Refused(name, "empty", f"`{name}` is empty. Send 1 to {length_max} characters.")
    if len(value) > length_max:
        raise _Refused(name, "too_long", f"`{name}` has {len(value)} characters, {length_max} are allowed. Shorten it.")
    return value.replace(_NUL, _REPLACEMENT)


def _event_timestamp(members: dict[str, Raw]) -> str:
    raw = members.get("timestamp")
    if raw is None:
        raise _Refused("timestamp", "missing", "`timestamp` is missing. Send ISO 8601 such as 2026-04-08T12:00:00Z.")
    value = _text_of(raw)
    if value is None or not _is_instant(value):
        message = f"`timestamp` is {_shown(raw)}, not ISO 8601. Send a string such as 2026-04-08T12:00:00Z."
        raise _Refused("timestamp", "invalid_timestamp", message)
    return value


def _event_properties(members: dict[str, Raw]) -> str:
    raw = members.get("properties")
    if _is_absent(raw):
        return "{}"
    text = bytes(raw or b"")
    if not text.startswith(b"{"):
        raise _Refused(
            "properties", "wrong_type", f"`properties` is {_shown(Raw(text))}, not an object. Send an object."
        )
    if not _is_shallow(text):
        message = f"`properties` is nested more than {limits.PROPERTIES_DEPTH_MAX} deep. Flatten it."
        raise _Refused("properties", "too_deep", message)
    if len(text) > limits.PROPERTIES_BYTES_MAX:
        allowed = limits.PROPERTIES_BYTES_MAX
        message = f"`properties` is {len(text)} bytes of JSON, {allowed} are allowed. Send less."
        raise _Refused("properties", "too_large", message)
    return text.decode()
