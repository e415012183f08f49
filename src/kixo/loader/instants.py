"""ISO 8601 texts to microseconds, a column at a time.

`timestamp.parse_us` says what a text means, at 2,000 ns. Arrow reads most of what clients send at 20 ns a text, but
gives up on a whole column for one text that it cannot read. So a column that it refuses is halved until the parts
that it reads, in one of three ways, are found; short parts that it refuses go text by text. Where Arrow reads a text it
reads what `parse_us` reads, which a property test holds.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kixo.timestamp import EARLIEST_US, LATEST_US, parse_us

SLICE_MIN = 32
NANOSECONDS = 1000

Instants = NDArray[np.int64]


def parse_column(texts: pa.StringArray, fallback_us: Callable[[int], int]) -> Instants:
    """Microseconds since 1970 of each text, none null; as `parse_us`, also held within the years 1 to 9999.

    Ingest has taken these texts for ISO 8601. Should one not be, the event still must not be lost:
    `fallback_us` gives the instant for the text at a place.
    """
    instants = np.empty(len(texts), np.int64)
    pending = [(0, len(texts))]
    while pending:
        start, end = pending.pop()
        part = texts.slice(start, end - start)
        found = _cast(part)
        if found is not None:
            instants[start:end] = found
        elif end - start <= SLICE_MIN:
            instants[start:end] = [_parse(text, start + n, fallback_us) for n, text in enumerate(part.to_pylist())]
        else:
            middle = (start + end) // 2
            pending += [(start, middle), (middle, end)]
    return np.clip(instants, EARLIEST_US, LATEST_US)


def _parse(text: str, place: int, fallback_us: Callable[[int], int]) -> int:
    try:
        return parse_us(text)
    except ValueError:
        return fallback_us(place)


def _cast(texts: pa.StringArray) -> Instants | None:
    """All texts in one of the ways that Arrow knows: with an offset, with more than six digits, without an offset."""
    for unit, zone in (("us", "UTC"), ("ns", "UTC"), ("us", None)):
        try:
            numbers: Instants = texts.cast(pa.timestamp(unit, zone)).cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            continue
        # Cut, not rounded: a floor is that for instants before 1970 too.
        return numbers // NANOSECONDS if unit == "ns" else numbers
    return None
