"""How many requests a project may make: at most N in any rolling second, counted over all processes, exactly.

A request is admitted if fewer than N admissions of its project are within the second before it. Refused requests leave
no trace. The processes of one machine count in a file that they share (`ring_file`).
"""

from asyncio import Future
from typing import NamedTuple, Protocol

SECOND_NS = 1_000_000_000


class Verdict(NamedTuple):
    """Whether a request is admitted, and what the `RateLimit` header says.

    `left` requests could follow at once, in at most `reset_s` seconds all of them can (0: now), and after
    `retry_after_s` seconds a refused one may come again. Whole seconds.
    """

    admitted: bool
    left: int
    reset_s: int
    retry_after_s: int


class Counted(NamedTuple):
    """A verdict, and the time by the limit's own clock at which it counts, by which it can be taken back."""

    verdict: Verdict
    at: int


Reply = Verdict | Future[Counted]
"""What a limit answers: at once, with the caller's own time, or over a network."""

ADMITTED = Verdict(admitted=True, left=1, reset_s=1, retry_after_s=0)
REFUSED = Verdict(admitted=False, left=0, reset_s=1, retry_after_s=1)


class RequestLimit(Protocol):
    """Counts the requests of projects over all worker processes. Times are of CLOCK_MONOTONIC, in nanoseconds."""

    def admit(self, project_number: int, now_ns: int) -> Reply:
        """Asks for one request of a project, numbered from 1; raises `Unavailable` where it cannot be counted."""
        ...

    def peek(self, project_number: int, now_ns: int) -> Reply:
        """What `admit` would find, without asking: `left` is what is left before any further request."""
        ...

    def is_full(self, project_number: int, now_ns: int) -> bool:
        """Whether `admit` would refuse, as far as can be told at once; only ever a reason to look less closely."""
        ...

    def retract(self, project_number: int, admitted_at: int, now_ns: int) -> None:
        """Takes back the admission that counts at that time: the request was refused after all.

        Nothing where it no longer counts: the place is free already, and those that count are others'.
        """
        ...

    def close(self) -> None:
        """Lets go of the counts."""
        ...


async def settled(reply: Reply | None) -> Verdict | None:
    """The verdict of a reply, waited for where it comes over a network."""
    return (await reply).verdict if isinstance(reply, Future) else reply


class Unlimited:
    """A `RequestLimit` that admits every request and keeps nothing: where bodies alone are looked at."""

    def admit(self, project_number: int, now_ns: int) -> Verdict:
        """See `RequestLimit`."""
        return ADMITTED

    def peek(self, project_number: int, now_ns: int) -> Verdict:
        """See `RequestLimit`."""
        return ADMITTED

    def is_full(self, project_number: int, now_ns: int) -> bool:
        """See `RequestLimit`."""
        return not self.peek(project_number, now_ns).admitted

    def retract(self, project_number: int, admitted_at: int, now_ns: int) -> None:
        """See `RequestLimit`."""

    def close(self) -> None:
        """See `RequestLimit`."""


class Glance:
    """A `RequestLimit` that looks at another one and takes no place in it."""

    def __init__(self, limit: RequestLimit) -> None:
        self._limit = limit
        self.is_full = limit.is_full

    def admit(self, project_number: int, now_ns: int) -> Reply:
        """What is left; see `RequestLimit.peek`."""
        return self._limit.peek(project_number, now_ns)

    peek = admit

    def retract(self, project_number: int, admitted_at: int, now_ns: int) -> None:
        """See `RequestLimit`."""

    def close(self) -> None:
        """See `RequestLimit`."""
