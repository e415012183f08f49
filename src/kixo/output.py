"""How commands print: tables, JSON lines and progress bars, and how an error looks.

Only the CLI and `kixo bench` import this module, because rich is slow to load. What senders put into their events is
shown with its control characters made visible: no event may move the cursor of the person who looks at it.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

# Wider than any line: what goes into a file or a pipe is never wrapped.
PIPE_WIDTH = 1_000_000
# Those that move a cursor, and those that turn the direction of the text around them or end its line.
TURNING = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in TURNING
}
# JSON escapes the first 32 by itself. These are in its texts only, and mean the same as escapes.
JSON_CONTROL = {code: f"\\u{code:04x}" for code in (*range(127, 160), *TURNING)}


def print_json(record: object) -> None:
    """Prints one record as one line of JSON on stdout."""
    sys.stdout.write(msgspec.json.encode(record).decode().translate(JSON_CONTROL) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table on stdout: in a box that fits the terminal, or with whole cells when piped. None is empty."""
    terminal = sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(visible(column)), overflow="fold", no_wrap=not terminal)
    for row in rows:
        table.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in row))
    console(sys.stdout).print(table)


def print_line(text: str) -> None:
    """Prints a line on stdout."""
    sys.stdout.write(visible(text) + "\n")


def print_error(message: str) -> None:
    """Prints what is wrong, and what to do, as one line on stderr."""
    sys.stderr.write(f"kixo: {visible(' '.join(message.split()))}\n")


@contextmanager
def progress_bar(title: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """A bar on stderr while the block runs, none off a terminal; the block calls what it gets with each advance."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(sys.stderr), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=total)
        yield lambda amount: progress.advance(task, amount)


class PlainConsole(Console):
    """A console that leaves the end of a broken pipe to the command line, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Raises the `BrokenPipeError` that is being handled."""
        raise BrokenPipeError


def console(stream: TextIO) -> Console:
    """A console that prints text as it is: no markup, no emoji codes, no colour of its own choice."""
    width = None if stream.isatty() else PIPE_WIDTH
    return PlainConsole(file=stream, width=width, markup=False, emoji=False, highlight=False)


def visible(text: str) -> str:
    """The text with control characters and lone surrogates as escapes, on one line."""
    return text.translate(CONTROL).encode("utf-8", "backslashreplace").decode()


def close_stdout() -> None:
    """Points stdout nowhere once its reader is gone, so that Python's own flush at exit has nothing to complain of."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
