"""Health: how the server is doing, in the figures of its metrics."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console import figures
from kixo.console.condition import judge
from kixo.console.context import console_of
from kixo.console.navigation import choose
from kixo.console.rendering import fragment, render
from kixo.console.samples import SAMPLE_S, Sample, Span, spans
from kixo.metrics import (
    ACK_SECONDS,
    EVENTS,
    LOAD_COMMITS,
    LOAD_LAG_SECONDS,
    LOG_BACKLOG_BYTES,
    LOG_COMMITS,
    REQUESTS,
    RESTARTS,
    Metric,
)
from kixo.settings import Settings, worker_count

POINTS_MAX = 60
ACCEPTED = ("accepted",)
LATELY_S = 300.0
NOW_S = 60.0
NOTHING = "–"  # noqa: RUF001 - the sign that pages show where there is no figure


class Period(NamedTuple):
    """How far back the charts go."""

    name: str
    title: str
    seconds: float


PERIODS = (Period("5m", "5 minutes", 300.0), Period("15m", "15 minutes", 900.0), Period("1h", "1 hour", 3600.0))


class Card(NamedTuple):
    """A figure of now: its name, its value with its unit, what it says, and the metric that it comes from."""

    name: str
    value: str
    more: str
    metric: str


class Line(NamedTuple):
    """A line of a chart: its label, and its value in a span; None where there is none."""

    label: str
    value: Callable[[Span], float | None]


class Chart(NamedTuple):
    """A chart: its id, title, unit, lines, and the metrics that they come from."""

    id: str
    title: str
    unit: str
    lines: tuple[Line, ...]
    metrics: tuple[Metric, ...]

    def data(self, found: Sequence[Span]) -> dict[str, object]:
        """What `parts.chart` draws."""
        return {
            "x": [span.last.at_us // 1_000_000 for span in found],
            "unit": self.unit,
            "kind": "line",
            "series": [{"label": line.label, "values": [line.value(span) for span in found]} for line in self.lines],
        }


CHARTS = (
    Chart(
        "rate",
        "Requests and accepted events per second",
        "",
        (
            Line("requests", lambda span: span.total_rate(REQUESTS)),
            Line("accepted events", lambda span: span.rate(EVENTS, ACCEPTED)),
        ),
        (REQUESTS, EVENTS),
    ),
    Chart(
        "ack",
        "Time to the durable answer",
        "seconds",
        (
            Line("half of them within", lambda span: span.quantile(ACK_SECONDS, 0.5)),
            Line("99 % within", lambda span: span.quantile(ACK_SECONDS, 0.99)),
        ),
        (ACK_SECONDS,),
    ),
    Chart(
        "lag",
        "Age of the oldest event that is not in the tables yet",
        "seconds",
        (Line("load lag", lambda span: span.last.value(LOAD_LAG_SECONDS)),),
        (LOAD_LAG_SECONDS,),
    ),
    Chart(
        "backlog",
        "Log that is not in the tables yet",
        "bytes",
        (Line("backlog", lambda span: span.last.value(LOG_BACKLOG_BYTES)),),
        (LOG_BACKLOG_BYTES,),
    ),
    Chart(
        "commits",
        "Commits per second",
        "",
        (
            Line("of the log (one sync each)", lambda span: span.rate(LOG_COMMITS)),
            Line("of the tables", lambda span: span.rate(LOAD_COMMITS)),
        ),
        (LOG_COMMITS, LOAD_COMMITS),
    ),
    Chart("disk", "Free disk", "bytes", (Line("free", lambda span: float(span.last.disk_free_bytes)),), ()),
)


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [Route("/health", show), Route("/health/figures", show_figures)]


def show(request: Request) -> Response:
    """The page."""
    return render(request, "health.html", **_figures(request))


def show_figures(request: Request) -> Response:
    """The part of it that changes."""
    return HTMLResponse(fragment(request, "health_figures.html", choose(request), **_figures(request)))


def _figures(request: Request) -> dict[str, Any]:
    console = console_of(request)
    period = next((each for each in PERIODS if each.name == request.query_params.get("period")), PERIODS[0])
    history, settings = console.history, console.settings
    drawn = spans(history.last(period.seconds), POINTS_MAX)
    return {
        "period": period,
        "periods": PERIODS,
        "refresh_s": int(SAMPLE_S),
        "states": judge(history.last(LATELY_S), settings),
        "cards": _cards(history.last(NOW_S), history.last(LATELY_S), settings),
        "charts": [(chart, chart.data(drawn)) for chart in CHARTS] if drawn else [],
        "newest": history.samples[-1] if history.samples else None,
        "lately": figures.duration(LATELY_S),
    }


def _cards(now: Sequence[Sample], lately: Sequence[Sample], settings: Settings) -> list[Card]:
    if not now:
        return []
    span, longer = Span(now[0], now[-1]), Span(lately[0], lately[-1])
    return [*_flow_cards(span, longer), *_table_cards(span), *_machine_cards(span.last, settings)]


def _flow_cards(span: Span, longer: Span) -> list[Card]:
    ack = ACK_SECONDS.exposed_name
    return [
        Card("Half of the answers within", _quantile(longer, 0.5), "in the last 5 minutes", ack),
        Card("99 % of the answers within", _quantile(longer, 0.99), "in the last 5 minutes", ack),
        Card("Requests", _per_second(span.total_rate(REQUESTS)), "in the last minute", REQUESTS.exposed_name),
        Card("Accepted events", _per_second(span.rate(EVENTS, ACCEPTED)), "in the last minute", EVENTS.exposed_name),
    ]


def _table_cards(span: Span) -> list[Card]:
    lag_s, backlog = span.last.value(LOAD_LAG_SECONDS), span.last.value(LOG_BACKLOG_BYTES)
    # While no loader runs, these stand still.
    known = "now" if span.last.running["loader"] else "when the loader last ran"
    commits = f"{_per_second(span.rate(LOG_COMMITS))} of the log"
    return [
        Card("Load lag", figures.duration(lag_s), known, LOAD_LAG_SECONDS.exposed_name),
        Card("Backlog", figures.size(backlog), known, LOG_BACKLOG_BYTES.exposed_name),
        Card("Table commits", _per_second(span.rate(LOAD_COMMITS)), f"and {commits}", LOAD_COMMITS.exposed_name),
    ]


def _machine_cards(sample: Sample, settings: Settings) -> list[Card]:
    restarts = {labels[0]: sample.value(RESTARTS, labels) for labels in RESTARTS.series()}
    by_role = ", ".join(f"{figures.number(count)} {role}" for role, count in restarts.items() if count)
    workers = f"{sample.running['worker']} of {worker_count(settings)}"
    loader = "the loader runs" if sample.running["loader"] else "no loader runs"
    return [
        Card("Disk free", figures.size(sample.disk_free_bytes), f"{figures.size(sample.disk_used_bytes)} used", ""),
        Card("Workers", workers, loader, ""),
        Card("Restarts", figures.number(sum(restarts.values())), by_role or "of no process", RESTARTS.exposed_name),
    ]


def _quantile(span: Span, share: float) -> str:
    found = span.quantile(ACK_SECONDS, share)
    return NOTHING if found is None else figures.duration(found)


def _per_second(rate: float) -> str:
    return f"{figures.number(round(rate, 2))}/s"
