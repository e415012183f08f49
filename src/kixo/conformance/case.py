"""The cases, as `cases.json` has them: one file for every language. `docs/conformance.md` describes each member."""

from importlib import resources
from typing import Any, Literal

from msgspec import Struct, json

PROTOCOL = 1

Fate = Literal["kept", "again", "never", "smaller"]
Fault = Literal["reset", "close", "cut", "silence"]


class Tracked(Struct, frozen=True, forbid_unknown_fields=True):
    """The events that the client is to track.

    Event `n`, from 0, is told by its property `n`; those of a case with `equal` have none and are equal. Each has
    `filler_bytes` of text, and those in `oversized` more than the contract allows. `text` is one more property of each.
    """

    count: int
    filler_bytes: int = 0
    oversized: tuple[int, ...] = ()
    text: str = ""
    equal: bool = False


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """One answer of the script, and what has to become of the events of a request that gets it.

    It is given `times` times (null: always), to requests with more than `over_events` events, or that hold one of
    `holding`. Without `status` and `fault` it is the contract's own answer, in which the events `reject` are rejected.
    `stored`: the host keeps the events all the same. `wait_ms`: how long the client has to stay away with them.
    """

    then: Fate
    times: int | None = 1
    over_events: int = 0
    holding: tuple[int, ...] = ()
    status: int | None = None
    retry_after: str | None = None
    body: dict[str, Any] | None = None
    text: str | None = None
    fault: Fault | None = None
    stored: bool = False
    reject: tuple[int, ...] = ()
    delay_ms: int = 0
    wait_ms: int = 0
    members: dict[str, Any] | None = None


class Options(Struct, frozen=True, forbid_unknown_fields=True):
    """How the client is to be set up, so that a case takes little time. Times are in milliseconds."""

    batch_events_max: int = 1000
    backoff_ms: int = 20
    backoff_ms_max: int = 100
    timeout_ms: int = 5000
    flush_timeout_ms: int = 15000


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """A case. `refused_ms`: how long nobody listens. `unfinished`: not everything can be delivered in time.

    `requests_max` is how many requests the client may make (null: any number).
    """

    name: str
    what: str
    why: str
    track: Tracked
    answers: tuple[Answer, ...] = ()
    options: Options = Options()
    refused_ms: int = 0
    unfinished: bool = False
    requests_max: int | None = None


class Check(Struct, frozen=True, forbid_unknown_fields=True):
    """What is checked in every case that gives occasion to it, and why it matters."""

    name: str
    what: str
    why: str


class Kit(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    protocol: int
    checks: tuple[Check, ...]
    cases: tuple[Case, ...]


def load() -> Kit:
    """The cases that come with this version."""
    return json.decode(resources.files("kixo.conformance").joinpath("cases.json").read_bytes(), type=Kit)
