"""The rows of the Overview's queries as its templates show them: numbers beside those of the span before, and charts.

A chart has a value for every bucket of the span: where nothing was sent, counts are zero, and lengths are None.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kixo.query.questions import Span
from kixo.timestamp import parse_us

OTHER_TYPES = "all other types"

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]


class Compared(NamedTuple):
    """A number and that of the span before; None where there is none, such as the length of no session."""

    now: float | None
    before: float | None

    @property
    def change(self) -> float | None:
        """By what part it grew; negative where it shrank, None where nothing can be said."""
        if self.now is None or not self.before:
            return None
        return (self.now - self.before) / self.before


def traffic(rows: Rows, span: Span) -> dict[str, Any]:
    """`events`, a chart of them by type, and the tops: `pages`, `screens` and `names`."""
    parts = _parts(rows)
    names = parts.get("name", [])
    return {
        "events": Compared(_one(parts, "total")["events"], _one(parts, "previous")["events"]),
        "by_type": _by_type(parts.get("time", []), span),
        "pages": [row for row in names if row["event_type"] == "page_view"],
        "screens": [row for row in names if row["event_type"] == "screen_view"],
        "names": [row for row in names if row["event_type"] not in {"page_view", "screen_view"}],
    }


def visits(rows: Rows, span: Span) -> dict[str, Any]:
    """`devices` and the figures of sessions, charts of both over time, and `apps`."""
    parts = _parts(rows)
    now, before = _one(parts, "sessions"), _one(parts, "sessions_before")
    sessions_at = parts.get("sessions_at", [])
    lengths = [_series(label, sessions_at, name, span, None) for label, name in LENGTHS]
    return {
        "devices": Compared(_one(parts, "devices")["devices"], _one(parts, "devices_before")["devices"]),
        **{name: Compared(now[name], before[name]) for name in SESSION_NUMBERS},
        "devices_at": _chart(span, "bars", [_series("Devices", parts.get("devices_at", []), "devices", span, 0)]),
        "sessions_at": _chart(span, "bars", [_series("Sessions", sessions_at, "sessions", span, 0)]),
        "lengths_at": _chart(span, "line", lengths, "seconds"),
        "apps": parts.get("app", []),
    }


LENGTHS = (("Median", "seconds_median"), ("90th percentile", "seconds_p90"))
SESSION_NUMBERS = ("sessions", "seconds_median", "seconds_p90", "bounce_rate")


def rejections(rows: Rows, _span: Span) -> dict[str, Any]:
    """`rejected`, and the `reasons`."""
    parts = _parts(rows)
    return {
        "rejected": Compared(_one(parts, "total")["events"], _one(parts, "previous")["events"]),
        "reasons": parts.get("reason", []),
    }


def versions(rows: Rows, _span: Span) -> dict[str, Any]:
    """The `versions`."""
    return {"versions": rows}


def _parts(rows: Rows) -> dict[str, Rows]:
    parts: dict[str, Rows] = {}
    for row in rows:
        parts.setdefault(row["part"], []).append(row)
    return parts


def _one(parts: dict[str, Rows], name: str) -> Row:
    (row,) = parts[name]
    return row


def _by_type(rows: Rows, span: Span) -> dict[str, Any]:
    """A chart with a line for each type, the most frequent first; at least one."""
    by_type: dict[str | None, Rows] = {}
    for row in rows:
        by_type.setdefault(row["event_type"], []).append(row)

    def rank(event_type: str | None) -> tuple[bool, int, str]:
        return event_type is None, -sum(row["events"] for row in by_type[event_type]), event_type or ""

    ordered = sorted(by_type, key=rank)
    lines = [_series(OTHER_TYPES if kind is None else kind, by_type[kind], "events", span, 0) for kind in ordered]
    return _chart(span, "stack", lines or [_series("Events", [], "events", span, 0)])


def _chart(span: Span, kind: str, series: list[dict[str, Any]], unit: str = "") -> dict[str, Any]:
    return {"x": [us // 1_000_000 for us in span.buckets], "unit": unit, "kind": kind, "series": series}


def _series(label: str, rows: Rows, name: str, span: Span, nothing: int | None) -> dict[str, Any]:
    values = {parse_us(row["time"]): row[name] for row in rows}
    return {"label": label, "values": [values.get(us, nothing) for us in span.buckets]}
