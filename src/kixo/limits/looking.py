"""The times of the last admissions of projects, wherever these are counted, for onlookers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kixo.layout import Layout
from kixo.limits.opening import list_prefix
from kixo.limits.ring_file import read_admissions
from kixo.places import RedisPlace, distributed, limits_place, secret
from kixo.settings import Settings

Look = Callable[[int, int], NDArray[np.int64]]
"""Given a number of projects and a time of CLOCK_MONOTONIC in nanoseconds, the times of the last admissions by that
clock, a row for each project, 0 where there are no more. Raises `OSError`."""

# Nobody but the next look waits for an answer.
ANSWER_S_MAX = 1.0


def open_look(settings: Settings) -> Look:
    """The way to look at the limit that the settings name; raises `BadSetting`."""
    place, requests_max = limits_place(settings.limits), settings.requests_per_second_max
    if place is None:
        return look_at_file(Layout(settings.data_dir), requests_max)
    with distributed("limits"):
        import redis as _  # noqa: F401 - so that a missing library is told at the start
    return partial(_look_at_redis, place, settings.limits_ca_file, list_prefix(settings), requests_max)


def look_at_file(layout: Layout, requests_max: int) -> Look:
    """Looks at the file that the workers of this machine share."""
    return lambda projects, _: read_admissions(layout.limits, projects, requests_max)


def _look_at_redis(
    place: RedisPlace, ca_file: str, prefix: str, requests_max: int, projects: int, now_ns: int
) -> NDArray[np.int64]:
    from redis import Redis, RedisError

    tls: dict[str, Any] = {"ssl": True, "ssl_ca_certs": ca_file or None} if place.tls else {}
    connection = Redis(
        place.address.host,
        place.address.port,
        place.database,
        username=secret("LIMITS_USER"),
        password=secret("LIMITS_PASSWORD"),
        socket_timeout=ANSWER_S_MAX,
        socket_connect_timeout=ANSWER_S_MAX,
        **tls,
    )
    try:
        with connection, connection.pipeline(transaction=False) as asked:
            asked.time()
            for number in range(1, projects + 1):
                asked.lrange(f"{prefix}{number}", -requests_max, -1)
            (seconds, microseconds), *lists = asked.execute()
    except RedisError as error:
        raise OSError(f"Redis cannot be asked how busy projects are: {error}") from error
    found = np.zeros((projects, requests_max), np.int64)
    for row, times in zip(found, lists, strict=True):
        row[: len(times)] = now_ns + (np.array(times, np.int64) - (seconds * 1_000_000 + microseconds)) * 1000
    return found
