"""What the contract says to a request: the server's own code decides, with one project and no limit of requests."""

from json import loads
from typing import Any, NamedTuple

from msgspec import Raw, json

from kixo import decode
from kixo.conformance.task import KEY, PROJECT
from kixo.conformance.trace import Seen
from kixo.errors import NoValidEvents, RequestError, UnsupportedMediaType
from kixo.event import ERRORS_SHOWN_MAX, BatchAnswer, Rejection
from kixo.identity import event_id_digest, fingerprint_digest
from kixo.inflate import inflate, too_large
from kixo.ingest import Ingest, Refusal
from kixo.limits import Unlimited
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash

SETTINGS = Settings()
MEDIA_TYPES = ("", "application/json", "text/plain")
_encode = json.Encoder().encode
_members = json.Decoder(dict[str, Raw]).decode


class Opened(NamedTuple):
    """A request that the contract takes: its envelope, its events, and why some of them are rejected, by place."""

    envelope: dict[str, Any]
    events: list[Seen]
    rejections: dict[int, Rejection]


def unpack(data: bytes, media_type: str, encoding: str) -> bytes:
    """The body without its encoding; raises the `RequestError` that the server would answer with."""
    if media_type.partition(";")[0].strip().lower() not in MEDIA_TYPES:
        raise UnsupportedMediaType(f"`Content-Type: {media_type[:64]}` is not supported.")
    if len(data) > SETTINGS.body_bytes_max:
        raise too_large(SETTINGS.body_bytes_max, len(data))
    return inflate(data, encoding, SETTINGS.body_bytes_max)


def judge(body: bytes) -> Opened:
    """Looks at a body as the server does; raises the `RequestError` that it would answer with."""
    snapshot = Snapshot(1, {PROJECT: 1}, {key_hash(KEY): Sender(1, 1, key_hash(KEY))})
    try:
        Ingest(lambda: snapshot, Unlimited(), lambda: 0, SETTINGS).admit(body)
    except Refusal as refusal:
        raise refusal.error from None
    opened = decode.open_request(body)
    rejected = decode.judge_events(opened.events).rejected
    envelope = {name: getattr(opened, name) for name in opened._fields if name != "batch"}
    rejections = {event.index: Rejection(event.index, event.field, event.code, event.message) for event in rejected}
    return Opened(envelope, [_seen(raw, opened) for raw in opened.events], rejections)


def answer(count: int, rejections: dict[int, Rejection]) -> tuple[int, bytes]:
    """Status and body of the answer to a request of `count` events of which some are rejected."""
    accepted, errors = count - len(rejections), list(rejections.values())[:ERRORS_SHOWN_MAX]
    if rejections and not accepted:
        message = f"All {count} events were rejected. The first one: {errors[0].message}"
        return failure(NoValidEvents(message, accepted=0, rejected=count, errors=errors))
    return 200, _encode(BatchAnswer("ok", accepted, len(rejections), errors))


def failure(error: RequestError) -> tuple[int, bytes]:
    """Status and body of an answer that is an error."""
    return error.status, _encode(error.answer())


def _seen(raw: Raw, request: decode.OpenedRequest) -> Seen:
    """The event as the checks look at it. What is not even an object is an event without members."""
    try:
        # Of the two decoders the one that knows numbers beyond a double.
        members: dict[str, Any] = loads(bytes(raw))
        texts = _members(raw)
    except (ValueError, RecursionError):
        return Seen(None, bytes(raw), {})
    if not isinstance(members, dict):
        return Seen(None, bytes(raw), {})
    properties = members.get("properties")
    number = properties.get("n") if isinstance(properties, dict) else None
    return Seen(number if isinstance(number, int) else None, _identity(members, texts, request), members)


def _identity(members: dict[str, Any], texts: dict[str, Raw], request: decode.OpenedRequest) -> bytes:
    """By what the server would know the event again, within its project and environment."""
    if isinstance(members.get("event_id"), str):
        return event_id_digest(members["event_id"])
    device, session, kind, name, timestamp = (
        str(members.get(member)) for member in ("device_id", "session_id", "event_type", "event_name", "timestamp")
    )
    properties = bytes(texts.get("properties", b"{}"))
    return fingerprint_digest((request.bundle_id, request.platform, device, session, kind, name, timestamp, properties))
