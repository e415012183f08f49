"""By what an event is known again: 16 bytes that are the same for every copy of it and for nothing else.

    bytes 0-3    of BLAKE2b over (project_id, environment): the *scope*
    bytes 4-15   of XXH3-128 over what the client gave, with a seed that tells the three cases apart:
                   seed 1   the event_id
                   seed 2   without one, msgpack of (bundle_id, platform, device_id, session_id, event_type,
                            event_name, timestamp text, properties bytes), both as sent
                   seed 3   the k-th (k >= 1) further event of one request that is equal in all of these:
                            the 16 bytes of XXH3-128 with seed 2, then k as 8 bytes, little-endian

XXH3 is fast and not made to withstand people who look for collisions. With the scope in front they can only find them
within their own project, where they could as well send no events at all. Between honest events, 96 bits make a
collision less likely than 1 in 10^9 for 1.2 * 10^10 events of a project (birthday bound).

Neither `sent_at` nor `received_at` nor the corrected time takes part: a repeated request changes them. Msgpack is
injective over such tuples, since it writes every length. These values are kept for good: a change would let every
event in once more, so tests hold them to known answers.
"""

from collections.abc import Iterable
from hashlib import blake2b

from msgspec import msgpack
from xxhash import xxh3_128_digest

IDENTITY_BYTES = 16
SCOPE_BYTES = 4
EVENT_ID_SEED, FINGERPRINT_SEED, REPEAT_SEED = 1, 2, 3

_encode = msgpack.Encoder().encode

Described = tuple[str, str, str, str, str, str, str, bytes]


def scope(project_id: str, environment: str) -> bytes:
    """The 4 bytes that keep the identities of one project and environment apart from all others'."""
    return blake2b(_encode((project_id, environment)), digest_size=SCOPE_BYTES).digest()


def event_id_digest(event_id: str) -> bytes:
    """The 16 bytes of XXH3-128 for an event that has an id."""
    return xxh3_128_digest(event_id.encode(), EVENT_ID_SEED)


def fingerprint_digest(described: Described) -> bytes:
    """The 16 bytes of XXH3-128 for an event without an id.

    `described`: bundle, platform, device, session, type, name, timestamp text and properties bytes, as sent.
    """
    return xxh3_128_digest(_encode(described), FINGERPRINT_SEED)


def repeat_digest(digest: bytes, repeat: int) -> bytes:
    """The 16 bytes for the `repeat`-th further (from 1) event in one request with the same `fingerprint_digest`."""
    return xxh3_128_digest(digest + repeat.to_bytes(8, "little"), REPEAT_SEED) if repeat else digest


def identity(scope_bytes: bytes, digest: bytes) -> bytes:
    """The identity: the scope in place of the first bytes of the digest."""
    return scope_bytes + digest[SCOPE_BYTES:]


def event_id_digests(event_ids: Iterable[str]) -> bytes:
    """The digests of many event ids, one after the other; `event_id_digest` for the hot path."""
    digest, seed = xxh3_128_digest, EVENT_ID_SEED
    return b"".join([digest(event_id.encode(), seed) for event_id in event_ids])


def fingerprint_digests(described: Iterable[Described]) -> bytes:
    """The digests of many events without an id, one after the other; `fingerprint_digest` for the hot path."""
    encode, digest, seed = _encode, xxh3_128_digest, FINGERPRINT_SEED
    return b"".join([digest(encode(event), seed) for event in described])
