"""How the server is doing, in words: what a person has to know, what to do, and how bad it is."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kixo.console import figures
from kixo.console.samples import Sample, Span
from kixo.metrics import LOAD_FAILURES, LOAD_LAG_SECONDS, LOG_FAILURES, REQUESTS, RESTARTS, Metric
from kixo.settings import Settings, worker_count

# What the contract promises, and when nobody can speak of a short delay any more.
LAG_WARN_S, LAG_BAD_S = 2.0, 60.0


class State(NamedTuple):
    """One thing to know: `bad` or `warn`, what is so, what to do, and the metric that shows it, if one does."""

    kind: str
    sentence: str
    next_step: str
    metric: Metric | None


def judge(samples: Sequence[Sample], settings: Settings) -> list[State]:
    """What is not as it should be by these samples, worst first; nothing where all is well, or nothing is known yet."""
    if not samples:
        return []
    span = Span(samples[0], samples[-1])
    found = [*_processes(span, settings), *_disk(span.last, settings), *_answers(span), *_loading(span)]
    return sorted(found, key=lambda state: state.kind != "bad")


def _processes(span: Span, settings: Settings) -> Iterator[State]:
    running, wanted = span.last.running, worker_count(settings)
    # Without a log in the data folder, other machines may have all of them.
    elsewhere = [role for role in ("worker", "loader") if settings.log and not running[role]]
    if running["worker"] < wanted and "worker" not in elsewhere:
        kind = "warn" if running["worker"] else "bad"
        sentence = f"{running['worker']} of {wanted} workers run."
        yield State(kind, sentence, "The supervisor starts them again; its log says why they ended.", RESTARTS)
    if not running["loader"] and "loader" not in elsewhere:
        sentence = "The loader does not run. Events are accepted and kept, and are not in the tables yet."
        yield State("bad", sentence, "The supervisor starts it again; its log says why it ended.", RESTARTS)
    for labels in RESTARTS.series():
        count = span.grown(RESTARTS, labels)
        if count:
            sentence = f"A {labels[0]} process died and was started again, {_times(count)}."
            yield State("warn", sentence, "The log of the server says why. Nothing was lost.", RESTARTS)


def _disk(sample: Sample, settings: Settings) -> Iterator[State]:
    free, least = figures.size(sample.disk_free_bytes), settings.log_free_bytes_min
    if sample.disk_free_bytes < least:
        sentence = f"The disk has {free} left, less than log_free_bytes_min: events are refused with 503."
        yield State("bad", sentence, "Make room; clients repeat what they sent.", None)
    elif sample.disk_free_bytes < 2 * least:
        sentence = f"The disk has {free} left; below {figures.size(least)} events are refused."
        yield State("warn", sentence, "Make room soon.", None)


def _answers(span: Span) -> Iterator[State]:
    for status, kind, what, todo in (
        ("500", "bad", "a defect of the server", "The log of the server has the details."),
        ("503", "bad", "nothing could be stored", "Look at disk and log; clients repeat what they sent."),
        ("429 rate_limited", "warn", "a project has used up its second", "See Projects and keys for which one."),
    ):
        count = sum(span.grown(REQUESTS, labels) for labels in REQUESTS.series() if labels[0].startswith(status))
        if count:
            sentence = f"{figures.number(count)} requests were answered {status.split()[0]}: {what}."
            yield State(kind, sentence, todo, REQUESTS)
    failures = span.grown(LOG_FAILURES)
    if failures:
        yield State("bad", f"Writing the log failed {_times(failures)}.", "Look at the disk.", LOG_FAILURES)


def _loading(span: Span) -> Iterator[State]:
    failures, lag_s = span.grown(LOAD_FAILURES), span.last.value(LOAD_LAG_SECONDS)
    if failures:
        sentence = f"Loading into the tables failed {_times(failures)}, and is repeated."
        yield State("warn", sentence, "The log of the server says why.", LOAD_FAILURES)
    if lag_s > LAG_WARN_S:
        kind = "bad" if lag_s > LAG_BAD_S else "warn"
        sentence = f"The oldest event that is not in the tables yet is {figures.duration(lag_s)} old."
        yield State(kind, sentence, "If it grows, the loader needs more processor or disk.", LOAD_LAG_SECONDS)


def _times(count: float) -> str:
    return "once" if count == 1 else f"{figures.number(count)} times"
