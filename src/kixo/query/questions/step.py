"""A step that an event can be: a type, and a name unless any will do.

As text it is `type` or `type: name`, one step a line. A type that has a colon and a blank in it, begins with a
quotation mark, or has a blank at an end, is written as a JSON string.
"""

import json
from dataclasses import dataclass

from kixo.errors import BadArgument
from kixo.event import EVENT_NAME_LENGTH_MAX, EVENT_TYPE_LENGTH_MAX
from kixo.query.views import quote

BETWEEN = ": "


@dataclass(frozen=True)
class Step:
    """Events of a type, and of a name unless that is None."""

    event_type: str
    event_name: str | None = None

    @property
    def condition(self) -> str:
        """The step as a condition on rows of `events`."""
        of_type = f"event_type = {quote(self.event_type)}"
        return of_type if self.event_name is None else f"({of_type} AND event_name = {quote(self.event_name)})"

    @property
    def text(self) -> str:
        """The step as `parse_steps` reads it."""
        event_type = self.event_type if _is_plain(self.event_type) else json.dumps(self.event_type)
        return event_type if self.event_name is None else f"{event_type}{BETWEEN}{self.event_name}"


def parse_steps(text: str) -> tuple[Step, ...]:
    """The steps of the lines that are not blank; raises `BadArgument`."""
    return tuple(_step(line) for line in text.replace("\r\n", "\n").split("\n") if line.strip())


def _is_plain(event_type: str) -> bool:
    return BETWEEN not in event_type and not event_type.startswith('"') and event_type == event_type.strip()


def _step(line: str) -> Step:
    event_type, rest = _quoted(line) if line.startswith('"') else _plain(line)
    step = Step(event_type, rest or None)
    if not 0 < len(event_type) <= EVENT_TYPE_LENGTH_MAX or len(rest) > EVENT_NAME_LENGTH_MAX:
        raise BadArgument(f"No event can be the step {line[:64]!r}.", "Write type, or type: name.")
    return step


def _plain(line: str) -> tuple[str, str]:
    event_type, _, name = line.partition(BETWEEN)
    return event_type.strip() if not name else event_type, name


def _quoted(line: str) -> tuple[str, str]:
    try:
        event_type, end = json.JSONDecoder().raw_decode(line)
    except ValueError:
        raise BadArgument(f"The step {line[:64]!r} has no second quotation mark.", 'Write "type": name.') from None
    return str(event_type), line[end:].removeprefix(BETWEEN)
