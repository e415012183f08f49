"""What a named question is: a sentence, parameters with bounds, and a function that gives one SELECT."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kixo.errors import BadArgument
from kixo.event import (
    ENVIRONMENT_DEFAULT,
    ENVIRONMENTS,
    EVENT_NAME_LENGTH_MAX,
    EVENT_TYPE_LENGTH_MAX,
    PROJECT_ID_LENGTH_MAX,
)
from kixo.query.questions.scope import Scope
from kixo.query.questions.span import span_of
from kixo.query.questions.step import Step, parse_steps

Kind = Literal["text", "integer", "choice", "instant", "steps"]
Values = Mapping[str, Any]
"""The values of a question's parameters by name: str, int, or a tuple of `Step`."""


@dataclass(frozen=True)
class Parameter:
    """One thing to be chosen: what a form needs to ask for it, and what its text has to be.

    `least` and `greatest` bound an integer, the number of steps, or the length of a text in characters; `unit` is the
    unit of an integer. `choices` are the texts of a choice.
    """

    name: str
    label: str
    sentence: str
    kind: Kind
    default: str
    least: int = 0
    greatest: int = 0
    unit: str = ""
    choices: tuple[str, ...] = ()

    def read(self, text: str) -> Any:
        """The value that a text gives; raises `BadArgument`."""
        return _READERS[self.kind](self, text)


@dataclass(frozen=True)
class Question:
    """A question with a name: its title, what it tells, what can be chosen beside the scope, and its SQL."""

    name: str
    title: str
    sentence: str
    parameters: tuple[Parameter, ...]
    sql: Callable[[Scope, Values], str]


SCOPE_PARAMETERS = (
    Parameter("project", "Project", "The project's id.", "text", "", 1, PROJECT_ID_LENGTH_MAX),
    Parameter(
        "environment", "Environment", "Where the events come from.", "choice", ENVIRONMENT_DEFAULT, choices=ENVIRONMENTS
    ),
    Parameter("from", "From", "The first instant, UTC.", "instant", ""),
    Parameter("to", "To", "The instant before which it ends, UTC.", "instant", ""),
)


def read_scope(texts: Mapping[str, str]) -> Scope:
    """The scope that the texts of `SCOPE_PARAMETERS` give; raises `BadArgument`."""
    values = read_values(SCOPE_PARAMETERS, texts)
    return Scope(values["project"], values["environment"], span_of(values["from"], values["to"]))


def read_values(parameters: tuple[Parameter, ...], texts: Mapping[str, str]) -> Values:
    """The values of parameters, defaults for those that are not given; raises `BadArgument`."""
    return {parameter.name: parameter.read(texts.get(parameter.name, parameter.default)) for parameter in parameters}


def ask(question: Question, texts: Mapping[str, str]) -> str:
    """The SELECT that answers a question as a form asks it, scope included; raises `BadArgument`."""
    return question.sql(read_scope(texts), read_values(question.parameters, texts))


def type_parameter(name: str, label: str, sentence: str, default: str) -> Parameter:
    """A parameter that takes an `event_type`."""
    return Parameter(name, label, sentence, "text", default, 1, EVENT_TYPE_LENGTH_MAX)


def name_parameter(name: str, label: str, sentence: str) -> Parameter:
    """A parameter that takes an `event_name`; empty for any."""
    return Parameter(name, label, sentence, "text", "", 0, EVENT_NAME_LENGTH_MAX)


def _text(parameter: Parameter, text: str) -> str:
    _check_text(parameter, text)
    if not parameter.least <= len(text) <= parameter.greatest:
        raise BadArgument(
            f"{parameter.label} has {len(text)} characters; {parameter.least} to {parameter.greatest} are possible.",
            f"Give another {parameter.label.lower()}.",
        )
    return text


def _check_text(parameter: Parameter, text: str) -> None:
    # None is ever stored: intake makes U+FFFD of both.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise BadArgument(f"{parameter.label} has a character that no event has.", "Leave out what cannot be seen.")


def _integer(parameter: Parameter, text: str) -> int:
    bounds = f"{parameter.least} to {parameter.greatest} {parameter.unit}".rstrip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    if number is None or not parameter.least <= number <= parameter.greatest:
        raise BadArgument(
            f"{parameter.label} is {text[:64]!r}; it has to be {bounds}.", f"Give a number from {bounds}."
        )
    return number


def _choice(parameter: Parameter, text: str) -> str:
    if text not in parameter.choices:
        choices = ", ".join(parameter.choices)
        raise BadArgument(f"{parameter.label} cannot be {text[:64]!r}.", f"Choose one of {choices}.")
    return text


def _steps(parameter: Parameter, text: str) -> tuple[Step, ...]:
    _check_text(parameter, text)
    steps = parse_steps(text)
    if not parameter.least <= len(steps) <= parameter.greatest:
        raise BadArgument(
            f"{parameter.label}: there are {len(steps)}; {parameter.least} to {parameter.greatest} are possible.",
            "Write one step a line.",
        )
    return steps


def _as_it_is(_parameter: Parameter, text: str) -> str:
    # An instant is looked at together with the other end of its span.
    return text


_READERS: Mapping[Kind, Callable[[Parameter, str], Any]] = {
    "text": _text,
    "integer": _integer,
    "choice": _choice,
    "instant": _as_it_is,
    "steps": _steps,
}
