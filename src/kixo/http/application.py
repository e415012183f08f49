"""The RSGI application: routes, checks what the head of a request says, and waits where `ingest` must not.

An answer of 200 is given after the log's future is done, never before.
"""

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

from kixo.dry_run import asks_for_dry_run, dry_run_answer
from kixo.errors import (
    Internal,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    RequestError,
    Unavailable,
    UnsupportedMediaType,
)
from kixo.http.answers import COMMON, PREFLIGHT, Answer, failure, limit_headers, limit_policy, success
from kixo.http.body import BodyReader
from kixo.http.pace import RefusalPace
from kixo.http.pages import Page
from kixo.inflate import inflate
from kixo.ingest import LARGE_BYTES, Admission, Ingest, Payload, Place, Refusal
from kixo.key_use import Count
from kixo.limits import Counted, settled
from kixo.log import Appender
from kixo.metric_file import MetricFile
from kixo.metrics import ACK_SECONDS, ANSWERS, EVENTS, REQUESTS
from kixo.refused import RefusedRecord
from kixo.settings import Settings

MEDIA_TYPES = ("application/json", "text/plain")
USUAL_MEDIA_TYPES = frozenset({"", *MEDIA_TYPES})

# A body above this is looked at in a turn of the event loop of its own: small ones wait for one such, not for all.
TURN_BYTES = 64 * 1024


class Log(Protocol):
    """Where defects are told."""

    def error(self, event: str, **values: Any) -> Any:
        """Writes a line."""
        ...


class Notes(NamedTuple):
    """What a worker writes down beside the log: metrics, what keys are used for, and why requests were refused."""

    metrics: MetricFile
    count_use: Count
    refused: RefusedRecord


class Arrival(NamedTuple):
    """When a request's headers arrived: by the wall clock, which may be set back, and by the timer."""

    clock_us: int
    timer_ns: int


class Application:
    """One worker's application. Belongs to the event loop's thread.

    `now_us` is the wall clock in microseconds, `timer_ns` a timer in nanoseconds that only rises.
    """

    def __init__(
        self,
        ingest: Ingest,
        appender: Appender,
        bodies: BodyReader,
        pages: Mapping[str, Page],
        notes: Notes,
        log: Log,
        now_us: Callable[[], int],
        timer_ns: Callable[[], int],
        settings: Settings,
    ) -> None:
        self._ingest = ingest
        self._appender = appender
        self._durability = appender.durability
        self._bodies = bodies
        self._pages = pages
        self._metrics = metrics = notes.metrics
        self._count_use = notes.count_use
        self._refused = notes.refused
        self._log = log
        self._now_us = now_us
        self._timer_ns = timer_ns
        self._bytes_max = settings.body_bytes_max
        self._tolerance_us = round(settings.clock_tolerance_s * 1e6)
        self._rehearsal = ingest.rehearsal()
        self._large = asyncio.Lock()
        self._pace = RefusalPace()
        self._policy = limit_policy(settings.requests_per_second_max)
        self._count_accepted = metrics.counter(EVENTS, ("accepted",))
        self._count_rejected = metrics.counter(EVENTS, ("rejected",))
        self._count_answer = {_status_and_code(label): metrics.counter(REQUESTS, (label,)) for label in ANSWERS}

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answers one request."""
        arrival = Arrival(self._now_us(), self._timer_ns())
        try:
            if scope.path == "/v1/batch" and scope.method == "POST":
                answer = await self._batch(scope, protocol, arrival)
            else:
                answer = await self._other(scope, protocol)
        except Refusal as refusal:
            self._respond(protocol, failure(refusal.error, await settled(refusal.verdict), self._policy))
            self._refused.note(arrival.clock_us, refusal.error, refusal.project_id, refusal.body)
            return
        except RequestError as error:
            self._respond(protocol, failure(error, None, self._policy))
            self._refused.note(arrival.clock_us, error)
            return
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the client gets an answer
            # Neither the path nor the message of the error: both can repeat what the client sent, keys among it.
            where = "".join(traceback.format_tb(error.__traceback__))
            self._log.error("request_failed", error=type(error).__qualname__, where=where)
            answer = failure(Internal("A defect of the server. Repeat the request later."), None, self._policy)
        self._respond(protocol, answer)

    def _respond(self, protocol: Any, answer: Answer) -> None:
        self._count_answer[answer.status, answer.code](1)
        protocol.response_bytes(answer.status, answer.headers, answer.body)

    async def _other(self, scope: Any, protocol: Any) -> Answer:
        if scope.path == "/v1/batch":
            if scope.method == "OPTIONS":
                return Answer(204, "preflight", PREFLIGHT, b"")
            return await self._refuse(protocol, _wrong_method(scope.method, "POST, OPTIONS"))
        page = self._pages.get(scope.path)
        if page is None:
            message = "There is nothing at this path. Send batches to POST /v1/batch."
            return await self._refuse(protocol, NotFound(message))
        if scope.method not in {"GET", "HEAD"}:
            return await self._refuse(protocol, _wrong_method(scope.method, "GET, HEAD"))
        answer = await page(scope.headers)
        return answer if scope.method == "GET" else answer._replace(body=b"")

    async def _refuse(self, protocol: Any, error: RequestError) -> Answer:
        """Answers without looking at the body, which is read all the same so that the sender hears the answer."""
        await self._bodies.drain(protocol)
        return failure(error, None, self._policy)

    async def _batch(self, scope: Any, protocol: Any, arrival: Arrival) -> Answer:
        headers, query = scope.headers, scope.query_string
        if query and await self._asks_for_dry_run(query, protocol):
            return await self._dry_run(headers, protocol, arrival)
        sent = await self._receive(headers, protocol)
        held = [sent]
        try:
            admission = await self._admit(held, headers.get("content-encoding"))
            position = None
            if admission.payload is not None:
                position = await self._store(admission.payload, admission.place, arrival.clock_us)
        except Refusal as refusal:
            # Read the size before the release; a body must not be held while its answer waits.
            size = len(held[-1])
            self._release(held)
            held.clear()
            await self._hold_back(refusal, size)
            raise
        finally:
            self._release(held)
        return self._answer(admission, position, arrival)

    async def _hold_back(self, refusal: Refusal, size: int) -> None:
        """Lets the answer to a large request over the limit wait, so that a flood of them is slowed."""
        if size > LARGE_BYTES and isinstance(refusal.error, RateLimited) and refusal.project_id is not None:
            await asyncio.sleep(self._pace.wait_s(refusal.project_id, self._timer_ns() / 1e9))

    def _receive(self, headers: Any, protocol: Any) -> Coroutine[Any, Any, bytes]:
        """Reads the body as sent, which has to be released; raises `RequestError`."""
        media_type = headers.get("content-type", "")
        if media_type not in USUAL_MEDIA_TYPES and media_type.partition(";")[0].strip().lower() not in MEDIA_TYPES:
            message = f"`Content-Type: {media_type[:64]}` is not supported. Use application/json or text/plain."
            return self._turn_down(protocol, UnsupportedMediaType(message, quoted=media_type[:64]))
        length = headers.get("content-length")
        return self._bodies.read(protocol, None if length is None else int(length))

    async def _turn_down(self, protocol: Any, error: RequestError) -> NoReturn:
        """Raises the error when the body is read, so that the sender hears the answer."""
        await self._bodies.drain(protocol)
        raise error

    async def _asks_for_dry_run(self, query: str, protocol: Any) -> bool:
        try:
            return asks_for_dry_run(query)
        except RequestError as error:
            await self._turn_down(protocol, error)

    async def _dry_run(self, headers: Any, protocol: Any, arrival: Arrival) -> Answer:
        """Checks and answers as `_batch` would, and stores, counts and writes down nothing."""
        verdict = None
        try:
            held = [await self._receive(headers, protocol)]
            try:
                admission = await self._admit_large(self._rehearsal, held, headers.get("content-encoding"))
                verdict = admission.place.verdict
                async with self._large:
                    answer = dry_run_answer(admission, arrival.clock_us, self._tolerance_us)
            finally:
                self._release(held)
        except Refusal as refusal:
            return failure(refusal.error, await settled(refusal.verdict), self._policy)
        except RequestError as error:
            return failure(error, verdict, self._policy)
        return Answer(200, "ok", [*COMMON, *limit_headers(verdict, self._policy)], answer)

    async def _admit(self, held: list[bytes], encoding: str | None) -> Admission:
        sent = held[0]
        # What is compressed can be small here and large a moment later.
        if len(sent) > TURN_BYTES or encoding:
            return await self._admit_large(self._ingest, held, encoding)
        claim = self._ingest.examine(sent)
        counted = self._ingest.ask(claim)
        return self._ingest.finish(claim, counted if isinstance(counted, Counted) else await counted)

    async def _admit_large(self, ingest: Ingest, held: list[bytes], encoding: str | None) -> Admission:
        async with self._large:
            await asyncio.sleep(0)
            claim = ingest.examine(self._inflate(held, encoding))
            counted = ingest.ask(claim)
            if isinstance(counted, Counted):
                return ingest.finish(claim, counted)
        # Others have their turn while the network is waited for.
        known = await counted
        async with self._large:
            await asyncio.sleep(0)
            return ingest.finish(claim, known)

    def _inflate(self, held: list[bytes], encoding: str | None) -> bytes:
        """The body as JSON; what it inflates to counts as held as long as what was sent."""
        if not encoding:
            return held[0]
        body = inflate(held[0], encoding, self._bytes_max)
        self._bodies.hold(body)
        held.append(body)
        return body

    def _release(self, held: list[bytes]) -> None:
        for body in held:
            self._bodies.release(body)

    async def _store(self, payload: Payload, place: Place, received_at_us: int) -> str:
        """Waits until the payload is durable; its position, as `Kixo-Position` tells it."""
        try:
            return "%d:%d" % await self._appender.submit(place.project_id, received_at_us, *payload)  # noqa: UP031 - fast
        except Unavailable as error:
            raise Refusal(error, self._ingest.give_back(place), place.project_id) from None

    def _answer(self, admission: Admission, position: str | None, arrival: Arrival) -> Answer:
        """The answer to a request whose events are durable."""
        accepted = 0
        if admission.payload is not None:
            accepted = admission.payload.accepted
            self._count_accepted(accepted)
            self._count_rejected(admission.payload.rejected)
        self._count_use(admission.place.sender.key, accepted, arrival.clock_us)
        self._metrics.observe(ACK_SECONDS, (self._timer_ns() - arrival.timer_ns) / 1e9)
        if admission.refusal is not None:
            return failure(admission.refusal, admission.place.verdict, self._policy, position)
        return success(admission.body, admission.place.verdict, self._policy, self._durability, position)


def _wrong_method(method: str, allow: str) -> MethodNotAllowed:
    return MethodNotAllowed(f"This path does not take {method[:32]}. Use {allow}.", allow=allow)


def _status_and_code(label: str) -> tuple[int, str]:
    status, code = label.split(" ")
    return int(status), code
