"""Which events an export takes, as SQL: what the client sent, and what the server made of it."""

from dataclasses import dataclass

from kixo.lake.schema import EVENTS
from kixo.query.views import quote
from kixo.timestamp import format_us

# Where an event stood in this server's files says nothing to anybody else.
LEFT_OUT = ("date", "log_partition", "log_offset", "log_index")
COLUMNS = tuple(column.name for column in EVENTS.columns if column.name not in LEFT_OUT)
# Events older than the horizon are kept under this day, whatever their own.
OLD_DAY = "1970-01-01"


@dataclass(frozen=True)
class Selection:
    """Events of `from_us` to before `to_us` (by `timestamp`, microseconds since 1970) with one of the given values.

    An empty tuple, or None, is no condition.
    """

    from_us: int | None = None
    to_us: int | None = None
    project_id: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    bundle_id: tuple[str, ...] = ()
    platform: tuple[str, ...] = ()
    event_type: tuple[str, ...] = ()
    event_name: tuple[str, ...] = ()


MEMBERS = ("project_id", "environment", "bundle_id", "platform", "event_type", "event_name")


def select(selection: Selection, columns: str = ", ".join(COLUMNS)) -> str:
    """The query for the events of a selection."""
    conditions = [
        f"{member} IN ({', '.join(map(quote, values))})" for member in MEMBERS if (values := getattr(selection, member))
    ]
    conditions += _since(selection.from_us) + _until(selection.to_us)
    conditions += day_condition(selection.from_us, selection.to_us)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {columns} FROM events{where}"


def day_condition(since_us: int | None, until_us: int | None) -> list[str]:
    """The conditions on `date` that follow from a span of time: by them whole files stay unopened."""
    begins = [] if since_us is None else [f"(date >= {_day(since_us)} OR date = '{OLD_DAY}')"]
    return begins if until_us is None else [*begins, f"(date <= {_day(until_us)} OR date = '{OLD_DAY}')"]


def instant(microseconds: int) -> str:
    """An instant as SQL, from microseconds since 1970."""
    # As a number: the years 1 to 9999 as text would depend on how the engine reads them.
    return f"make_timestamptz({microseconds})"


def _since(instant_us: int | None) -> list[str]:
    return [] if instant_us is None else [f"timestamp >= {instant(instant_us)}"]


def _until(instant_us: int | None) -> list[str]:
    return [] if instant_us is None else [f"timestamp < {instant(instant_us)}"]


def _day(microseconds: int) -> str:
    return quote(format_us(microseconds)[:10]) + "::DATE"
