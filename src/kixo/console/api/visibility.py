"""Waiting until what was acknowledged can be read: `after`.

An ack names its place in the log, `<partition>:<offset>` (the header `Kixo-Position`). The loader of a local log writes
down after each load how far the tables have come, in a file of a few kilobytes; that is looked at, and not the tables.
Of a log that loaders on other machines share the tables themselves are asked (`kixo.console.loaded`).
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kixo.console.feed.outcome import ReadLoads
from kixo.errors import InvalidRequest, KixoError, NotYetVisible

POLL_S = 0.05
POSITIONS_MAX = 256
_POSITION = re.compile(r"([0-9]{1,3}):([0-9]{1,18})", re.ASCII)
# Later than any number of a copy: of the copies of a load nothing is wanted here.
_NO_COPIES = 2**63


class Position(NamedTuple):
    """Where in the log a request stands."""

    partition: int
    offset: int


def parse_after(texts: Iterable[str]) -> list[Position]:
    """The positions that are to be visible, each text with one or, between commas, several; raises `InvalidRequest`."""
    found = [_parse(part.strip()) for text in texts for part in text.split(",")]
    if len(found) > POSITIONS_MAX:
        raise InvalidRequest(f"`after` names {len(found)} positions; the most is {POSITIONS_MAX}.", field="after")
    return found


def _parse(text: str) -> Position:
    match = _POSITION.fullmatch(text)
    if match is None:
        raise InvalidRequest(
            f"`after` is {text[:64]!r}, no position. Send the value of a `Kixo-Position` header, such as 0:1048591.",
            field="after",
        )
    return Position(int(match[1]), int(match[2]))


async def wait_visible(wanted: list[Position], loaded: Callable[[], Mapping[int, int]], seconds_max: float) -> None:
    """Waits until what stands at these positions is in the tables; raises `NotYetVisible`."""
    ends = time.monotonic() + seconds_max
    while wanted and (missing := _missing(wanted, await asyncio.to_thread(loaded))):
        if time.monotonic() >= ends:
            raise _not_yet(missing, seconds_max)
        await asyncio.sleep(POLL_S)


def loaded_positions(read: ReadLoads) -> Mapping[int, int]:
    """How far the tables have come, by partition; nothing where that cannot be told."""
    try:
        found = read(_NO_COPIES)
    except (OSError, KixoError):
        return {}
    return {} if found is None else found.positions


def _missing(wanted: list[Position], loaded: Mapping[int, int]) -> list[Position]:
    return [position for position in wanted if position.offset >= loaded.get(position.partition, 0)]


def _not_yet(missing: list[Position], seconds: float) -> NotYetVisible:
    shown = ", ".join(f"{position.partition}:{position.offset}" for position in missing[:5])
    return NotYetVisible(
        f"After {seconds:g} seconds the tables do not hold the log at {shown} yet. Ask again with the same `after`;"
        " the page Health shows whether the loader is behind.",
        retry_after_s=1,
    )
