"""A query's result as a table for people: bounded in rows, cut to the width of the terminal."""

import shutil
import sys
from itertools import chain, islice

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from kixo.output import console, visible
from kixo.query import Result
from kixo.query.write import cell_text, row_batches

ROWS_MAX = 1000
# A column is cut to this many characters before another is left out.
WIDTH_MIN = 12
GAP = 2
# The columns of EXPLAIN.
PLAN = ["explain_key", "explain_value"]

Rows = list[list[str]]


def print_result(result: Result) -> None:
    """Prints the first rows on stdout, and on stderr what was left out. Piped, cells are whole."""
    if result.schema.names == PLAN:
        _print_plan(result)
        return
    found = list(islice(chain.from_iterable(row_batches(result)), ROWS_MAX + 1))
    rows = [[visible(cell_text(value) or "") for value in row] for row in found[:ROWS_MAX]]
    names = [visible(name) for name in result.schema.names]
    shown = _columns_that_fit(names, rows) if sys.stdout.isatty() else len(names)
    console(sys.stdout).print(_table(names[:shown], rows))
    sys.stdout.flush()
    _print_left_out(names[shown:], len(found) > ROWS_MAX)


def _print_plan(result: Result) -> None:
    """A plan is a drawing of many lines, and only its own columns are worth a look."""
    for _, plan in chain.from_iterable(row_batches(result)):
        for line in str(plan).splitlines():
            sys.stdout.write(visible(line) + "\n")


def _table(names: list[str], rows: Rows) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for name in names:
        table.add_column(Text(name), no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row[: len(names)]))
    return table


def _columns_that_fit(names: list[str], rows: Rows) -> int:
    """How many columns have a place on the terminal, at least one."""
    left = shutil.get_terminal_size().columns + GAP
    for shown, name in enumerate(names):
        widest = max((cell_len(row[shown]) for row in rows), default=0)
        left -= min(max(widest, cell_len(name)), WIDTH_MIN) + GAP
        if left < 0:
            return max(shown, 1)
    return len(names)


def _print_left_out(columns: list[str], more_rows: bool) -> None:
    if columns:
        sys.stderr.write(f"Not shown for width: {', '.join(columns)}. Name the columns, or use --format json.\n")
    if more_rows:
        sys.stderr.write(f"The first {ROWS_MAX} rows are shown. Use LIMIT, or --format json, csv or parquet for all.\n")
