"""Whether events can be stored now, as the log finds out by storing something."""

import asyncio
import time

from kixo.log import Appender

# One probe serves all who ask within this time, so that asking cannot wear the disk.
PROBE_AGE_S = 0.5


class Readiness:
    """Answers `/readyz` for one worker. Belongs to the event loop's thread."""

    def __init__(self, log: Appender) -> None:
        self._log = log
        self._probed_at = -PROBE_AGE_S
        self._reason: str | None = None

    async def reason(self) -> str | None:
        """Why nothing can be stored now, in a sentence; None where it can."""
        if time.monotonic() - self._probed_at >= PROBE_AGE_S:
            self._probed_at = time.monotonic()
            self._reason = await asyncio.to_thread(self._log.reason)
        return self._reason
