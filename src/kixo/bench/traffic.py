"""Requests that look like real ones and cost the driver next to nothing.

A `Ring` of whole HTTP requests is made once, with Python's `random` from a seed. Its requests are grouped in *sheets*
of about 500 events, each one buffer. When the ring comes round to a sheet again, what has to be new is written over
the old bytes in place, for all events of the sheet at once: event ids and `sent_at` every time; timestamps, devices
and sessions when they are more than `RENEW_AFTER_US` old. Requests thus never change their length.

An event id looks like a UUIDv7: 48 bits of milliseconds, 12 bits that count the refreshes, and 60 bits that are
distinct among the events of the sheet. The counter comes round after 4,096 refreshes, which take far longer than a
millisecond, so no id is ever made twice; the test makes millions and looks.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Literal

import numpy as np
from msgspec import Struct, json
from numpy.typing import NDArray

from kixo.bench.vocabulary import pick_kind, skewed

RENEW_AFTER_US = 1_000_000
SHEET_EVENTS = 512
RING_EVENTS_MIN = 12_000
EVENTS_PER_SESSION = 25
AGE_S_MAX = 20.0
APPS = (("com.example.shop", "ios"), ("com.example.shop.android", "android"), ("shop.example.com", "web"))

Bytes = NDArray[np.uint8]
Clock = Callable[[], int]

# Four hexadecimal digits for each 16-bit number: turns 64-bit numbers into text by one look-up per 16 bits.
_HEX4 = np.frombuffer("".join(f"{number:04x}" for number in range(65_536)).encode(), np.uint32)

_HEAD = "POST /v1/batch HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
_STAMP = "0000-00-00T00:00:00.000Z"
_ID = "00000000-0000-7000-9000-000000000000"
_DEVICE = '"device_id":"d_'
_SESSION = '","session_id":"s_'
_TIMESTAMP = '","timestamp":"'
_HANDLE = "0" * 12


class Credential(Struct, frozen=True):
    """A project and a key of it."""

    project_id: str
    api_key: str


class Shape(Struct, frozen=True):
    """What requests look like.

    `batch` is the events of each. `identity` says where the unique id of an event is: in the member `event_id`, or,
    as from a client that sends none, among the properties, so that the server has to take a fingerprint.
    """

    batch: int
    identity: Literal["event_id", "fingerprint"] = "event_id"

    @property
    def id_prefix(self) -> str:
        """What stands between an event's timestamp and its unique id."""
        return '","event_id":"' if self.identity == "event_id" else '","properties":{"message_id":"'

    @property
    def block(self) -> str:
        """The part of an event that is renewed, the same length in every event."""
        return f"{_DEVICE}{_HANDLE}{_SESSION}{_HANDLE}{_TIMESTAMP}{_STAMP}{self.id_prefix}{_ID}"


class Request(Struct, frozen=True):
    """A request ready to be sent: all of its bytes, and how many events are in it."""

    data: memoryview
    events: int


class Draft(Struct, frozen=True):
    """A request with the places in it that are written over."""

    data: bytes
    sent_at: int
    blocks: list[int]


def hexadecimal(numbers: NDArray[np.uint64]) -> Bytes:
    """16 digits for each number, low 16 bits first, one row each. Shape (n,) to (n, 16)."""
    return _HEX4[numbers.view(np.uint16)].view(np.uint8).reshape(len(numbers), 16)


def stamps(microseconds: NDArray[np.int64]) -> Bytes:
    """The instants as `2026-04-08T12:00:00.123`, one row each. Shape (n,) to (n, 23)."""
    text = np.datetime_as_string((microseconds // 1000).astype("datetime64[ms]"), unit="ms")
    return text.astype("S23").view(np.uint8).reshape(len(microseconds), 23)


def ring_size(batch: int, projects: int) -> int:
    """Requests in a ring: enough events to look alive, and every project equally often."""
    return projects * max(1, -(-RING_EVENTS_MIN // (max(batch, 1) * projects)))


def draft_event(random: Random, shape: Shape) -> tuple[str, int]:
    """The text of an event, and where its block stands in it."""
    kind = pick_kind(random)
    name = json.encode(skewed(random, kind.names)).decode()
    properties = json.encode(kind.properties(random)).decode()
    before = f'{{"event_type":"{kind.event_type}","event_name":{name},'
    opening = '","properties":{' if shape.identity == "event_id" else '",'
    return f"{before}{shape.block}{opening}{properties[1:]}}}", len(before.encode())


def draft_request(random: Random, shape: Shape, credential: Credential, host: str) -> Draft:
    """A request of one project, with nothing renewed yet."""
    bundle_id, platform = random.choice(APPS)
    body = (
        f'{{"project_id":"{credential.project_id}","api_key":"{credential.api_key}","bundle_id":"{bundle_id}",'
        f'"platform":"{platform}","sent_at":"'
    ).encode()
    sent_at = len(body)
    body += f'{_STAMP}","batch":['.encode()
    parts, blocks, place = [], [], len(body)
    for text, block in (draft_event(random, shape) for _ in range(shape.batch)):
        parts.append(text.encode())
        blocks.append(place + block)
        place += len(parts[-1]) + 1
    body += b",".join(parts) + b"]}"
    head = _HEAD.format(host=host, length=len(body)).encode()
    return Draft(head + body, len(head) + sent_at, [len(head) + block for block in blocks])


class Sheet:
    """Some requests in one buffer, whose ids and times can be renewed in place."""

    def __init__(self, drafts: list[Draft], shape: Shape, random: np.random.Generator) -> None:
        self._buffer = bytearray().join(draft.data for draft in drafts)
        starts = np.cumsum([0] + [len(draft.data) for draft in drafts])
        view = memoryview(self._buffer)
        self.requests = [
            Request(view[start:end], len(draft.blocks))
            for draft, start, end in zip(drafts, starts, starts[1:], strict=False)
        ]
        self._sent_at = np.array([draft.sent_at for draft in drafts]) + starts[:-1]
        self._blocks = np.concatenate(
            [np.array(draft.blocks, np.int64) + start for draft, start in zip(drafts, starts, strict=False)]
        )
        self._shape = shape
        self._random = random
        self._layout(len(self._blocks))

    def _layout(self, events: int) -> None:
        template = np.frombuffer(self._shape.block.encode(), np.uint8)
        self._rows = np.tile(template, (events, 1))
        device, session = len(_DEVICE), len(_DEVICE + _HANDLE + _SESSION)
        stamp = session + len(_HANDLE + _TIMESTAMP)
        unique = len(template) - len(_ID)
        self._device_columns = self._rows[:, device : device + 12]
        self._session_columns = self._rows[:, session : session + 12]
        self._stamp_columns = self._rows[:, stamp : stamp + 23]
        self._id_columns = self._rows[:, unique:]
        self._ages_us = np.sort(self._random.integers(0, int(AGE_S_MAX * 1e6), events))[::-1].astype(np.int64)
        self._sessions = np.arange(events) // EVENTS_PER_SESSION
        self._distinct = self._random.integers(0, 2**40, events, np.uint64) << np.uint64(20) | np.arange(
            events, dtype=np.uint64
        )
        self._renewed_us = 0

    def _windows(self, width: int) -> NDArray[np.bytes_]:
        # One element of `width` bytes at every place of the buffer: assigning to some of them writes there.
        count = max(0, len(self._buffer) - width + 1)
        return np.ndarray((count,), f"S{width}", self._buffer, strides=(1,))

    def refresh(self, now_us: int, prefix: bytes, key: int) -> None:
        """Renews ids with the 18 digits of `prefix` and the 60 bits of `key`; `now_us` is microseconds since 1970."""
        self._windows(23)[self._sent_at] = stamps(np.array([now_us])).tobytes()
        if not len(self._blocks):
            return
        digits = hexadecimal(self._distinct ^ np.uint64(key))
        self._id_columns[:, :18] = np.frombuffer(prefix, np.uint8)
        self._id_columns[:, 20:23] = digits[:, 13:]
        self._id_columns[:, 24:] = digits[:, :12]
        if now_us - self._renewed_us > RENEW_AFTER_US:
            self._renew(now_us)
        width = self._rows.shape[1]
        self._windows(width)[self._blocks] = self._rows.view(f"S{width}")[:, 0]

    def _renew(self, now_us: int) -> None:
        handles = hexadecimal(self._random.integers(0, 2**63, 2 * (self._sessions[-1] + 1), np.uint64))[:, 4:]
        # A device has two sessions, the older half of its events in the first.
        self._device_columns[:] = handles[self._sessions // 2]
        self._session_columns[:] = handles[len(handles) // 2 + self._sessions]
        self._stamp_columns[:] = stamps(now_us - self._ages_us)
        self._renewed_us = now_us


class Ring:
    """Requests without end: round and round, every project equally often, no event twice."""

    def __init__(self, shape: Shape, credentials: list[Credential], host: str, seed: int, clock: Clock) -> None:
        random = Random(seed)
        self._clock = clock
        self._keys = np.random.default_rng(seed)
        self._refreshes = 0
        self._last_us = 0
        count = ring_size(shape.batch, len(credentials))
        drafts = (draft_request(random, shape, credentials[n % len(credentials)], host) for n in range(count))
        per_sheet = max(1, SHEET_EVENTS // max(shape.batch, 1))
        self._sheets = []
        while group := list(islice(drafts, per_sheet)):
            self._sheets.append(Sheet(group, shape, self._keys))

    def requests(self) -> Iterator[Request]:
        """The next request, again and again. Its bytes hold until a whole round later: send or copy them."""
        while True:
            for sheet in self._sheets:
                self._refresh(sheet)
                yield from sheet.requests

    def _refresh(self, sheet: Sheet) -> None:
        # A clock that is set back must not bring old ids again.
        self._last_us = max(self._last_us, self._clock())
        self._refreshes += 1
        time = f"{self._last_us // 1000:012x}"
        prefix = f"{time[:8]}-{time[8:]}-7{self._refreshes % 4096:03x}"
        sheet.refresh(self._last_us, prefix.encode(), int(self._keys.integers(0, 2**60)))
