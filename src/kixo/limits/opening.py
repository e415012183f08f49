"""Opens the limit of requests that the settings name."""

import socket
import time
from hashlib import sha256
from typing import Any

from kixo.layout import Layout
from kixo.limits import RequestLimit
from kixo.limits.ring_file import RingFile
from kixo.metric_file import MetricFile
from kixo.metrics import LIMIT_ALONE, LIMIT_ALONE_REQUESTS
from kixo.places import distributed, limits_place
from kixo.settings import Settings, worker_count


class _Told:
    """Tells in log lines and metrics how requests are counted."""

    def __init__(self, metrics: MetricFile, log: Any) -> None:
        self._metrics = metrics
        self._log = log
        self._away = False
        self.alone = metrics.counter(LIMIT_ALONE_REQUESTS)
        metrics.set(LIMIT_ALONE, 0)

    def away(self, reason: str, share: int) -> None:
        """See `redis_limit.Notes`."""
        self._metrics.set(LIMIT_ALONE, 1)
        if not self._away:
            self._log.warning("limits_unreachable", reason=reason, share=share)
        self._away = True

    def back(self) -> None:
        """See `redis_limit.Notes`."""
        self._metrics.set(LIMIT_ALONE, 0)
        if self._away:
            self._log.info("limits_back")
        self._away = False


def node_name(settings: Settings) -> str:
    """What tells the node of a data folder from others: a few letters, the same for all of its processes."""
    place = f"{socket.gethostname()}:{settings.data_dir.resolve()}"
    return sha256(place.encode()).hexdigest()[:16]


def list_prefix(settings: Settings) -> str:
    """What stands before the number of a project. Nodes with registries of their own number their projects alike."""
    return "kixo:limit:" if settings.registry else f"kixo:limit:{node_name(settings)}:"


async def open_limit(settings: Settings, metrics: MetricFile, log: Any) -> RequestLimit:
    """The limit that a worker counts in; raises `BadSetting`, and `OSError` where its file cannot be had."""
    layout = Layout(settings.data_dir)
    ring = RingFile(
        layout.limits,
        projects_max=settings.projects_max,
        requests_per_second_max=settings.requests_per_second_max,
        shared=worker_count(settings) > 1,
    )
    place = limits_place(settings.limits)
    if place is None:
        return ring
    with distributed("limits"):
        from kixo.limits.connection import open_connection
        from kixo.limits.redis_limit import Identity, RedisLimit
    limit = RedisLimit(
        lambda: open_connection(place, settings.limits_ca_file),
        ring,
        settings.requests_per_second_max,
        Identity(node_name(settings), list_prefix(settings)),
        layout.limit_nodes,
        _Told(metrics, log),
        time.monotonic_ns,
    )
    await limit.open()
    return limit
