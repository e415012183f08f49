"""What a watcher wants to see, and how to tell that a payload cannot have it without decoding it.

A payload is JSON, in which a text stands as it is, unless somebody wrote letters of it as escapes (`\\u00e9`, `\\/`).
So a payload may have a text where it has its bytes, or where it has an escape of one of its letters; only such a
payload is decoded. In an event that was rejected, JSON stands within JSON: its escapes have another backslash before
them, and its quotes one, which is why quotes around a text are only looked for where every event was taken.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from kixo.event import ENVIRONMENT_DEFAULT
from kixo.loader.requests import Request
from kixo.log.segment import FrameHead
from kixo.stored import AS_SENT, JudgedEvent, RejectedEvent, SentEvent

OUTCOMES = ("accepted", "duplicate", "rejected", "refused")
"""What can become of an event, in the words of a filter; what is stored was accepted."""

_SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode

AnyEvent = SentEvent | JudgedEvent | RejectedEvent


class Filter(Struct, frozen=True, kw_only=True):
    """What is wanted; None: anything. `name` is a part of a name, the others are whole, all as they are written.

    `strangers`: refused requests, too, of which nobody can tell whose they are.
    """

    project: str | None = None
    environment: str | None = None
    platform: str | None = None
    type: str | None = None
    name: str | None = None
    device: str | None = None
    outcome: str | None = None
    strangers: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether it asks for something that only a look at each event tells."""
        return (self.type or self.name or self.device) is not None


class _Needle(NamedTuple):
    """A text to look for: its bytes, the same between quotes, and a pattern of the escapes of its letters."""

    plain: bytes
    quoted: bytes
    escape: Callable[..., object]

    def may_be_in(self, data: bytes, head: FrameHead) -> bool:
        """Whether the payload can have the text."""
        plain = self.quoted if head.kind == AS_SENT else self.plain
        if data.find(plain, head.start, head.end) >= 0:
            return True
        # One byte is found many times faster than a pattern.
        return data.find(b"\\", head.start, head.end) >= 0 and self.escape(data, head.start, head.end) is not None


def _needle(text: str, *, whole: bool) -> _Needle:
    plain = text.encode("utf-8", "surrogatepass")
    return _Needle(plain, b'"' + plain + b'"' if whole else plain, re.compile(_escapes(text)).search)


def _escapes(text: str) -> bytes:
    """A pattern of every escape that can stand for a letter of the text, or begin to."""
    codes = {text[place].encode("utf-16-be", "surrogatepass")[:2].hex() for place in range(len(text))}
    short = [re.escape(_SHORT_ESCAPES[letter]) for letter in sorted(set(text) & set(_SHORT_ESCAPES))]
    return rb"\\(?:%s)" % "|".join([f"u(?i:{code})" for code in sorted(codes)] + short).encode()


class Search:
    """A filter made ready to be asked often."""

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        # The default is rarely written, so its absence says nothing.
        environment = None if wanted.environment == ENVIRONMENT_DEFAULT else wanted.environment
        self._envelope = [_needle(text, whole=True) for text in (wanted.project, environment, wanted.platform) if text]
        self._event = [_needle(text, whole=True) for text in (wanted.device, wanted.type) if text]
        self._event += [_needle(wanted.name, whole=False)] if wanted.name else []
        self._takes_accepted = wanted.outcome in {None, "accepted", "duplicate"}
        self._takes_rejected = wanted.outcome in {None, "rejected"}

    def count(self, head: FrameHead) -> int:
        """How many events of a frame can be wanted, by their outcomes alone."""
        return head.accepted * self._takes_accepted + head.rejected * self._takes_rejected

    def may_be_of(self, data: bytes, head: FrameHead) -> bool:
        """Whether the request can be of the project, environment and platform."""
        return all(needle.may_be_in(data, head) for needle in self._envelope)

    def may_have(self, data: bytes, head: FrameHead) -> bool:
        """Whether an event of the request can have the device, type and name."""
        return all(needle.may_be_in(data, head) for needle in self._event)

    def may_have_in(self, data: bytes) -> bool:
        """Whether any request in the bytes can: one look that spares many, for most texts are rare."""
        return all(needle.plain in data or needle.escape(data) is not None for needle in self._event)

    def is_of(self, request: Request) -> bool:
        """Whether a request is of the project, environment and platform."""
        wanted = self.wanted
        return (
            wanted.project in {None, request.project_id}
            and wanted.environment in {None, request.environment}
            and wanted.platform in {None, request.platform}
        )

    def takes(self, event: AnyEvent) -> bool:
        """Whether an event of such a request is wanted."""
        rejected = isinstance(event, RejectedEvent)
        if self.wanted.outcome is not None and (self.wanted.outcome == "rejected") != rejected:
            return False
        if not self.wanted.is_narrow:
            return True
        described = describe(event)
        return (
            self.wanted.type in {None, described.type}
            and self.wanted.device in {None, described.device}
            and (self.wanted.name is None or self.wanted.name in (described.name or ""))
        )


def wants_refused(wanted: Filter, project: str | None, environment: str | None, platform: str | None) -> bool:
    """Whether a refused request is wanted, of which some may not be known; its events nobody has looked at."""
    return (
        wanted.outcome in {None, "refused"}
        and not wanted.is_narrow
        and (wanted.project in {None, project} or (project is None and wanted.strangers))
        and (environment is None or wanted.environment in {None, environment})
        and (platform is None or wanted.platform in {None, platform})
    )


class Described(NamedTuple):
    """Type, name and device of an event, None where a rejected one has no such member."""

    type: str | None
    name: str | None
    device: str | None


def describe(event: AnyEvent) -> Described:
    """What an event says that it is; of a rejected one as far as it can be told."""
    if not isinstance(event, RejectedEvent):
        return Described(event.event_type, event.event_name, event.device_id)
    try:
        members = _decode_members(event.event.encode())
    except (ValueError, RecursionError):
        return Described(None, None, None)
    return Described(*(_text(members.get(name)) for name in ("event_type", "event_name", "device_id")))


def _text(raw: Raw | None) -> str | None:
    """A member's text, or, where it is none, its JSON."""
    if raw is None:
        return None
    try:
        return _decode_text(raw)
    except ValueError:
        return bytes(raw).decode("utf-8", "replace")
