"""The identities of a load's events, as arrays.

An identity is 16 bytes (`kixo.identity`). Here it is two 64-bit numbers: `high`, its first 8 bytes (scope and some
hash), and `low`, its last 8 bytes, which are hash alone and so can be used as such by the index.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kixo.identity import (
    IDENTITY_BYTES,
    SCOPE_BYTES,
    Described,
    event_id_digest,
    event_id_digests,
    fingerprint_digest,
    fingerprint_digests,
    repeat_digest,
    scope,
)
from kixo.loader.requests import Request
from kixo.stored import JudgedEvent

RawIdentities = NDArray[np.uint8]


class Identities(NamedTuple):
    """Identities as numbers: `high` and `low`, of equal length, uint64."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    def at(self, places: Any) -> "Identities":
        """Those at some places, given as NumPy indexes a array: a mask, a slice or numbers."""
        return Identities(self.high[places], self.low[places])


def split(raw: RawIdentities) -> Identities:
    """Identities of shape (n, 16) as numbers."""
    numbers = np.ascontiguousarray(raw).view("<u8")
    return Identities(np.ascontiguousarray(numbers[:, 0]), np.ascontiguousarray(numbers[:, 1]))


def identify(requests: list[Request], event_ids: list[str | None], properties: list[Any]) -> RawIdentities:
    """The identities of all events of the requests in order, of shape (n, 16).

    `properties` are bytes-like. Events that are equal within a request are told apart; a request must not be cut.
    """
    digests = _digests(requests, event_ids, properties)
    raw = np.frombuffer(digests, np.uint8).reshape(-1, IDENTITY_BYTES).copy()
    counts = [request.count for request in requests]
    if None in event_ids:
        _mark_known_repeats(raw, requests)
        _tell_repeats_apart(raw, event_ids, counts)
    scopes = {owner: scope(*owner) for owner in {(r.project_id, r.environment) for r in requests}}
    fronts = np.frombuffer(b"".join([scopes[r.project_id, r.environment] for r in requests]), np.uint8)
    raw[:, :SCOPE_BYTES] = np.repeat(fronts.reshape(-1, SCOPE_BYTES), counts, axis=0)
    return raw


def _digests(requests: list[Request], event_ids: list[str | None], properties: list[Any]) -> bytes:
    if None not in event_ids:
        return event_id_digests(event_ids)  # type: ignore[arg-type]
    described = _described(requests, properties)
    if not any(event_ids):
        return fingerprint_digests(described)
    return b"".join(
        [
            fingerprint_digest(event) if event_id is None else event_id_digest(event_id)
            for event_id, event in zip(event_ids, described, strict=True)
        ]
    )


def _described(requests: list[Request], properties: list[Any]) -> list[Described]:
    texts = iter(properties)
    return [
        (
            request.bundle_id,
            request.platform,
            event.device_id,
            event.session_id,
            event.event_type,
            event.event_name,
            event.timestamp,
            bytes(next(texts)),
        )
        for request in requests
        for event in request.events
    ]


def _mark_known_repeats(raw: RawIdentities, requests: list[Request]) -> None:
    """Events that were replayed without their equals in the same request say how many of those there are."""
    place = 0
    for request in requests:
        if request.judged:
            for number, event in enumerate(request.events, place):
                if isinstance(event, JudgedEvent) and event.repeat and event.event_id is None:
                    raw[number] = np.frombuffer(repeat_digest(raw[number].tobytes(), event.repeat), np.uint8)
        place += request.count


def _tell_repeats_apart(raw: RawIdentities, event_ids: list[str | None], counts: Sequence[int]) -> None:
    suspects = repeated(split(raw).low)
    if not len(suspects):
        return
    owners = np.repeat(np.arange(len(counts)), counts).tolist()
    seen: dict[tuple[int, bytes], int] = {}
    for place in suspects.tolist():
        if event_ids[place] is None:
            digest = raw[place].tobytes()
            repeat = seen[owners[place], digest] = seen.get((owners[place], digest), -1) + 1
            raw[place] = np.frombuffer(repeat_digest(digest, repeat), np.uint8)


def repeated(low: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places, in order, whose number stands at another place too."""
    ordered = np.sort(low)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    return np.flatnonzero(np.isin(low, twice)) if len(twice) else np.empty(0, np.int64)
