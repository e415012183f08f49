"""`kixo rejected`: rejected events by reason and app, and their replay.

`kixo rejected replay --json` prints one object: `replayed`, `replayed_before`, `rejected` (numbers of events),
`reasons` (each with `code`, `field`, `events` and `message`, an example), and `first_offset`, from which on what was
replayed stands in the log partition of replays. With `--dry-run` a line for each event comes before it: `project_id`,
`environment`, `log_partition`, `log_offset`, `log_index`, `outcome` (replayed, replayed_before or rejected), `code`,
`field` and `message`, and `event`, its JSON after the changes.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kixo.cli.asking import asking, query_caps, read_instant, run
from kixo.cli.options import Json, takes_settings
from kixo.cli.result import print_result
from kixo.cli.writing import format_of, write_result
from kixo.errors import BadArgument, EventsRejected
from kixo.lake.opening import open_lake
from kixo.lake.read import require_lake
from kixo.layout import Layout
from kixo.log import REPLAYS
from kixo.log.opening import read_log_id
from kixo.output import print_error, print_json, print_line, print_table, progress_bar
from kixo.query import QueryCaps, QueryEngine, Result
from kixo.query.account import read_rows
from kixo.registry import Registry, open_registry
from kixo.rejected.change import Change, changed, check_json, check_path
from kixo.rejected.judging import Judgement
from kixo.rejected.reading import Part, Source, count_selected, parts
from kixo.rejected.record import RegistryRecord
from kixo.rejected.replay import Replay
from kixo.rejected.selection import Selection, groups
from kixo.rejected.tally import Summary, Tally
from kixo.settings import Settings
from kixo.timestamp import now_us

Format = Literal["table", "json", "csv", "parquet"]
Several = tuple[str, ...]
Projects = Annotated[Several, Parameter(name="--project", help="Only of this project; can be given several times.")]
Environments = Annotated[Several, Parameter(name="--environment", help="Only of this environment; likewise.")]
Platforms = Annotated[Several, Parameter(name="--platform", help="Only of this platform; likewise.")]
Bundles = Annotated[Several, Parameter(name="--bundle", help="Only of this bundle; likewise.")]
Versions = Annotated[Several, Parameter(name="--app-version", help='Only of this version of the app; "" is none.')]
Codes = Annotated[Several, Parameter(name="--code", help="Only with this reason, such as missing; likewise.")]
Fields = Annotated[Several, Parameter(name="--field", help='Only with this member wrong; "" is the event itself.')]
Since = Annotated[str | None, Parameter(help="Only received from this time on (ISO 8601).")]
Until = Annotated[str | None, Parameter(help="Only received before this time (ISO 8601).")]
SHOWN_MAX = 20


@takes_settings()
def show(
    settings: Settings,
    *,
    project: Projects = (),
    environment: Environments = (),
    platform: Platforms = (),
    bundle: Bundles = (),
    app_version: Versions = (),
    code: Codes = (),
    field: Fields = (),
    since: Since = None,
    until: Until = None,
    format: Annotated[
        Format | None, Parameter(help="table, json (a line for each group), csv or parquet. [default: table]")
    ] = None,
    output: Annotated[Path | None, Parameter(help="The file to write; its suffix can name the format.")] = None,
) -> None:
    """Lists groups of rejected events, the largest first, with the latest value that was wrong."""
    chosen = format_of(format, output, "table")
    selection = Selection(*_span(since, until), project, environment, platform, bundle, code, field, app_version)
    with open_registry(settings) as registry, _asking(settings, output) as (engine, caps):
        log_id = read_log_id(settings)
        sql = groups(selection, RegistryRecord(registry).of_log(log_id), log_id)
        run(engine, caps, lambda: _show(engine.run(sql), chosen, output))


@takes_settings()
def replay(
    settings: Settings,
    *,
    project: Projects = (),
    environment: Environments = (),
    platform: Platforms = (),
    bundle: Bundles = (),
    app_version: Versions = (),
    code: Codes = (),
    field: Fields = (),
    since: Since = None,
    until: Until = None,
    set: Annotated[
        Several,
        Parameter(help="MEMBER=JSON: set this in each event first, such as 'device_id=\"none\"'; several times."),
    ] = (),
    remove: Annotated[
        Several, Parameter(help="Remove this member from each event first, such as properties.blob; likewise.")
    ] = (),
    dry_run: Annotated[bool, Parameter(help="Only tell what would become of each event.")] = False,
    yes: Annotated[bool, Parameter(help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Judges rejected events again by the present rules, and stores those that pass as if they had come then."""
    from_us, to_us = _span(since, until)
    # What comes while this runs is left for the next time, or there might be no end.
    to_us = now_us() if to_us is None else to_us
    selection = Selection(from_us, to_us, project, environment, platform, bundle, code, field, app_version)
    change = read_change(set, remove)
    with open_registry(settings) as registry, _asking(settings, None) as (engine, caps):
        source = _source(settings, registry, engine, caps)
        total = count_selected(source, selection)
        if total == 0:
            print_error("No rejected event is chosen. 'kixo rejected list' shows what there is.")
        if total == 0 or not (dry_run or yes or json or _is_confirmed(total)):
            return
        tally = Tally()
        found = (_told(part, change) if dry_run and json else part for part in parts(source, selection, change))
        try:
            # Whatever is printed while there is a bar would go through it.
            with nullcontext(_ignore) if dry_run and json else progress_bar("events", total) as advance:
                _judge(found, tally, _replay(settings, source, dry_run), advance)
        finally:
            _print(tally.summary(), settings.data_dir, dry_run, json)
    summary = tally.summary()
    if summary.rejected:
        raise EventsRejected(
            f"{summary.rejected} of {total} events are still rejected.", "--set and --remove change them first."
        )


def read_change(set: Sequence[str], remove: Sequence[str]) -> Change:
    """The change that the flags ask for; raises `BadArgument`."""
    values: dict[str, bytes] = {}
    for flag in set:
        path, equals, text = flag.partition("=")
        if not equals:
            raise BadArgument(f"--set {flag} has no value.", "Write --set 'device_id=\"none\"'.")
        try:
            values[check_path(path)] = check_json(text)
        except BadArgument as error:
            raise BadArgument(f"--set {flag}: {error.message}", error.next_step) from None
    return Change(values, tuple(map(check_path, remove)))


def _told(part: Part, change: Change) -> Part:
    """The part, after a line for each of its events."""
    for judgement in part.judgements:
        print_json(_line(judgement, change))
    return part


def _line(judgement: Judgement, change: Change) -> dict[str, object]:
    row, refusal = judgement.row, judgement.refusal
    return {
        "project_id": row.project_id,
        "environment": row.environment,
        "log_partition": row.log_partition,
        "log_offset": row.log_offset,
        "log_index": row.log_index,
        "outcome": judgement.outcome,
        "code": None if refusal is None else refusal.code,
        "field": None if refusal is None else refusal.field,
        "message": None if refusal is None else refusal.message,
        "event": changed(row.event, row.place, change).decode(),
    }


def _span(since: str | None, until: str | None) -> tuple[int | None, int | None]:
    return read_instant("--since", since), read_instant("--until", until)


@contextmanager
def _asking(settings: Settings, output: Path | None) -> Iterator[tuple[QueryEngine, QueryCaps]]:
    lake = open_lake(settings)
    require_lake(lake)
    caps = query_caps(settings, None, None)
    with asking(lake, caps, output) as engine:
        yield engine, caps


def _source(settings: Settings, registry: Registry, engine: QueryEngine, caps: QueryCaps) -> Source:
    def ask(sql: str) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        run(engine, caps, lambda: found.extend(read_rows(engine, sql)))
        return found

    return Source(ask, read_log_id(settings), RegistryRecord(registry))


def _is_confirmed(total: int) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"{total} rejected events are judged again, and those that pass are stored. Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _replay(settings: Settings, source: Source, dry_run: bool) -> AbstractContextManager[Replay | None]:
    """The writer of a replay, None for one that only tells what it would do."""
    log = Layout(settings.data_dir).log
    return nullcontext() if dry_run else Replay(log, settings, source.record, now_us, _report)


def _judge(
    found: Iterable[Part],
    tally: Tally,
    opening: AbstractContextManager[Replay | None],
    advance: Callable[[float], None],
) -> None:
    with opening as writer:
        for part in found:
            if writer is not None:
                writer.write(part.judgements)
                tally.first_offset = writer.first_offset
            tally.take(part)
            advance(len(part.judgements))


def _ignore(_: float) -> None:
    pass


def _report(sentence: str, size_bytes: int) -> None:
    print_error(f"The log {sentence} ({size_bytes} bytes).")


def _show(result: Result, format: str, output: Path | None) -> None:
    if format == "table":
        print_result(result)
    else:
        write_result(result, format, output)


def _print(summary: Summary, data_dir: Path, dry_run: bool, json: bool) -> None:
    if json:
        print_json(summary)
        return
    would = "would be " if dry_run else ""
    print_line(f"{summary.replayed} {would}replayed, {summary.rejected} {would}still rejected.")
    if summary.replayed_before:
        print_line(f"{summary.replayed_before} were replayed before, and are left as they are.")
    if summary.reasons:
        rows = [(reason.events, reason.code, reason.field, reason.message) for reason in summary.reasons[:SHOWN_MAX]]
        print_table(("events", "still rejected", "member", "such as"), rows)
    if summary.first_offset is not None:
        print_line("A running server stores them within seconds, else the next start does; copies add nothing.")
        where = f"log_partition = {REPLAYS} AND log_offset >= {summary.first_offset}"
        folder = "" if data_dir == Settings().data_dir else f" --data-dir {data_dir}"
        print_line(f'To see those that are new: kixo query{folder} "SELECT * FROM events WHERE {where}"')
