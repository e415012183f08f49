"""What the host saw: every request, what came with it, and what it was answered."""

from typing import Any

from msgspec import Struct

from kixo.conformance.case import Fate


class Seen(Struct, frozen=True):
    """An event of a request. `number` is that of the tracked event, None for one that the client made itself."""

    number: int | None
    identity: bytes
    members: dict[str, Any]


class Request(Struct):
    """A request. Monotonic times are in nanoseconds, `arrived_us` is the wall clock in microseconds since 1970.

    `problems` are sentences about what is wrong with it by the contract. `stored` and `rejected` are places in
    `events`. `then` is what has to become of the events that are in neither.
    """

    number: int
    arrived_ns: int
    arrived_us: int
    bytes_sent: int = 0
    bytes_inflated: int = 0
    problems: list[str] = []
    envelope: dict[str, Any] = {}
    events: list[Seen] = []
    answer: str = ""
    answered_ns: int = 0
    then: Fate = "kept"
    wait_ms: int = 0
    stored: list[int] = []
    rejected: list[int] = []


class Report(Struct, frozen=True):
    """What the client says of itself at its end.

    `rejected` are the numbers of events that it told its user were refused for good. `ordered`: it promises to send
    events in the order they were tracked in. `own_ids`: it makes device and session ids itself.
    """

    rejected: tuple[int, ...] | None = None
    ordered: bool = False
    own_ids: bool = False


class Trace(Struct, frozen=True):
    """A case that was run: its requests in the order they arrived in, and how the client ended.

    `ending` is None where it ended by itself and with success, else a sentence. `began_us` is the wall clock.
    """

    requests: list[Request]
    began_us: int
    report: Report
    ending: str | None = None
