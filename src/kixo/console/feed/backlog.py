"""The end of what has arrived: the list that a page begins with, and all that one without JavaScript has."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

from msgspec.structs import replace

from kixo.console.feed.filter import Filter, Search, wants_refused
from kixo.console.feed.outcome import LoadNews, ReadLoads
from kixo.console.feed.row import Place, Row, parse_place
from kixo.console.feed.sample import Decoding, Open, copies, newest
from kixo.log.preview import Preview, Stretch

ROWS_MAX = 100
# Enough of the log's end to find a hundred events of one kind, and for a second or more without a connection.
LOG_BYTES = 4 * 1024 * 1024
DECODED_BYTES_MAX = 4 * 1024 * 1024

ReadRefused = Callable[[], tuple[list[Row], list[Row]]]
"""Refused requests, oldest first: those known before, and those since it was last called."""


class Sources(NamedTuple):
    """Where to read: the log, the loader's record, and, opened anew for each reader, the refused requests."""

    open_log: Callable[[], Preview]
    read_loads: ReadLoads
    open_refused: Callable[[], ReadRefused]


def look(sources: Sources, wanted: Filter) -> list[Row]:
    """The newest of the wanted rows, newest first, with what is known of them now. Raises `OSError` and `KixoError`."""
    news = LoadNews(sources.read_loads)
    news.ask()
    known, new = sources.open_refused()()
    with closing(sources.open_log()) as preview:
        stretches = log_end(preview, preview.partitions())
    rows = backlog(stretches, Search(wanted), list(news.copies), known + new, Decoding(DECODED_BYTES_MAX).open)
    return [_settled(row, news) for row in reversed(rows)]


def log_end(preview: Preview, partitions: Sequence[int]) -> list[Stretch]:
    """The last few megabytes of each partition."""
    return [found for partition in partitions for found in preview.newest(partition, LOG_BYTES)]


def backlog(
    stretches: Sequence[Stretch], search: Search, known_copies: Sequence[Place], refused: list[Row], opened: Open
) -> list[Row]:
    """The newest of the wanted rows, in the order of their arrival."""
    if search.wanted.outcome == "duplicate":
        return copies(known_copies, stretches, search, ROWS_MAX, opened)
    # Old ones of which nobody knows whose they are say nothing to who has just come.
    rows = newest(stretches, search, ROWS_MAX, opened) + wanted_of(refused, replace(search.wanted, strangers=False))
    return sorted(rows, key=lambda row: row.at)[-ROWS_MAX:]


def wanted_of(refused: list[Row], wanted: Filter) -> list[Row]:
    """Those of the refused requests that are wanted."""
    return [row for row in refused if wants_refused(wanted, row.project, row.environment, row.platform)]


def _settled(row: Row, news: LoadNews) -> Row:
    if row.outcome != "accepted" or news.missed or not news.is_loaded(parse_place(row.id)):
        return row
    return replace(row, outcome="duplicate" if news.is_copy(parse_place(row.id)) else "stored")
