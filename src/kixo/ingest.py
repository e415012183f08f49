"""The one path in: authenticate, limit, judge, and make ready for the log.

Everything here is synchronous and touches no disk. `Ingest.admit` turns a body into an `Admission`: the frame that
has to become durable and the answer that may be given once it is. The HTTP edge does the waiting.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from msgspec import json

from kixo import decode, stored
from kixo.errors import (
    InvalidJSON,
    InvalidRequest,
    NoValidEvents,
    RateLimited,
    RequestError,
    TooManyEvents,
    Unauthorized,
)
from kixo.event import ERRORS_SHOWN_MAX, BatchAnswer, BatchRequest, Rejection
from kixo.limits import Glance, RequestLimit, Verdict
from kixo.log import Buffers
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot
from kixo.stored import JudgedBatch, RejectedEvent

_encode = json.Encoder().encode

# Up to this size a copy is cheaper than writing a body in three pieces.
COPY_BYTES_MAX = 16 * 1024
# From this size on it is worth a look whether the project has a place left before the events are decoded.
LARGE_BYTES = 16 * 1024

_KEY_MEMBER = b'"api_key"'
_ESCAPED_LETTER = re.compile(rb"\\u00([2-7][0-9a-fA-F])")


class Payload(NamedTuple):
    """What the log is to keep of a request; see `kixo.stored` for `kind` and `content`."""

    kind: int
    accepted: int
    rejected: int
    content: Buffers


class Place(NamedTuple):
    """The place in a project's rolling second that a request has taken, at a time of the monotonic clock."""

    project_id: str
    sender: Sender
    taken_ns: int
    verdict: Verdict


class Admission(NamedTuple):
    """A request that passed every check but storage.

    `payload` is None where there is nothing to store. `refusal` is the error to answer with after storing, where
    every event was rejected; else the answer is 200 with `body`.
    """

    payload: Payload | None
    body: bytes
    refusal: RequestError | None
    place: Place


class Refusal(Exception):
    """A request error together with the state of the project's limit, where the project is known.

    `project_id` is what the request calls its project, where that could be read, whoever sent it; `body` is what could
    not be read.
    """

    def __init__(
        self, error: RequestError, verdict: Verdict | None, project_id: str | None = None, body: bytes | None = None
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.verdict = verdict
        self.project_id = project_id
        self.body = body


class Ingest:
    """Decides about requests. `snapshot` gives the current registry, `now_ns` the monotonic clock in nanoseconds."""

    def __init__(
        self, snapshot: Callable[[], Snapshot], limit: RequestLimit, now_ns: Callable[[], int], settings: Settings
    ) -> None:
        self._snapshot = snapshot
        self._limit = limit
        self._now_ns = now_ns
        self._settings = settings
        self._events_max = settings.events_per_batch_max
        self._requests_max = settings.requests_per_second_max

    def admit(self, body: bytes) -> Admission:
        """Checks a body in the contract's order: JSON, envelope, key, event count, rate, events.

        Raises `Refusal`.
        """
        if len(body) > LARGE_BYTES:
            self._refuse_early(body)
        request = decode.decode_request(body)
        if request is None:
            return self._admit_judged(body)
        sender = self._authenticate(request.project_id, request.api_key)
        place = self._take_place(request.project_id, sender, len(request.batch))
        content = _without_key(body, request)
        if content is None:
            return self._judge(decode.open_request(body), place)
        count = len(request.batch)
        payload = Payload(stored.AS_SENT, count, 0, content) if count else None
        return Admission(payload, b'{"status":"ok","accepted":%d}' % count, None, place)

    def rehearsal(self) -> "Ingest":
        """One that decides alike and takes no place in the limit."""
        return Ingest(self._snapshot, Glance(self._limit), self._now_ns, self._settings)

    def give_back(self, place: Place) -> Verdict:
        """Frees the place of a request that could not be stored: what was refused does not count."""
        now_ns = self._now_ns()
        self._limit.retract(place.sender.project, place.taken_ns, now_ns)
        return self._limit.peek(place.sender.project, now_ns)

    def _refuse_early(self, body: bytes) -> None:
        """Refuses a large request of a project that has no place left, for a small part of what decoding it costs.

        The checks are the same, in the same order; the events are counted and not looked at. Returns where the usual
        way has to say it, which a request that names its project late or in another writing goes anyway.
        """
        likely = self._snapshot().projects.get(decode.likely_project(body) or "")
        if likely is None or self._limit.peek(likely, self._now_ns()).admitted:
            return
        try:
            request = decode.open_request(body)
        except (InvalidJSON, InvalidRequest):
            return
        sender = self._authenticate(request.project_id, request.api_key)
        if not self._limit.peek(sender.project, self._now_ns()).admitted:
            # Should a place have become free just now, somebody else may have it.
            self.give_back(self._take_place(request.project_id, sender, request.event_count()))

    def _admit_judged(self, body: bytes) -> Admission:
        try:
            request = decode.open_request(body)
        except InvalidRequest as error:
            raise Refusal(error, self._state_of_sender(body), body=body) from None
        except InvalidJSON as error:
            raise Refusal(error, None, body=body) from None
        sender = self._authenticate(request.project_id, request.api_key)
        return self._judge(request, self._take_place(request.project_id, sender, request.event_count()))

    def _state_of_sender(self, body: bytes) -> Verdict | None:
        """The limit of a known project whose envelope is wrong; the request does not count."""
        found = decode.credentials(body)
        project = self._snapshot().authenticate(*found) if found is not None else None
        return None if project is None else self._limit.peek(project, self._now_ns())

    def _authenticate(self, project_id: str, api_key: str) -> Sender:
        sender = self._snapshot().identify(project_id, api_key)
        if sender is None:
            message = "The project and the API key do not belong together. Check both, and that the key is not revoked."
            raise Refusal(Unauthorized(message), None, project_id)
        return sender

    def _take_place(self, project_id: str, sender: Sender, events: int) -> Place:
        if events > self._events_max:
            message = f"The batch has {events} events, {self._events_max} are allowed. Split it; do not repeat it."
            error = TooManyEvents(message, limit=self._events_max, actual=events)
            raise Refusal(error, self._limit.peek(sender.project, self._now_ns()), project_id)
        now_ns = self._now_ns()
        verdict = self._limit.admit(sender.project, now_ns)
        if not verdict.admitted:
            message = (
                f"The project has made {self._requests_max} requests in the last second, which is the limit. "
                "Wait for Retry-After, then repeat; send more events in each request."
            )
            raise Refusal(RateLimited(message, retry_after_s=verdict.retry_after_s), verdict, project_id)
        return Place(project_id, sender, now_ns, verdict)

    def _judge(self, request: decode.OpenedRequest, place: Place) -> Admission:
        accepted, rejected = decode.judge_events(request.events)
        if not accepted and not rejected:
            return Admission(None, b'{"status":"ok","accepted":0}', None, place)
        batch = JudgedBatch(
            request.project_id,
            request.environment,
            request.bundle_id,
            request.platform,
            request.sent_at,
            accepted,
            rejected,
        )
        content = blank(stored.encode_judged(batch), request.api_key.encode())
        payload = Payload(stored.JUDGED, len(accepted), len(rejected), [content])
        errors = [_told(event) for event in rejected[:ERRORS_SHOWN_MAX]]
        refusal = None if accepted else _no_valid_events(rejected, errors)
        return Admission(payload, _encode(BatchAnswer("ok", len(accepted), len(rejected), errors)), refusal, place)


def _told(event: RejectedEvent) -> Rejection:
    return Rejection(event.index, event.field, event.code, event.message)


def _no_valid_events(rejected: list[RejectedEvent], errors: list[Rejection]) -> NoValidEvents:
    message = f"All {len(rejected)} events were rejected. The first one: {rejected[0].message}"
    return NoValidEvents(message, accepted=0, rejected=len(rejected), errors=errors)


def _without_key(body: bytes, request: BatchRequest) -> Buffers | None:
    """The body with its API key blanked wherever it stands.

    None where the key is not there letter by letter, or where the member may stand twice: only the last one was
    looked at, and the others can be keys as well.
    """
    key = request.api_key.encode()
    start = body.find(key)
    if start < 0 or _may_escape(body, _KEY_MEMBER + key) or body.rfind(_KEY_MEMBER) != body.find(_KEY_MEMBER):
        return None
    end = start + len(key)
    # Searching from the end is the faster of the two, and finds the same where the key stands once.
    if body.rfind(key) != start:
        return [blank(body, key)]
    if len(body) < COPY_BYTES_MAX:
        return [body[:start] + b"*" * len(key) + body[end:]]
    view = memoryview(body)
    return [view[:start], b"*" * len(key), view[end:]]


def blank(text: bytes, key: bytes) -> bytes:
    """The text with stars for the key, however JSON, or JSON within JSON, writes it."""
    stars = b"*" * len(key)
    if not _may_escape(text, key):
        return text.replace(key, stars)
    return re.sub(b"".join(map(_writings, key)), stars, text)


def _may_escape(text: bytes, key: bytes) -> bool:
    """Whether letters of the key are escaped somewhere; cheap for escapes of other letters, which are usual."""
    if b"\\" not in text:
        # One byte is found many times faster than two.
        return False
    if b"/" in key and b"\\/" in text:
        return True
    return b"\\u00" in text and any(int(found[1], 16) in key for found in _ESCAPED_LETTER.finditer(text))


def _writings(letter: int) -> bytes:
    plain = re.escape(bytes([letter]))
    quoted = rb"\\*" if letter == ord("/") else b""
    return rb"(?:%s%s|\\+u00(?i:%02x))" % (quoted, plain, letter)
