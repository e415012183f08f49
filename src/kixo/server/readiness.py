"""Whether events can be stored now, found out by storing something."""

import asyncio
import os
import time
from pathlib import Path

from kixo.errors import Unavailable
from kixo.layout import Layout
from kixo.log import LogWriter
from kixo.settings import Settings

# One probe serves all who ask within this time, so that asking cannot wear the disk.
PROBE_AGE_S = 0.5


class Readiness:
    """Answers `/readyz` for one worker. Belongs to the event loop's thread."""

    def __init__(self, writer: LogWriter, settings: Settings) -> None:
        self._writer = writer
        self._folder = Layout(settings.data_dir).log
        self._probed_at = -PROBE_AGE_S
        self._reason: str | None = None

    async def reason(self) -> str | None:
        """Why nothing can be stored now, in a sentence; None where it can."""
        if time.monotonic() - self._probed_at >= PROBE_AGE_S:
            self._probed_at = time.monotonic()
            self._reason = await asyncio.to_thread(self._probe)
        return self._reason

    def _probe(self) -> str | None:
        try:
            self._writer.check_space(0)
            _write_and_sync(self._folder / f"probe.{os.getpid()}")
        except Unavailable as error:
            return error.message
        except OSError as error:
            return f"The log's disk cannot be written: {error.strerror}. Mend it; clients repeat until then."
        return None


def _write_and_sync(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, b"ready?")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
