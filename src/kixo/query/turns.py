"""Who may go now: so many at one time, the others in the order in which they came, and no more than so many of them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kixo.errors import TooManyQueries


class Turns:
    """At most `running_max` turns at one time, and at most `waiting_max` who wait for one."""

    def __init__(self, running_max: int, waiting_max: int) -> None:
        self._free = running_max
        self._waiting_max = waiting_max
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @asynccontextmanager
    async def turn(self, called: "asyncio.Future[None]") -> AsyncIterator[None]:
        """A block that runs when it is its turn, of which `called` tells; an exception set there ends the waiting.

        Raises `TooManyQueries` where too many wait already.
        """
        await self._wait(called)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, called: "asyncio.Future[None]") -> None:
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= self._waiting_max:
            raise TooManyQueries(f"{len(self._waiting)} queries wait for their turn.", "Ask again in a moment.")
        self._waiting.append(called)
        try:
            await called
        except BaseException:
            if called in self._waiting:
                self._waiting.remove(called)
            elif not called.cancelled() and called.exception() is None:
                # Whoever waited went away in the moment in which it was called.
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            called = self._waiting.popleft()
            if not called.done():
                called.set_result(None)
                return
        self._free += 1
