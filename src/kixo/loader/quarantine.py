"""Frames that are not what ingest writes.

There cannot be any; a defect of ours could make one. It must neither stop the loader nor be passed over in silence:
its payload is set aside in a file, an error is reported, and the ledger counts its events as received and nothing
else, so that every audit fails until somebody has looked.
"""

from collections.abc import Callable

import msgspec

from kixo.lake.report import Report
from kixo.lake.store import LakeStore
from kixo.loader.requests import PlacedFrame
from kixo.loader.rows import EventRows
from kixo.stored import decode_owner

UNREADABLE = (ValueError, OverflowError, RecursionError)

MakeRows = Callable[[list[PlacedFrame]], EventRows]


def make_rows_of_good(frames: list[PlacedFrame], make_rows: MakeRows) -> tuple[EventRows | None, list[PlacedFrame]]:
    """The rows of all frames that can be read, None if there are no such; and the frames that cannot."""
    try:
        return make_rows(frames), []
    except UNREADABLE:
        bad = [placed for placed in frames if not _can_be_read(placed, make_rows)]
        good = [placed for placed in frames if placed not in bad]
        return (make_rows(good) if good else None), bad


def _can_be_read(placed: PlacedFrame, make_rows: MakeRows) -> bool:
    try:
        make_rows([placed])
    except UNREADABLE:
        return False
    return True


def set_aside(store: LakeStore, log_id: str, placed: PlacedFrame, report: Report) -> None:
    """Keeps the payload of a frame that cannot be read, durably, and reports it. Raises `OSError`."""
    name = f"{log_id}-{placed.partition}-{placed.frame.offset}.payload"
    store.replace(name, placed.frame.payload)
    report.error(
        "A request in the log cannot be read. It was set aside and is in no table; this is a defect of Kixo.",
        file=f"{store.url}/{name}",
        events=placed.frame.accepted + placed.frame.rejected,
    )


def owner(placed: PlacedFrame) -> str:
    """The project of a frame that cannot be read; empty where that cannot be read either."""
    try:
        return decode_owner(placed.frame.payload).project_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
