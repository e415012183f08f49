"""Rejected: what was not taken, why, and how it comes in after a fix.

Reading goes through the pool of queries. A replay is done in steps of at most `STEP_EVENTS` events, each with an answer
of its own: the page asks for the next one by itself, or a person does where there is no JavaScript. Between steps
nothing is held, so a replay that is left in the middle has done what it said, and nothing else.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from msgspec import DecodeError, json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from kixo.console.context import console_of, form_of
from kixo.console.navigation import Chosen, choose
from kixo.console.rejected_form import (
    GROUP,
    SETS,
    Asked,
    as_previewed,
    kept,
    place_text,
    read_form,
    read_place,
    selection_of,
)
from kixo.console.rendering import fragment, render
from kixo.errors import BadArgument, NotFound, QueryFailed
from kixo.event import REJECTION_CODES
from kixo.log import REPLAYS
from kixo.log.opening import read_log_id
from kixo.query.answer import Answer
from kixo.query.questions.span import HOUR_US
from kixo.rejected.change import MEMBERS, changed
from kixo.rejected.judging import Judgement
from kixo.rejected.marking import mark
from kixo.rejected.reading import Part, Source, count_selected, next_part
from kixo.rejected.record import RegistryRecord
from kixo.rejected.replay import Replay
from kixo.rejected.selection import Place, Selection, groups, listed, one, over_time, shown_over_time
from kixo.rejected.tally import Reason, Summary, Tally
from kixo.timestamp import DAY_US, parse_us

EXPLORE = "/explore"
GROUPS_MAX = 200
EVENTS_SHOWN = 50
PREVIEWED_EVENTS = 200
STEP_EVENTS = 1000
# What an answer of the pool can surely hold, as JSON within JSON.
STEP_BYTES = 2 * 1024 * 1024
AROUND_MAX, WRONG_MAX = 16_000, 4_000
SERIES_MAX = 7

T = TypeVar("T")


class Period(NamedTuple):
    """How far back the page looks, and the step of its chart, in microseconds."""

    name: str
    title: str
    length_us: int
    step_us: int


PERIODS = (
    Period("1", "24 hours", DAY_US, HOUR_US),
    Period("7", "7 days", 7 * DAY_US, 6 * HOUR_US),
    Period("30", "30 days", 30 * DAY_US, DAY_US),
    Period("90", "90 days", 90 * DAY_US, DAY_US),
)
PERIOD_DEFAULT = PERIODS[1]


def routes() -> list[BaseRoute]:
    """The routes of the page."""
    return [
        Route("/rejected", show),
        Route("/rejected/group", show_group),
        Route("/rejected/event", show_event),
        Route("/rejected/preview", preview, methods=["POST"]),
        Route("/rejected/replay", replay, methods=["POST"]),
    ]


async def show(request: Request) -> Response:
    """All groups of a period."""
    period = next((each for each in PERIODS if each.name == request.query_params.get("days")), PERIOD_DEFAULT)
    now_us = console_of(request).now_us()
    first_us = (now_us - period.length_us) // period.step_us * period.step_us

    def look(chosen: Chosen, source: Source) -> dict[str, Any]:
        selection = selection_of({"from_us": str(first_us)}, chosen)
        replayed = RegistryRecord(console_of(request).registry()).of_log(source.log_id)
        found = source.ask(groups(selection, replayed, source.log_id, GROUPS_MAX))
        counted = source.ask(over_time(selection, source.log_id, period.step_us))
        return {
            "groups": list(map(_group, found)),
            "chart": _chart(counted, first_us, now_us, period.step_us),
            "sql": shown_over_time(selection, period.step_us),
            "explore": chosen.link(EXPLORE, sql=shown_over_time(selection, period.step_us)),
        }

    chosen, found = await _look(request, look)
    return await _page(request, "rejected.html", chosen, period=period, periods=PERIODS, first_us=first_us, **found)


async def show_group(request: Request) -> Response:
    """One group: its reason, its latest events, and the form of a replay."""
    query = dict(request.query_params)
    before = _numbers(query.get("before", ""))

    def look(chosen: Chosen, source: Source) -> dict[str, Any]:
        selection = selection_of(query, chosen)
        replayed = RegistryRecord(console_of(request).registry())
        of_log = replayed.of_log(source.log_id)
        found = source.ask(groups(selection, of_log, source.log_id, 1))
        events = source.ask(listed(selection, source.log_id, before, EVENTS_SHOWN + 1)) if found else []
        known = replayed.known({_place(event) for event in events})
        return {
            "group": _group(found[0]) if found else None,
            "events": [_listed(event, known) for event in events[:EVENTS_SHOWN]],
            "more": ":".join(map(str, _order(events[EVENTS_SHOWN - 1]))) if len(events) > EVENTS_SHOWN else None,
        }

    chosen, found = await _look(request, look)
    here = {name: query[name] for name in (*GROUP, "from_us", "to_us") if name in query}
    return await _page(
        request, "rejected_group.html", chosen, here=here, members=MEMBERS, sets=SETS, before=before, **found
    )


async def show_event(request: Request) -> Response:
    """One event as it was sent, with what is wrong marked, and a form to mend it. Raises `NotFound`."""
    query = request.query_params
    place = read_place(query.get("place", ""))
    received_at_us = next(iter(_numbers(query.get("at", ""))), 0)

    def look(chosen: Chosen, source: Source) -> dict[str, Any]:
        selection = Selection(places=(place,), project_id=(chosen.project.id if chosen.project else "",))
        found = source.ask(one(selection, source.log_id, received_at_us))
        if not found:
            raise NotFound("There is no such rejected event.")
        row = found[0]
        return {
            "row": row,
            "marked": mark(row["event"], row["field"], around_max=AROUND_MAX, wrong_max=WRONG_MAX),
            "replayed": bool(source.record.known({place})),
        }

    chosen, found = await _look(request, look)
    return await _page(
        request, "rejected_event.html", chosen, place=place_text(place), reasons=REJECTION_CODES, **found
    )


async def preview(request: Request) -> Response:
    """What a replay would do: of how many events, and to the first of them one by one."""
    only_chosen = request.query_params.get("only") == "chosen"
    now_us = console_of(request).now_us()
    fields = as_previewed(form_of(request), only_chosen=only_chosen, now_us=now_us)

    def look(chosen: Chosen, source: Source) -> dict[str, Any]:
        tally = Tally()
        nothing: dict[str, Any] = {"error": None, "total": 0, "lines": [], "summary": tally.summary()}
        if fields is None:
            return nothing
        try:
            asked = read_form(fields, chosen)
        except BadArgument as error:
            return {**nothing, "error": error}
        part = next_part(source, asked.selection, asked.change, None)
        if part is not None:
            tally.take(part)
        lines = [_line(judgement, asked) for judgement in part.judgements[:PREVIEWED_EVENTS]] if part else []
        total = count_selected(source, asked.selection)
        return {"error": None, "total": total, "lines": lines, "summary": tally.summary()}

    chosen, found = await _look(request, look)
    return await _page(request, "rejected_preview.html", chosen, kept=kept(fields or {}), **found)


async def replay(request: Request) -> Response:
    """One step of a replay, and how it goes on. What the steps before came to stands in the form."""
    fields = form_of(request)
    before = _summary(fields.get("so_far", ""))

    def step(chosen: Chosen, source: Source) -> dict[str, Any]:
        asked = read_form(fields, chosen)
        tally = Tally()
        part = _replay_part(request, source, asked, tally)
        so_far = _together(before, tally.summary())
        after = None if part is None else ":".join(map(str, part.end))
        total = next(iter(_numbers(fields.get("total", ""))), 0)
        return {"so_far": so_far, "after": after, "kept": kept(fields), "total": total}

    chosen, found = await _look(request, step)
    found["carried"] = json.encode(found["so_far"]).decode()
    found["sql"] = _see(found["so_far"])
    found["explore"] = chosen.link(EXPLORE, sql=found["sql"])
    if request.headers.get("hx-request"):
        return HTMLResponse(await run_in_threadpool(lambda: _part(request, chosen, found)))
    return await _page(request, "rejected_replay.html", chosen, **found)


def _part(request: Request, chosen: Chosen, found: dict[str, Any]) -> str:
    csrf = request.state.session.csrf
    return fragment(request, "rejected_progress.html", chosen, csrf=csrf, **found)


def _replay_part(request: Request, source: Source, asked: Asked, tally: Tally) -> Part | None:
    """Replays the next events. Judged while the partition is held, so that no other replay comes in between."""
    console = console_of(request)

    def report(sentence: str, size: int) -> None:
        console.log.warning("log_repaired", what=sentence, bytes=size)

    with Replay(console.layout.log, console.settings, source.record, console.now_us, report) as writer:
        part = next_part(source, asked.selection, asked.change, asked.after)
        if part is not None:
            tally.first_offset = writer.first_offset
            writer.write(part.judgements)
            tally.take(part)
    return part


async def _look(request: Request, look: Callable[[Chosen, Source], T]) -> tuple[Chosen, T]:
    """Runs `look` in a thread, for it waits for the disk and for queries."""
    console, loop = console_of(request), asyncio.get_running_loop()

    def ask(sql: str) -> list[dict[str, Any]]:
        answer: Answer = asyncio.run_coroutine_threadsafe(console.pool.table(sql), loop).result()
        if answer.truncated:
            raise QueryFailed("The events are too large to be shown at once.", "Use `kixo rejected` on the server.")
        return answer.dicts()

    def work() -> tuple[Chosen, T]:
        chosen = choose(request)
        record = RegistryRecord(console.registry())
        source = Source(ask, read_log_id(console.settings), record, STEP_EVENTS, STEP_BYTES)
        return chosen, look(chosen, source)

    return await run_in_threadpool(work)


async def _page(request: Request, template: str, chosen: Chosen, **data: Any) -> Response:
    return await run_in_threadpool(lambda: render(request, template, chosen, **data))


def _group(row: dict[str, Any]) -> dict[str, Any]:
    """A group for its template: times as numbers, and what an address needs to find it again."""
    address = {name: row[name] or "" for name in GROUP}
    times = {name: parse_us(row[name]) for name in ("first_seen", "last_seen")}
    return {**row, **times, "address": address, "what": REJECTION_CODES.get(row["code"], "")}


def _place(row: Mapping[str, Any]) -> Place:
    return Place(row["log_id"], row["log_partition"], row["log_offset"], row["log_index"])


def _order(row: Mapping[str, Any]) -> tuple[int, ...]:
    return row["received_at_us"], row["log_partition"], row["log_offset"], row["log_index"]


def _listed(row: dict[str, Any], known: set[Place]) -> dict[str, Any]:
    place = _place(row)
    return {**row, "place": place_text(place), "replayed": place in known}


def _line(judgement: Judgement, asked: Asked) -> dict[str, Any]:
    row, refusal = judgement.row, judgement.refusal
    after = changed(row.event, row.place, asked.change).decode("utf-8", "replace")
    return {
        "outcome": judgement.outcome,
        "reason": None if refusal is None else refusal.message,
        "received_at_us": row.received_at_us,
        "place": place_text(row.place),
        "event": after if len(after) <= 300 else after[:300] + "…",
    }


def _chart(counted: list[dict[str, Any]], first_us: int, now_us: int, step_us: int) -> dict[str, Any]:
    """Events over time by reason, the most frequent ones by themselves."""
    totals: Counter[str] = Counter()
    by_reason: dict[str, Counter[int]] = defaultdict(Counter)
    for row in counted:
        reason = " ".join(filter(None, (row["code"], row["field"])))
        totals[reason] += row["events"]
        by_reason[reason][row["at_us"]] += row["events"]
    named = [reason for reason, _ in totals.most_common(SERIES_MAX)]
    others: Counter[int] = sum((by_reason[reason] for reason in totals if reason not in named), Counter())
    moments = range(first_us, now_us + 1, step_us)
    series = [{"label": name, "values": [by_reason[name][at] for at in moments]} for name in named]
    if others:
        series.append({"label": "others", "values": [others[at] for at in moments]})
    return {"x": [at // 1_000_000 for at in moments], "unit": "events", "kind": "bars", "series": series}


def _see(so_far: Summary) -> str:
    return f"SELECT * FROM events WHERE log_partition = {REPLAYS} AND log_offset >= {so_far.first_offset or 0}"


def _summary(text: str) -> Summary:
    """What the form carries from the steps before."""
    try:
        return json.decode(text.encode(), type=Summary) if text else Tally().summary()
    except DecodeError:
        raise BadArgument("The form cannot be read.", "Load the page again.") from None


def _together(one: Summary, other: Summary) -> Summary:
    reasons: dict[tuple[str, str | None], Reason] = {}
    for reason in (*one.reasons, *other.reasons):
        key = reason.code, reason.field
        events = reason.events + (reasons[key].events if key in reasons else 0)
        reasons[key] = Reason(reason.code, reason.field, events, reason.message)
    first = other.first_offset if one.first_offset is None else one.first_offset
    return Summary(
        one.replayed + other.replayed,
        one.replayed_before + other.replayed_before,
        one.rejected + other.rejected,
        sorted(reasons.values(), key=lambda reason: -reason.events),
        first,
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(":"))) if text else ()
    except ValueError:
        raise BadArgument("The address cannot be read.", "Follow a link of the page Rejected.") from None
