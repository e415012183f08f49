"""How a worker hears of changed projects and keys: a thread that looks at the registry, so that requests never wait."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kixo.registry.source import SnapshotSource

# A look that hangs is left behind: the process ends without it.
JOIN_S_MAX = 0.5


@contextmanager
def polling(source: SnapshotSource, interval_s: float, log: Any, tell_age: Callable[[float], None]) -> Iterator[None]:
    """Keeps the snapshot fresh; a registry that is locked or away leaves the last one in force.

    `tell_age` is told after each look how old what is known may be, in seconds.
    """
    stop = threading.Event()

    def poll() -> None:
        told = ""
        while not stop.wait(interval_s):
            fault = _refresh(source)
            if stop.is_set():
                return
            tell_age(source.age_s())
            if fault and fault != told:
                log.warning("registry_unreachable", reason=fault, age_s=round(source.age_s(), 1))
            elif told and not fault:
                log.info("registry_back")
            told = fault

    thread = threading.Thread(target=poll, name="registry-poll", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_S_MAX)


def _refresh(source: SnapshotSource) -> str:
    """Refreshes the snapshot; why that failed, or an empty text."""
    try:
        fault = source.refresh().fault
    except Exception as error:  # noqa: BLE001 - if the polling ended, revoked keys would stay in force
        return repr(error)
    return str(fault) if fault is not None else ""
