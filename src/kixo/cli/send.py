"""`kixo send`: with `--json`, one object with the members of `kixo.send.importing.Summary`."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from io import RawIOBase
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from cyclopts import Parameter
from msgspec.structs import replace

from kixo.cli.options import Json
from kixo.client.envelope import batch_url
from kixo.client.surroundings import Surroundings
from kixo.errors import BadArgument, BadOption, EventsRejected, SendFailed
from kixo.output import print_error, print_json, print_line, print_table, progress_bar
from kixo.send.bookmark import Bookmarks
from kixo.send.delivery import Target
from kixo.send.importing import Plan, Summary, send_file
from kixo.send.rows import Format, format_of
from kixo.send.shaping import parse_maps

FROM_STDIN = "-"
URL = "http://127.0.0.1:8000"
URL_VARIABLE, PROJECT_VARIABLE, KEY_VARIABLE = "KIXO_URL", "KIXO_PROJECT_ID", "KIXO_API_KEY"
BOOKMARK_SUFFIX = ".kixo-send"


def send(
    file: Annotated[Path, Parameter(help="JSON lines, CSV or Parquet; - reads stdin.", allow_leading_hyphen=True)],
    /,
    *,
    url: Annotated[str | None, Parameter(help=f"The server. [default: {URL_VARIABLE}, or {URL}]")] = None,
    project: Annotated[str | None, Parameter(help=f"The project to send as. [default: {PROJECT_VARIABLE}]")] = None,
    key_file: Annotated[
        Path | None, Parameter(help=f"A file whose first line is a key of the project. [default: {KEY_VARIABLE}]")
    ] = None,
    key: Annotated[
        str | None, Parameter(help="The key itself. Other users of this machine can see it while the command runs.")
    ] = None,
    format: Annotated[
        Format | None, Parameter(help="json (a line for each event), csv or parquet. [default: by suffix; json]")
    ] = None,
    map: Annotated[
        tuple[str, ...],
        Parameter(
            help="COLUMN=MEMBER: that column gives that member, such as user=device_id or price=properties.price; "
            "*=properties.* makes properties of all columns that are nothing else. Can be given several times."
        ),
    ] = (),
    bundle: Annotated[str | None, Parameter(help="bundle_id of rows that have none.")] = None,
    platform: Annotated[str | None, Parameter(help="platform of rows that have none.")] = None,
    environment: Annotated[
        str | None, Parameter(help="environment of rows that have none. [default: production]")
    ] = None,
    device: Annotated[str | None, Parameter(help="device_id of rows that have none.")] = None,
    session: Annotated[str | None, Parameter(help="session_id of rows that have none.")] = None,
    type: Annotated[str | None, Parameter(help="event_type of rows that have none.")] = None,
    name: Annotated[str | None, Parameter(help="event_name of rows that have none.")] = None,
    epoch: Annotated[
        Literal["s", "ms", "us"] | None,
        Parameter(help="Timestamps are numbers: seconds, milliseconds or microseconds since 1970."),
    ] = None,
    typed: Annotated[
        bool, Parameter(help="Cells of CSV that read as JSON numbers, true, false or null are those, not text.")
    ] = False,
    source: Annotated[str, Parameter(help="Tells rows without an id apart from equal rows of another source.")] = "",
    rejected: Annotated[
        Path | None, Parameter(help="Write rows that are not taken to this file, with reasons.")
    ] = None,
    strict: Annotated[bool, Parameter(help="Stop at the first row that is not taken.")] = False,
    restart: Annotated[
        bool, Parameter(help="Send the file from its start, wherever an earlier run has stopped.")
    ] = False,
    state: Annotated[
        Path | None, Parameter(help=f"Where to keep how far it came. [default: beside FILE, {BOOKMARK_SUFFIX}]")
    ] = None,
    connections: Annotated[int, Parameter(help="Connections to send over.")] = 4,
    timeout: Annotated[float, Parameter(help="Seconds to wait for an answer.")] = 30.0,
    patience: Annotated[float, Parameter(help="Seconds to go on without success before giving up.")] = 300.0,
    json: Json = False,
) -> None:
    """Sends the events of a file to a server, as fast as it takes them; run again, it goes on where it was stopped."""
    if connections < 1:
        raise BadArgument(f"--connections is {connections}.", "It has to be at least 1.")
    defaults = {
        "bundle_id": bundle,
        "platform": platform,
        "environment": environment,
        "device_id": device,
        "session_id": session,
        "event_type": type,
        "event_name": name,
    }
    given = {member: value for member, value in defaults.items() if value is not None}
    plan = Plan(
        target=_target(url, project, key, key_file),
        format=format_of(None if str(file) == FROM_STDIN else file, format),
        shape=replace(parse_maps(map), defaults=given, epoch=epoch, salt=source),
        connections=connections,
        timeout_s=timeout,
        patience_s=patience,
        typed=typed,
        strict=strict,
    )
    with ExitStack() as stack:
        opened = stack.enter_context(_open(file, plan.format))
        bookmarks = None if str(file) == FROM_STDIN or not file.is_file() else _bookmarks(file, opened, plan, state)
        if restart and bookmarks is not None:
            bookmarks.remove()
        sink = stack.enter_context(_sink(rejected))
        advance = stack.enter_context(progress_bar(*_length(file, plan.format)))
        summary = send_file(opened, plan, bookmarks, sink, advance, Surroundings())
    _print(summary, json)
    if summary.rejected:
        where = (
            f"They are in {rejected}: mend them there and send that file."
            if rejected
            else "--rejected FILE keeps them."
        )
        raise EventsRejected(f"{summary.rejected} of {summary.sent} rows were not taken.", where)


def _target(url: str | None, project: str | None, key: str | None, key_file: Path | None) -> Target:
    environment: Mapping[str, str] = os.environ
    project_id = project or environment.get(PROJECT_VARIABLE)
    if not project_id:
        raise BadArgument("There is no project.", f"Give --project, or set {PROJECT_VARIABLE}.")
    api_key = key or (_first_line(key_file) if key_file else environment.get(KEY_VARIABLE))
    if not api_key:
        raise BadArgument("There is no API key.", f"Give --key-file, or set {KEY_VARIABLE}.")
    try:
        address = batch_url(url or environment.get(URL_VARIABLE) or URL)
    except BadOption as error:
        raise BadArgument(str(error).replace("`host`", "--url"), "") from None
    return Target(address, project_id, api_key)


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadArgument(
            f"The key file {path} cannot be read: {error}.", "Put the key into its first line."
        ) from error


@contextmanager
def _open(path: Path, format: Format) -> Iterator[BinaryIO]:
    if str(path) == FROM_STDIN:
        if format == "parquet":
            raise BadArgument("Parquet cannot be read from stdin.", "Write it to a file first.")
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadArgument(f"{path} cannot be read: {error.strerror}.", "Give a file that can.") from error
    with file:
        yield file


def _bookmarks(path: Path, file: BinaryIO, plan: Plan, state: Path | None) -> Bookmarks:
    target: tuple[object, ...] = (plan.target.url, plan.target.project_id, plan.format, plan.shape, plan.typed)
    mark = blake2b(repr(target[:2]).encode(), digest_size=4).hexdigest()
    place = state or path.with_name(f"{path.name}.{mark}{BOOKMARK_SUFFIX}")
    return Bookmarks(place, file, target, whole=plan.format == "parquet")


@contextmanager
def _sink(path: Path | None) -> Iterator[Callable[[bytes], object]]:
    if path is None:
        yield lambda line: None
        return
    try:
        # Not buffered: a row counts as settled once its line is in the file.
        file = path.open("ab", buffering=0)
    except OSError as error:
        raise BadArgument(f"{path} cannot be written: {error.strerror}.", "Give --rejected another file.") from error
    with file:
        yield lambda line: _write_whole(file, path, line)


def _write_whole(file: RawIOBase, path: Path, line: bytes) -> None:
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) or 0 :]
    except OSError as error:
        raise SendFailed(
            f"The rows that were not taken cannot be written to {path}: {error.strerror}.",
            "Make room or give --rejected another file, then run the command again: it goes on from there.",
        ) from error


def _length(path: Path, format: Format) -> tuple[str, float | None]:
    """What the bar counts, and up to what."""
    if format == "parquet":
        return "rows", None
    return "bytes", None if str(path) == FROM_STDIN else path.stat().st_size


def _print(summary: Summary, json: bool) -> None:
    if json:
        print_json(summary)
        return
    if summary.begun_at:
        print_line(f"Went on after line {summary.begun_at}, which earlier runs had come to.")
    taken = summary.sent - summary.rejected
    rate = taken / summary.seconds if summary.seconds else 0.0
    print_line(f"{taken} of {summary.sent} events taken in {summary.seconds:.1f} s ({rate:.0f} a second).")
    if summary.reasons:
        rows = [
            (reason.code, reason.rows, line, message) for reason in summary.reasons for line, message in reason.examples
        ]
        print_table(("not taken", "rows", "such as line", "because"), rows)
    if summary.unused:
        print_error(f"Columns that went into nothing: {', '.join(summary.unused)}. --map puts them somewhere.")
    if summary.corrected:
        print_error(
            f"{summary.corrected} events went with their client's time, which the server that they come from had "
            "corrected. --map timestamp=timestamp sends the corrected one."
        )
