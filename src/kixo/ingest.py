"""The one path in: authenticate, limit, judge, and make ready for the log.

Everything here is synchronous and touches no disk. A body becomes an `Admission`, the frame that has to become durable
and the answer that may be given once it is, in three steps: `examine` decodes and authenticates, `ask` asks for a place
in the project's limit, `finish` makes ready what the log is to keep. A limit that is asked over a network answers
`ask` with a future; the HTTP edge does the waiting.
"""

import re
from asyncio import Future
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct, json

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
from kixo.limits import Counted, Glance, Reply, RequestLimit, Verdict
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


class Claim(Struct, frozen=True, gc=False):
    """A request of a known sender that asks for a place in its project's limit.

    `early` says that its events were counted and not decoded, because a place is unlikely.
    """

    body: bytes
    request: BatchRequest | decode.OpenedRequest
    sender: Sender
    early: bool = False


class Place(Struct, frozen=True, gc=False):
    """The place in a project's rolling second that a request has taken, at a time of the limit's clock."""

    project_id: str
    sender: Sender
    taken: int
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
    """A request error together with the state of the project's limit, where the project is known, perhaps yet to come.

    `project_id` is what the request calls its project, where that could be read, whoever sent it; `body` is what could
    not be read.
    """

    def __init__(
        self,
        error: RequestError,
        verdict: Reply | None,
        project_id: str | None = None,
        body: bytes | None = None,
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
        """All three steps, for a limit that answers at once. Raises `Refusal`."""
        claim = self.examine(body)
        counted = self.ask(claim)
        assert isinstance(counted, Counted)
        return self.finish(claim, counted)

    def examine(self, body: bytes) -> Claim:
        """Checks a body in the contract's order as far as its number of events: JSON, envelope, key, event count.

        Raises `Refusal`.
        """
        if len(body) > LARGE_BYTES and (early := self._examine_early(body)) is not None:
            return early
        request = decode.decode_request(body)
        if request is None:
            return self._examine_judged(body)
        sender = self._authenticate(request.project_id, request.api_key)
        if len(request.batch) > self._events_max:
            raise self._too_many(request.project_id, sender, len(request.batch))
        return Claim(body, request, sender)

    def ask(self, claim: Claim) -> Counted | Future[Counted]:
        """Asks for a place in the limit of the claim's project."""
        now_ns = self._now_ns()
        verdict = self._limit.admit(claim.sender.project, now_ns)
        return Counted(verdict, now_ns) if isinstance(verdict, Verdict) else verdict

    def finish(self, claim: Claim, counted: Counted) -> Admission:
        """What the log is to keep of a counted request, and its answer; raises `Refusal` where it has no place.

        Judges the events, which is the last of the checks before storage.
        """
        request, (verdict, at) = claim.request, counted
        if not verdict.admitted:
            raise self._rate_limited(request.project_id, verdict)
        place = Place(request.project_id, claim.sender, at, verdict)
        if claim.early:
            request = decode.decode_request(claim.body) or request
        if isinstance(request, decode.OpenedRequest):
            return self._judge(request, place)
        content = _without_key(claim.body, request)
        if content is None:
            return self._judge(decode.open_request(claim.body), place)
        count = len(request.batch)
        payload = Payload(stored.AS_SENT, count, 0, content) if count else None
        return Admission(payload, b'{"status":"ok","accepted":%d}' % count, None, place)

    def rehearsal(self) -> "Ingest":
        """One that decides alike and takes no place in the limit."""
        return Ingest(self._snapshot, Glance(self._limit), self._now_ns, self._settings)

    def give_back(self, place: Place) -> Reply:
        """Frees the place of a request that could not be stored: what was refused does not count."""
        now_ns = self._now_ns()
        self._limit.retract(place.sender.project, place.taken, now_ns)
        return self._limit.peek(place.sender.project, now_ns)

    def _examine_early(self, body: bytes) -> Claim | None:
        """A large request of a project that has no place left, for a small part of what decoding it costs.

        The checks are the same, in the same order; the events are counted and not looked at. None where the usual way
        has to say it, which a request that names its project late or in another writing goes anyway.
        """
        likely = self._snapshot().projects.get(decode.likely_project(body) or "")
        if likely is None or not self._limit.is_full(likely, self._now_ns()):
            return None
        try:
            request = decode.open_request(body)
        except (InvalidJSON, InvalidRequest):
            return None
        return self._claim(body, request, early=True)

    def _examine_judged(self, body: bytes) -> Claim:
        try:
            request = decode.open_request(body)
        except InvalidRequest as error:
            raise Refusal(error, self._state_of_sender(body), body=body) from None
        except InvalidJSON as error:
            raise Refusal(error, None, body=body) from None
        return self._claim(body, request)

    def _claim(self, body: bytes, request: decode.OpenedRequest, *, early: bool = False) -> Claim:
        sender, events = self._authenticate(request.project_id, request.api_key), request.event_count()
        if events > self._events_max:
            raise self._too_many(request.project_id, sender, events)
        return Claim(body, request, sender, early)

    def _state_of_sender(self, body: bytes) -> Reply | None:
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

    def _too_many(self, project_id: str, sender: Sender, events: int) -> Refusal:
        message = f"The batch has {events} events, {self._events_max} are allowed. Split it; do not repeat it."
        error = TooManyEvents(message, limit=self._events_max, actual=events)
        return Refusal(error, self._limit.peek(sender.project, self._now_ns()), project_id)

    def _rate_limited(self, project_id: str, verdict: Verdict) -> Refusal:
        message = (
            f"The project has made {self._requests_max} requests in the last second, which is the limit. "
            "Wait for Retry-After, then repeat; send more events in each request."
        )
        return Refusal(RateLimited(message, retry_after_s=verdict.retry_after_s), verdict, project_id)

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
