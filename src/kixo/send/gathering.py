"""Events to batches: one environment, bundle and platform each, as full as the contract allows, bounded in all."""

from collections.abc import Iterator

from kixo.send.delivery import Batch
from kixo.send.ledger import Entry

EVENTS_MAX = 1000
# Far below what a body may have, since nothing is gained by more.
BATCH_BYTES_MAX = 4 * 1024 * 1024
HELD_EVENTS_MAX = 20_000
HELD_BYTES_MAX = 64 * 1024 * 1024

Envelope = tuple[bytes, bytes, bytes]


class Gathering:
    """Batches that are being filled, one for each envelope. Never holds more than the bounds above."""

    def __init__(self) -> None:
        self._entries: dict[Envelope, list[Entry]] = {}
        self._bytes: dict[Envelope, int] = {}
        self._held_events = 0
        self._held_bytes = 0

    def add(self, envelope: Envelope, entry: Entry) -> Iterator[Batch]:
        """Takes an event; gives the batches that are to go now."""
        size = len(entry.event)
        if self._bytes.get(envelope, 0) + size > BATCH_BYTES_MAX:
            yield from self._take(envelope)
        entries = self._entries.setdefault(envelope, [])
        entries.append(entry)
        self._bytes[envelope] = self._bytes.get(envelope, 0) + size
        self._held_events += 1
        self._held_bytes += size
        if len(entries) >= EVENTS_MAX:
            yield from self._take(envelope)
        elif self._held_events > HELD_EVENTS_MAX or self._held_bytes > HELD_BYTES_MAX:
            yield from self._take(max(self._bytes, key=self._bytes.__getitem__))

    def rest(self) -> Iterator[Batch]:
        """All that is left."""
        for envelope in list(self._entries):
            yield from self._take(envelope)

    def _take(self, envelope: Envelope) -> Iterator[Batch]:
        entries = self._entries.pop(envelope, None)
        if not entries:
            return
        self._held_events -= len(entries)
        self._held_bytes -= self._bytes.pop(envelope)
        yield Batch(envelope, entries)
