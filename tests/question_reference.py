"""The named questions answered in plain Python, one event after the other: what the SQL has to agree with."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from kixo.query.questions.span import Span
from kixo.query.questions.step import Step
from kixo.timestamp import DAY_US

IDLE_US = 30 * 60 * 1_000_000
VIEWS = ("page_view", "screen_view")


@dataclass(frozen=True)
class Sent:
    """An event, and its place in the order of arrival; `at_us` in microseconds since 1970."""

    at_us: int
    device: str = "d"
    session: str = "s"
    event_type: str = "tap"
    event_name: str = "Button"
    platform: str = "ios"
    bundle: str = "b"
    environment: str = "production"
    project: str = "p"
    old: bool = False
    properties: str = "{}"

    @property
    def visit(self) -> tuple[str, ...]:
        return (self.platform, self.bundle, self.device, self.session)


def within(events: Iterable[Sent], span: Span) -> list[Sent]:
    """Those of the project "p" in production that lie in the span."""
    return [
        event
        for event in events
        if (event.project, event.environment) == ("p", "production") and span.from_us <= event.at_us < span.to_us
    ]


def bucket(at_us: int, span: Span) -> int:
    return at_us // span.bucket_us * span.bucket_us


def events_over_time(events: list[Sent], span: Span, shown: int) -> Counter[tuple[int, str | None]]:
    found = within(events, span)
    totals = Counter(event.event_type for event in found)
    ranked = sorted(totals, key=lambda event_type: (-totals[event_type], event_type.encode()))[:shown]
    return Counter((bucket(e.at_us, span), e.event_type if e.event_type in ranked else None) for e in found)


def devices_by(events: list[Sent], key: Callable[[Sent], Any]) -> dict[Any, int]:
    devices: dict[Any, set[str]] = defaultdict(set)
    for event in events:
        devices[key(event)].add(event.device)
    return {key: len(found) for key, found in devices.items()}


def top(events: list[Sent], key: Callable[[Sent], tuple[str, ...]]) -> list[tuple[Any, ...]]:
    """Rows of the key, events and devices, most events first."""
    counts, devices = Counter(map(key, events)), devices_by(events, key)
    rows = [(*found, count, devices[found]) for found, count in counts.items()]
    return sorted(rows, key=lambda row: (-row[-2], tuple(text.encode() for text in row[:-2])))


def sessions(events: list[Sent], span: Span, followed_us: int = DAY_US) -> list[list[Sent]]:
    """The sessions that begin in the span; every event before is looked at, and those up to `followed_us` after it."""
    known = within(events, Span(0, span.to_us + followed_us))
    visits: dict[tuple[str, ...], list[Sent]] = defaultdict(list)
    for event in sorted(known, key=lambda event: event.at_us):
        visits[event.visit].append(event)
    found = [part for visit in visits.values() for part in split(visit)]
    return [session for session in found if span.from_us <= session[0].at_us < span.to_us]


def split(visit: list[Sent]) -> list[list[Sent]]:
    """A visit's events, ordered, cut where nothing happened for 30 minutes."""
    parts = [visit[:1]]
    for before, event in pairwise(visit):
        if event.at_us - before.at_us >= IDLE_US:
            parts.append([])
        parts[-1].append(event)
    return parts


def session_figures(found: list[list[Sent]]) -> tuple[int, float | None, float | None, float | None]:
    """How many, the median and the 90th percentile of their seconds, and the share of bounces."""
    if not found:
        return 0, None, None, None
    seconds = sorted((session[-1].at_us - session[0].at_us) / 1e6 for session in found)
    bounces = [sum(event.event_type in VIEWS for event in session) <= 1 for session in found]
    return len(found), median(seconds), percentile(seconds, 0.9), sum(bounces) / len(found)


def percentile(ordered: list[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return low + (high - low) * (place - int(place))


def matches(event: Sent, step: Step) -> bool:
    return event.event_type == step.event_type and step.event_name in {None, event.event_name}


def funnel(events: list[Sent], span: Span, steps: tuple[Step, ...], window_us: int) -> list[tuple[int, float | None]]:
    """For each step: the devices that reach it, and the median seconds since the step before."""
    devices: dict[str, list[Sent]] = defaultdict(list)
    # Sorting keeps events at the same instant in their order of arrival.
    for event in sorted(within(events, Span(0, span.to_us + window_us)), key=lambda event: event.at_us):
        devices[event.device].append(event)
    since: list[list[int | None]] = [[] for _ in steps]
    for walked in devices.values():
        for number, found in enumerate(_reached(walked, span, steps, window_us)):
            if found:
                since[number].append(min(found)[1])
    return [(len(found), _median_s([us for us in found if us is not None])) for found in since]


def _median_s(found: list[int]) -> float | None:
    return median(found) / 1e6 if found else None


def _reached(
    walked: list[Sent], span: Span, steps: tuple[Step, ...], window_us: int
) -> list[list[tuple[int, int | None]]]:
    """For each step, each event that completes it: its place, and the microseconds since the step before."""
    starts = [n for n, e in enumerate(walked) if matches(e, steps[0]) and span.from_us <= e.at_us < span.to_us]
    runs: list[tuple[int, ...]] = [(start,) for start in starts]
    reached: list[list[tuple[int, int | None]]] = [[(start, None) for start in starts]]
    for step in steps[1:]:
        runs = [
            (*run, place)
            for run in runs
            for place, event in enumerate(walked)
            if place > run[-1] and matches(event, step) and event.at_us - walked[run[0]].at_us <= window_us
        ]
        best: dict[int, tuple[int, int]] = {}
        for run in runs:
            times = (walked[run[0]].at_us, walked[run[-2]].at_us)
            best[run[-1]] = max(best.get(run[-1], times), times)
        reached.append([(place, walked[place].at_us - times[1]) for place, times in best.items()])
    return reached


def retention(events: list[Sent], span: Span, days: int, periods: int, look_back_days: int) -> Counter[tuple[int, int]]:
    """Devices by the first day of their cohort (days since 1970) and by how many periods later they were there."""
    offset = 0 if days == 1 else 3
    look_back = Span(max(span.from_us - look_back_days * DAY_US, 0), span.to_us)
    instants: dict[str, list[int]] = defaultdict(list)
    for event in within(events, look_back):
        instants[event.device].append(event.at_us)
    found: Counter[tuple[int, int]] = Counter()
    for times in instants.values():
        if min(times) >= span.from_us:
            present = {(time // DAY_US + offset) // days for time in times}
            cohort = min(present)
            found.update((cohort * days - offset, later - cohort) for later in present if later - cohort <= periods)
    return found


def actives(events: list[Sent], span: Span) -> list[tuple[int, int, int, int]]:
    """For each day of the span, in days since 1970: devices of that day, of 7 days and of 30."""
    found = within(events, Span(0, span.to_us))

    def devices(first: int, last: int) -> int:
        return len({event.device for event in found if first <= event.at_us // DAY_US <= last})

    days = range(span.from_us // DAY_US, -(-span.to_us // DAY_US))
    return [(day, devices(day, day), devices(day - 6, day), devices(day - 29, day)) for day in days]


def paths(events: list[Sent], span: Span, start: Step, length: int, *, views: bool) -> Counter[tuple[str, ...]]:
    """How many sessions went which way after their first event that `start` matches."""
    found: Counter[tuple[str, ...]] = Counter()
    visits: dict[tuple[str, ...], list[Sent]] = defaultdict(list)
    for event in sorted(within(events, Span(span.from_us, span.to_us + DAY_US)), key=lambda event: event.at_us):
        visits[event.visit].append(event)
    for visit in visits.values():
        place = next((n for n, e in enumerate(visit) if matches(e, start) and e.at_us < span.to_us), None)
        if place is not None:
            after = [event for event in split(visit[place:])[0][1:] if not views or event.event_type in VIEWS]
            found[tuple(f"{event.event_type}: {event.event_name}" for event in after[:length])] += 1
    return found
