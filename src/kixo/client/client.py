"""`Client` and `AsyncClient`: what an app sees. Both hand over to the worker, and wait for it only when asked to.

What is queued belongs to a process. A process that is forked begins with an empty queue and a worker of its own, and
what its parent had queued is the parent's to send.
"""

import atexit
import os
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from kixo.client.delivery import Delivery
from kixo.client.envelope import batch_url, checked_envelope, checked_folder, own_folder
from kixo.client.options import Options
from kixo.client.outbox import Outbox
from kixo.client.report import OnDropped, OnRejected, Report, Stats
from kixo.client.sender import Sender
from kixo.client.stamps import Stamps
from kixo.client.store import MemoryStore, Store
from kixo.client.surroundings import Surroundings, Transport, load_transport
from kixo.client.tracked import EventRefused, TrackedEvent, encode_event, instant_text
from kixo.client.worker import Flush, Worker
from kixo.event import ENVIRONMENT_DEFAULT

if TYPE_CHECKING:
    from pathlib import Path

HOST = "https://api.kixo.io"
# How long `close` waits for an attempt that is under way once its deadline has passed.
STOP_S = 0.5


class Machinery(NamedTuple):
    """What one process needs for sending."""

    stamps: Stamps
    report: Report
    outbox: Outbox
    store: Store
    sender: Sender
    delivery: Delivery
    worker: Worker


class Tracker:
    """What both clients have: tracking, and the life of the process around it.

    project_id, api_key: as `kixo project create` prints them.
    bundle_id: the app's, 1 to 255 characters. platform: ios, android or web.
    environment: production, staging or development. host: where the server is, such as http://127.0.0.1:8000.
    spool: a folder in which undelivered events outlive the process; processes may share it.
    on_rejected: called with each event that was refused here or by the server, and the reason.
    on_dropped: called with how many events were dropped since the last call.

    Raises `BadOption`.
    """

    def __init__(
        self,
        project_id: str,
        api_key: str,
        bundle_id: str,
        platform: str = "web",
        environment: str = ENVIRONMENT_DEFAULT,
        host: str = HOST,
        *,
        spool: "str | Path | None" = None,
        on_rejected: OnRejected | None = None,
        on_dropped: OnDropped | None = None,
        options: Options | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._envelope = checked_envelope(project_id, api_key, bundle_id, platform, environment)
        self._url = batch_url(host)
        self._spool = None if spool is None else checked_folder(spool)
        self._on_rejected = on_rejected
        self._on_dropped = on_dropped
        self._options = options or Options()
        self._surroundings = surroundings or Surroundings()
        load_transport()
        self._closed = False
        self._lost_before = 0
        self._prepare()
        atexit.register(self._close)
        follow_forks(self)

    def track(
        self,
        name: str,
        properties: Mapping[str, Any] | None = None,
        *,
        device_id: str,
        session_id: str,
        event_type: str = "custom",
        timestamp: datetime | str | None = None,
    ) -> None:
        """Queues an event. Returns at once, and raises nothing, whatever is wrong with network, server or event.

        properties: anything that `kixo.client.tracked` has a form for; read here, so they may change afterwards.
        timestamp: when it happened; now, where it is not given. Without a zone it is UTC.
        """
        now, event_id = self._stamps()
        event = TrackedEvent(
            event_type, name, device_id, session_id, now, {} if properties is None else properties, event_id
        )
        try:
            if timestamp is not None:
                event.timestamp = instant_text(timestamp)
            self._put(encode_event(event))
        except EventRefused as refused:
            self._machinery.report.reject(event, refused.rejection)
        if not self._worker.started:
            self._worker.start()

    def screen(
        self,
        name: str,
        properties: Mapping[str, Any] | None = None,
        *,
        device_id: str,
        session_id: str,
        timestamp: datetime | str | None = None,
    ) -> None:
        """Tracks that a screen of an app was seen."""
        self.track(
            name,
            properties,
            device_id=device_id,
            session_id=session_id,
            event_type="screen_view",
            timestamp=timestamp,
        )

    def page(
        self,
        name: str,
        properties: Mapping[str, Any] | None = None,
        *,
        device_id: str,
        session_id: str,
        timestamp: datetime | str | None = None,
    ) -> None:
        """Tracks that a page of a site was seen; its name is usually its path."""
        self.track(
            name, properties, device_id=device_id, session_id=session_id, event_type="page_view", timestamp=timestamp
        )

    @property
    def stats(self) -> Stats:
        """What became of the events so far."""
        parts = self._machinery
        return Stats(
            queued=max(0, parts.store.entered - parts.delivery.left),
            delivered=parts.report.delivered,
            rejected=parts.report.rejected,
            dropped=parts.store.dropped,
        )

    def _prepare(self, avoid: "Path | None" = None) -> None:
        """Everything that belongs to one process. Nothing of it is running yet. `avoid` is the parent's spool file."""
        outside, options = self._surroundings, self._options
        messages: SimpleQueue[Flush | None] = SimpleQueue()
        stamps = Stamps(outside.now_ns, outside.random_bytes)
        report = Report(self._on_rejected, self._on_dropped, outside.monotonic_s)
        outbox = Outbox(options, lambda: messages.put(None))
        store = self._store(outbox, report, avoid)
        sender = Sender(self._envelope, self._open_transport, stamps, outside.now_s)
        delivery = Delivery(store, sender, report, options, outside.monotonic_s, outside.random)
        self._machinery = Machinery(
            stamps, report, outbox, store, sender, delivery, Worker(messages, delivery, store, report)
        )
        self._stamps, self._put, self._worker = stamps, outbox.put, self._machinery.worker
        self._lost_before = 0

    def _store(self, outbox: Outbox, report: Report, avoid: "Path | None") -> Store:
        if self._spool is None:
            return MemoryStore(outbox)
        from kixo.client.spool_store import SpoolStore

        return SpoolStore(own_folder(self._spool, self._envelope), outbox, self._options, report, avoid)

    def _open_transport(self) -> Transport:
        return self._surroundings.open_transport(self._url, self._options.timeout_s)

    def _flush(self, timeout: float) -> bool:
        over = self._worker.flush(timeout)
        stats, before = self.stats, self._lost_before
        self._lost_before = stats.rejected + stats.dropped
        return over and self._lost_before == before

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._close)
        parts = self._machinery
        if parts.worker.started:
            parts.worker.flush(self._options.exit_s_max)
        parts.outbox.close()
        stopped = parts.worker.stop(STOP_S)
        parts.store.close(parts.delivery.unkept)
        parts.report.tell_dropped(parts.store.dropped)
        if stopped:
            parts.sender.close()

    def _after_fork_in_child(self) -> None:
        # What the parent's worker held is out of reach here: its locks, its thread, its place in the connection.
        inherited = self._machinery
        self._prepare(avoid=inherited.store.path)
        if self._closed:
            self._machinery.outbox.close()
        inherited.sender.close()


class Client(Tracker):
    """Sends events in the background.

    with Client("kx_proj_…", "kx_key_…", "com.example.shop") as client:
        client.track("purchase", {"value": 49.5}, device_id="d_1", session_id="s_1")

    Make one for the whole program. Any thread may use it.
    """

    def flush(self, timeout: float = 10.0) -> bool:
        """Sends what waits, and waits for it, at most `timeout` seconds.

        Returns whether every event tracked since the last flush was accepted by the server.
        """
        return self._flush(timeout)

    def close(self) -> None:
        """Sends what waits, within `exit_s_max`, and ends. Later events are dropped. Happens by itself at exit."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Tracker):
    """The same for asyncio: `track` is the same call, for it never waits; `flush` and `close` are awaited."""

    async def flush(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109 - the wait is a thread's, which none can cancel
        """Sends what waits, and waits for it, at most `timeout` seconds.

        Returns whether every event tracked since the last flush was accepted by the server.
        """
        import asyncio

        return await asyncio.to_thread(self._flush, timeout)

    async def close(self) -> None:
        """Sends what waits, within `exit_s_max`, and ends. Later events are dropped. Happens by itself at exit."""
        import asyncio

        await asyncio.to_thread(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def follow_forks(tracker: Tracker) -> None:
    """Gives a forked child of this process a queue and a worker of its own, for as long as the tracker lives."""
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.ref(tracker)

    def tell(what: Callable[[Tracker], None]) -> Callable[[], None]:
        def call() -> None:
            alive = reference()
            if alive is not None:
                what(alive)

        return call

    os.register_at_fork(
        before=tell(lambda alive: alive._machinery.store.before_fork()),
        after_in_parent=tell(lambda alive: alive._machinery.store.after_fork()),
        after_in_child=tell(Tracker._after_fork_in_child),
    )
