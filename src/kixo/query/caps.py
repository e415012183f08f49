"""What one query may use, and how a query that used more is told so."""

from dataclasses import dataclass

from kixo.errors import QueryStopped, QueryTooLarge, QueryTooLong

_MIB = 1024 * 1024


@dataclass(frozen=True)
class QueryCaps:
    """What one query may use: bytes of memory, seconds from its start to its last row, threads (0: all cores)."""

    memory_bytes_max: int
    seconds_max: float
    threads: int = 0


def overrun(caps: QueryCaps) -> QueryTooLong:
    """The error of a query that has used up its time."""
    message = f"The query took more than {caps.seconds_max:g} seconds."
    return QueryTooLong(message, "Narrow it by date and project_id, or allow it more seconds.")


def out_of_memory(caps: QueryCaps) -> QueryTooLarge:
    """The error of a query that has used up its memory."""
    message = f"The query needs more than {caps.memory_bytes_max // _MIB} MiB of memory."
    return QueryTooLarge(message, "Narrow it by date and project_id, or allow it more memory.")


def stopped() -> QueryStopped:
    """The error of a query that somebody stopped."""
    return QueryStopped("The query was stopped.", "Run it again if that was not meant.")
