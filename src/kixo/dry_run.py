"""What a request would become: each event's row, or why there would be none, by the rules that the loader has.

It starts from what the log would have been given, so whatever ingest changes on the way shows here too. Identity and
clock are the loader's own functions; only the columns of a table are not made.
"""

import re
from typing import Any
from urllib.parse import unquote_plus

from msgspec import Raw, json

from kixo import clock
from kixo.errors import InvalidRequest, RequestError
from kixo.event import BatchAnswer, DryRunAnswer, DryRunEvent, DryRunRow
from kixo.ingest import Admission
from kixo.loader.identities import identify
from kixo.loader.requests import PlacedFrame, Request, decode_frame, stored_properties
from kixo.log import Frame
from kixo.stored import JudgedEvent, RejectedEvent, SentEvent
from kixo.timestamp import format_us, parse_us

NAME = "dry_run"
_encode = json.Encoder().encode
_decode_answer = json.Decoder(BatchAnswer).decode


def asks_for_dry_run(query: str) -> bool:
    """Whether the query of a request asks for a dry run; other members of it are ignored.

    Raises `InvalidRequest` where that cannot be told, or it seems to be meant: storing what was only to be tried would
    be the worse mistake.
    """
    values = [value for name, _, value in (part.partition("=") for part in query.split("&")) if name == NAME]
    meant = [name for name in _names(query) if _letters(name) == _letters(NAME)]
    if meant != [NAME] * len(values):
        shown = next((name for name in meant if name != NAME), NAME)[:64]
        message = f"The query has `{shown}`. Send {NAME}=true to store nothing, or leave it out."
        raise InvalidRequest(message, field=NAME, quoted=shown)
    if set(values) <= {"false"}:
        return False
    if set(values) == {"true"}:
        return True
    shown = min(set(values) - {"true", "false"}, default="both true and false")[:64]
    message = f"`{NAME}` in the query is {shown or 'empty'}. Send {NAME}=true to store nothing, or leave it out."
    raise InvalidRequest(message, field=NAME, quoted=shown)


def _names(query: str) -> list[str]:
    """The names of the query's members, decoded, by whatever some client may take for a separator."""
    return [unquote_plus(part.partition("=")[0]) for part in re.split("[&;]", query)]


def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name.casefold()))


def dry_run_answer(admission: Admission, received_at_us: int, tolerance_us: int) -> bytes:
    """The body of a 200: what the real call would answer, and what would become of each event.

    Raises the `RequestError` that the real call would be answered with where every event is rejected, with the same.
    """
    events = explain(admission, received_at_us, tolerance_us)
    if admission.refusal is not None:
        refusal: RequestError = admission.refusal
        refusal.members |= {"dry_run": True, "events": events}
        raise refusal
    answer = _decode_answer(admission.body)
    return _encode(DryRunAnswer(answer.status, answer.accepted, True, events, answer.rejected, answer.errors))


def explain(admission: Admission, received_at_us: int, tolerance_us: int) -> list[DryRunEvent]:
    """What would become of each event of a request that came at that time, in the order of the batch."""
    if admission.payload is None:
        return []
    kind, accepted, rejected, content = admission.payload
    frame = Frame(0, received_at_us, kind, accepted, rejected, b"".join(content))
    request = decode_frame(PlacedFrame(0, frame))
    return sorted([*_accepted(request, tolerance_us), *map(_rejected, request.rejected)], key=_index)


def _index(event: DryRunEvent) -> int:
    return event.index


def _rejected(event: RejectedEvent) -> DryRunEvent:
    return DryRunEvent(event.index, "rejected", field=event.field, code=event.code, message=event.message)


def _accepted(request: Request, tolerance_us: int) -> list[DryRunEvent]:
    events: list[Any] = request.events
    properties = [stored_properties(event) for event in events]
    identities = identify([request], [event.event_id for event in events], properties)
    return [
        _event(request, place, event, raw, identity.tobytes().hex(), tolerance_us)
        for place, (event, raw, identity) in enumerate(zip(events, properties, identities, strict=True))
    ]


def _event(
    request: Request, place: int, event: SentEvent | JudgedEvent, properties: bytes, identity: str, tolerance_us: int
) -> DryRunEvent:
    client_us = parse_us(event.timestamp)
    sent_us = None if request.sent_at is None else parse_us(request.sent_at)
    timestamp_us, rule = clock.correct(client_us, sent_us, request.received_at_us, tolerance_us)
    row = DryRunRow(
        project_id=request.project_id,
        environment=request.environment,
        bundle_id=request.bundle_id,
        platform=request.platform,
        event_type=event.event_type,
        event_name=event.event_name,
        device_id=event.device_id,
        session_id=event.session_id,
        timestamp=format_us(timestamp_us),
        client_timestamp=format_us(client_us),
        sent_at=None if sent_us is None else format_us(sent_us),
        received_at=format_us(request.received_at_us),
        clock_rule=rule,
        event_id=event.event_id,
        identity=identity,
        properties=Raw(properties),
    )
    return DryRunEvent(
        event.index if isinstance(event, JudgedEvent) else place,
        "accepted",
        row=row,
        clock=clock.in_words(rule, sent_us, request.received_at_us),
        identity_from="content" if event.event_id is None else "event_id",
    )
