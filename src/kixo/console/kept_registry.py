"""The registry as the console has it: opened when it is first needed, and anew when another file took its place."""

import threading
from collections.abc import Callable

from kixo.registry import Registry


class KeptRegistry:
    """Gives the open registry when it is called, to any thread; closed with `close`."""

    def __init__(self, open_registry: Callable[[], Registry]) -> None:
        self._open = open_registry
        self._lock = threading.Lock()
        self._registry: Registry | None = None

    def __call__(self) -> Registry:
        """The registry that is there now; raises `DataFolderError` and `RegistryLocked`."""
        with self._lock:
            if self._registry is None or self._registry.replaced():
                fresh = self._open()
                self._close()
                self._registry = fresh
            return self._registry

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._registry is not None:
            self._registry.close()
            self._registry = None
