"""One batch until each of its events is settled: repeated while that can help, split where it was too large.

What an answer means, how long to wait and how a request travels are the client's rules (`kixo.client`); here is what an
import makes of them. It differs in two things: a request has no `sent_at`, so that old timestamps are kept as they are,
and it gives up after `patience_s` without success, because somebody is there to start it again.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import Raw, json

from kixo.client.answers import Again, Delivered, Held, Outcome, Refused, TooLarge, backoff_s
from kixo.client.sender import COMPRESSED, attempt, compress
from kixo.client.surroundings import Surroundings, Transport
from kixo.decode import judge_events
from kixo.errors import SendFailed
from kixo.event import Rejection
from kixo.send.ledger import Entry, Refusal

RETRY_S_MAX = 10.0
RETRY_AFTER_S_MAX = 300.0


class Batch(NamedTuple):
    """Events of one request: its environment, bundle and platform as JSON text, and the events."""

    envelope: tuple[bytes, bytes, bytes]
    entries: Sequence[Entry]


class Target(NamedTuple):
    """Where to send: the address, the project and its key."""

    url: str
    project_id: str
    api_key: str


class Stopped(Exception):
    """The whole import ends, so this batch does not wait any longer."""


class Courier:
    """Delivers batches over one connection. `stop` ends every wait. Belongs to one thread."""

    def __init__(
        self, target: Target, timeout_s: float, patience_s: float, stop: threading.Event, outside: Surroundings
    ):
        self._head = json.encode({"project_id": target.project_id, "api_key": target.api_key})[:-1]
        self._transport: Transport = outside.open_transport(target.url, timeout_s)
        self._patience_s = patience_s
        self._stop = stop
        self._outside = outside

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def deliver(self, batch: Batch, settle: Callable[[Batch, list[Refusal]], None]) -> None:
        """Sends a batch; `settle` hears of each part of it that is done with. Raises `SendFailed` and `Stopped`."""
        outcome = self._insist(batch)
        match outcome:
            case Delivered():
                settle(batch, refusals_of(batch, outcome))
            case TooLarge(code, message, _):
                if len(batch.entries) == 1:
                    settle(batch, [refusal(batch, 0, Rejection(0, None, code, message))])
                    return
                middle = len(batch.entries) // 2
                for part in (batch.entries[:middle], batch.entries[middle:]):
                    self.deliver(batch._replace(entries=part), settle)
            case Refused(code, message, rejections):
                known = {found.index: found for found in rejections}
                settle(batch, _all_refused(batch, known, code, message))

    def _insist(self, batch: Batch) -> Outcome:
        """Sends the same request until its answer is final."""
        body = compress(self._body(batch))
        began_s, attempts = self._outside.monotonic_s(), 0
        while True:
            outcome = self._attempt(body)
            if isinstance(outcome, Held):
                raise SendFailed(
                    f"The server does not take events: {outcome.message}", "Check address, project and key."
                )
            if not isinstance(outcome, Again):
                return outcome
            if self._outside.monotonic_s() - began_s > self._patience_s:
                raise SendFailed(
                    f"For {self._patience_s:g} seconds the server has not taken a batch: {outcome.reason}.",
                    "Run the same command again, when it does, to go on from here.",
                )
            attempts += not outcome.at_once
            if not outcome.at_once:
                self._wait(outcome, attempts)

    def _attempt(self, body: bytes) -> Outcome:
        if self._stop.is_set():
            raise Stopped
        return attempt(self._transport, body, COMPRESSED, self._outside.now_s)

    def _wait(self, outcome: Again, attempts: int) -> None:
        wait_s = backoff_s(attempts, RETRY_S_MAX, self._outside.random())
        told_s = outcome.retry_after_s
        if told_s is not None:
            wait_s = max(min(told_s, RETRY_AFTER_S_MAX), wait_s if told_s == 0 else 0.0)
        if self._stop.wait(wait_s):
            raise Stopped

    def _body(self, batch: Batch) -> bytes:
        environment, bundle, platform = batch.envelope
        envelope = b',"environment":%b,"bundle_id":%b,"platform":%b,"batch":[' % (environment, bundle, platform)
        return b"".join((self._head, envelope, b",".join([entry.event for entry in batch.entries]), b"]}"))


def refusals_of(batch: Batch, outcome: Delivered) -> list[Refusal]:
    """The rows that an answer rejects. An answer names the first 100; the others are found by the same rules here."""
    known = {found.index: found for found in outcome.rejections}
    if outcome.rejected > len(known):
        judged = judge_events([Raw(entry.event) for entry in batch.entries]).rejected
        last = max(known, default=-1)
        known |= {
            event.index: Rejection(event.index, event.field, event.code, event.message)
            for event in judged
            if event.index > last
        }
    return [refusal(batch, index, found) for index, found in sorted(known.items()) if index < len(batch.entries)]


def refusal(batch: Batch, index: int, found: Rejection) -> Refusal:
    """A row that the server does not take, with the event as it can be sent again once it is mended."""
    entry = batch.entries[index]
    environment, bundle, platform = batch.envelope
    reason = json.encode({"line": entry.line, "field": found.field, "code": found.code, "message": found.message})
    envelope = b'"environment":%b,"bundle_id":%b,"platform":%b' % (environment, bundle, platform)
    record = b'{"rejected":%b,%b,%b' % (reason, envelope, entry.event[1:])
    return Refusal(entry.line, found.field, found.code, found.message, record)


def _all_refused(batch: Batch, known: dict[int, Rejection], code: str, message: str) -> list[Refusal]:
    if known and len(known) < len(batch.entries):
        return refusals_of(batch, Delivered(len(batch.entries), list(known.values())))
    return [
        refusal(batch, index, known.get(index, Rejection(index, None, code, message)))
        for index in range(len(batch.entries))
    ]
