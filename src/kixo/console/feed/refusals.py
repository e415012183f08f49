"""Refused requests as rows: read from the workers' own records, since nothing of them is in the log."""

from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

from msgspec import json

from kixo.console.feed.backlog import ReadRefused
from kixo.console.feed.row import Reason, Row
from kixo.refused import RefusedRequest, read_refused
from kixo.timestamp import format_us

KNOWN_MAX = 100


def open_refusals(folder: Path) -> ReadRefused:
    """A reader of the records in `folder`, which begins with the last hundred; raises `OSError`."""
    known: list[Row] = []
    position: Mapping[str, int] | None = None

    def read() -> tuple[list[Row], list[Row]]:
        nonlocal known, position
        found = read_refused(folder, position)
        rows = [row_of_refused(entry) for entry in found.entries]
        if position is None:
            known, rows = rows[-KNOWN_MAX:], []
        position = found.next
        before, known = known, [*known, *rows][-KNOWN_MAX:]
        return before, rows

    return read


def row_of_refused(entry: RefusedRequest) -> Row:
    """A refused request as a row. Its id has a letter, for it has no place in the log."""
    return Row(
        id=f"r{entry.at_us}-{crc32(json.encode(entry)):08x}",
        at=format_us(entry.at_us),
        outcome="refused",
        project=entry.project_id,
        reason=Reason(entry.code, entry.message, entry.field, entry.excerpt),
        status=entry.status,
    )
