"""Which answer of a case's script a request gets, and what that answer is, byte by byte."""

import math
from email.utils import formatdate
from typing import NamedTuple

from msgspec import json

from kixo.conformance.case import Answer, Case
from kixo.conformance.judge import Opened, answer, failure
from kixo.conformance.trace import Request
from kixo.errors import RequestError
from kixo.event import Rejection

DATE = "date+"
UNSCRIPTED = Answer("kept")


class Reply(NamedTuple):
    """What goes over the wire; `row` is the answer of the script it comes from."""

    row: Answer
    status: int
    headers: dict[str, str]
    body: bytes


class Script:
    """The answers of a case, and how often each is still to be given. Belongs to whoever holds the host's lock."""

    def __init__(self, case: Case) -> None:
        self._rows = case.answers
        self._left = [math.inf if row.times is None else row.times for row in case.answers]

    @property
    def finished(self) -> bool:
        """Whether every answer that has a number of times was given so often."""
        return all(left in (0, math.inf) for left in self._left)

    def reply(self, request: Request, opened: Opened, now_s: float) -> Reply:
        """Chooses the answer to a good request, and writes into `request` what has to become of its events."""
        row = self._take(opened)
        request.then, request.wait_ms = row.then, row.wait_ms
        status, body = _scripted(row) if row.status else _judged(row, request, opened)
        if row.status and (row.stored or row.then == "kept"):
            request.stored = list(range(len(opened.events)))
        request.answer = f"{row.fault}" if row.fault else f"{status}"
        return Reply(row, status, _headers(row, now_s), body)

    def _take(self, opened: Opened) -> Answer:
        numbers = {event.number for event in opened.events}
        for place, row in enumerate(self._rows):
            fits = len(opened.events) > row.over_events and (not row.holding or numbers & set(row.holding))
            if self._left[place] and fits:
                self._left[place] -= 1
                return row
        return UNSCRIPTED


def refusal(request: Request, error: RequestError) -> Reply:
    """The answer to a request that the contract does not take."""
    request.problems.append(f"the server would answer {error.status} {error.code}: {error.message}")
    request.then, request.answer = "never", f"{error.status}"
    status, body = failure(error)
    return Reply(UNSCRIPTED, status, {}, body)


def _scripted(row: Answer) -> tuple[int, bytes]:
    assert row.status is not None
    if row.body is not None:
        return row.status, json.encode(row.body)
    return row.status, (row.text or "").encode()


def _judged(row: Answer, request: Request, opened: Opened) -> tuple[int, bytes]:
    """The contract's own answer, with what the script adds to it. A fault hides it, but the events may be stored."""
    told = {
        place: Rejection(place, "event_name", "too_long", "This name is not wanted here. Shorten it.")
        for place, event in enumerate(opened.events)
        if event.number in row.reject
    }
    rejections = dict(sorted((opened.rejections | told).items()))
    if row.fault is None or row.stored:
        request.rejected = list(rejections) if row.fault is None else []
        request.stored = [place for place in range(len(opened.events)) if place not in rejections]
    status, body = answer(len(opened.events), rejections)
    if row.members is not None:
        body = json.encode({**json.decode(body), **row.members})
    return status, body


def _headers(row: Answer, now_s: float) -> dict[str, str]:
    headers = {} if row.text is None else {"content-type": "text/html"}
    if row.retry_after is not None:
        headers["retry-after"] = _retry_after(row.retry_after, now_s)
    return headers


def _retry_after(text: str, now_s: float) -> str:
    """`date+N` becomes an HTTP date, in whole seconds, that lies more than N seconds ahead."""
    if not text.startswith(DATE):
        return text
    return formatdate(math.floor(now_s) + 1 + int(text.removeprefix(DATE)), usegmt=True)
