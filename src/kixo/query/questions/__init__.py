"""Named questions: each a sentence, parameters with bounds, and one SELECT over the views.

`QUESTIONS` are for people: a form can be made of each, and `ask` gives its SQL, every value quoted. `traffic`, `visits`
and `rejections` are for the Overview page: several of the questions in one pass. Spans are half-open and in UTC.
"""

from kixo.errors import BadArgument
from kixo.query.questions.actives import ACTIVES, RETENTION
from kixo.query.questions.counts import (
    ACTIVE_DEVICES,
    APP_VERSIONS,
    EVENTS_OVER_TIME,
    REJECTIONS,
    TOP_APPS,
    TOP_EVENTS,
    TOP_PAGES,
    TOP_SCREENS,
)
from kixo.query.questions.funnel import FUNNEL
from kixo.query.questions.passes import rejections, traffic, visits
from kixo.query.questions.paths import PATHS
from kixo.query.questions.question import SCOPE_PARAMETERS, Parameter, Question, ask, read_scope, read_values
from kixo.query.questions.scope import Scope
from kixo.query.questions.span import CUSTOM, SPANS, NamedSpan, Span, named_span, span_of
from kixo.query.questions.visits import SESSIONS_OVER_TIME

QUESTIONS: tuple[Question, ...] = (
    FUNNEL,
    RETENTION,
    ACTIVES,
    PATHS,
    EVENTS_OVER_TIME,
    ACTIVE_DEVICES,
    SESSIONS_OVER_TIME,
    TOP_EVENTS,
    TOP_PAGES,
    TOP_SCREENS,
    TOP_APPS,
    APP_VERSIONS,
    REJECTIONS,
)


def find_question(name: str) -> Question:
    """The question of that name; raises `BadArgument`."""
    for question in QUESTIONS:
        if question.name == name:
            return question
    names = ", ".join(question.name for question in QUESTIONS)
    raise BadArgument(f"There is no question {name[:64]!r}.", f"Choose one of {names}.")


__all__ = [
    "CUSTOM",
    "QUESTIONS",
    "SCOPE_PARAMETERS",
    "SPANS",
    "NamedSpan",
    "Parameter",
    "Question",
    "Scope",
    "Span",
    "ask",
    "find_question",
    "named_span",
    "read_scope",
    "read_values",
    "rejections",
    "span_of",
    "traffic",
    "visits",
]
