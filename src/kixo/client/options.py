"""Every option of the client: its default, its unit, its bounds and a sentence. The docs' table is made from this."""

from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from kixo.errors import BadOption

MIB = 1024 * 1024

Drop = Literal["newest", "oldest"]


def _option(unit: str, sentence: str, low: float, high: float) -> Meta:
    return Meta(ge=low, le=high, description=sentence, extra={"unit": unit})


class Options(Struct, frozen=True, kw_only=True):
    """How the client queues, sends and repeats. Raises `BadOption` where a value cannot be."""

    flush_interval_s: Annotated[
        float, _option("seconds", "How long an event waits for others before they are sent together.", 0.01, 3600)
    ] = 1.0
    batch_events_max: Annotated[int, _option("events", "Events in one request.", 1, 1000)] = 1000
    batch_bytes_max: Annotated[
        int, _option("bytes", "JSON of the events in one request, before compression.", 1024, 8 * MIB)
    ] = 2 * MIB
    queue_events_max: Annotated[int, _option("events", "Events that wait in memory.", 1, 10_000_000)] = 100_000
    queue_bytes_max: Annotated[int, _option("bytes", "Their JSON.", 1024, 4096 * MIB)] = 64 * MIB
    drop: Annotated[
        Drop,
        Meta(description="Which events go when the queue or the spool is full.", extra={"unit": "newest or oldest"}),
    ] = "newest"
    timeout_s: Annotated[
        float,
        _option(
            "seconds",
            "How long to wait for a connection, and for each part of an answer; for all of it three times as long.",
            0.1,
            600,
        ),
    ] = 10.0
    retry_s_max: Annotated[float, _option("seconds", "The longest wait between two attempts.", 0.1, 3600)] = 60.0
    retry_after_s_max: Annotated[
        float, _option("seconds", "The longest wait that the server's `Retry-After` can ask for.", 0, 86_400)
    ] = 300.0
    refused_pause_s: Annotated[
        float,
        _option("seconds", "How often to ask whether key and address are right, once they were refused.", 1, 86_400),
    ] = 300.0
    exit_s_max: Annotated[
        float, _option("seconds", "How long `close()` and the end of the program wait for what is queued.", 0, 600)
    ] = 5.0
    spool_interval_s: Annotated[
        float, _option("seconds", "How long an event stays in memory alone before it is spooled.", 0.01, 60)
    ] = 0.1
    spool_events_max: Annotated[int, _option("events", "Events in the spool.", 1, 1_000_000_000)] = 1_000_000
    spool_bytes_max: Annotated[int, _option("bytes", "Their JSON.", 1024, 1024 * 1024 * MIB)] = 512 * MIB

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(Options, include_extras=True).items():
            value = getattr(self, name)
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                raise BadOption(f"`{name}` is {value!r}: {lower_first(str(error))}.") from None


def lower_first(text: str) -> str:
    """The text as the rest of a sentence."""
    return text[:1].lower() + text[1:]


def option_rows() -> list[tuple[str, object, str, str]]:
    """Name, default, unit and sentence of every option, in order."""
    hints: dict[str, Any] = get_type_hints(Options, include_extras=True)
    defaults = Options()
    metas = {name: hint.__metadata__[0] for name, hint in hints.items()}
    return [(name, getattr(defaults, name), meta.extra["unit"], meta.description) for name, meta in metas.items()]
