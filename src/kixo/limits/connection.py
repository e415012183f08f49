"""A connection to Redis for a worker's event loop: questions go out as they come, answers resolve futures in order.

The parser is hiredis. A client library on top of it takes five times as much of a processor for one small question
(`scripts/measure_limits.py`), which is more than all else that is done for a small request.
"""

import asyncio
import ssl
from asyncio import Future
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

from kixo.limits.script import SCRIPT
from kixo.places import RedisPlace, secret

# Its own signature allows one argument.
_pack: Callable[[tuple[str | bytes | int, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


class Connection(asyncio.Protocol):
    """Belongs to one event loop. `lost` is done when it is over, with the reason."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self.lost: Future[str] = self._loop.create_future()

    def ask(self, *arguments: str | bytes | int) -> "Future[Any]":
        """The answer to a command, or `OSError` where there will be none, or an error of Redis."""
        answer: Future[Any] = self._loop.create_future()
        if self._transport is None:
            answer.set_exception(ConnectionError("the connection is closed"))
            return answer
        self._waiting.append(answer)
        self._transport.write(_pack(arguments))
        return answer

    def close(self, reason: str = "closed") -> None:
        """Ends the connection; whoever waits hears the reason."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if not self.lost.done():
            self.lost.set_result(reason)
        while self._waiting:
            _fail(self._waiting.popleft(), ConnectionError(reason))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        # uvloop's transports are none of the classes of asyncio.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self.close(str(exc or "Redis closed the connection"))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                self._tell(answer)
        except hiredis.ProtocolError as error:
            self.close(f"what answers does not speak as Redis does: {error}")

    def _tell(self, answer: Any) -> None:
        waiting = self._waiting.popleft() if self._waiting else None
        if waiting is None:
            self.close("Redis answered what was not asked")
        elif isinstance(answer, hiredis.ReplyError):
            _fail(waiting, ConnectionError(str(answer)))
        elif not waiting.done():
            waiting.set_result(answer)


def _fail(waiting: "Future[Any]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        # Nobody may be left who looks.
        waiting.exception()


async def open_connection(place: RedisPlace, ca_file: str) -> tuple[Connection, str]:
    """A connection that is ready for the script, and the name by which to call it; raises `OSError`."""
    tls = ssl.create_default_context(cafile=ca_file or None) if place.tls else None
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, place.address.host, place.address.port, ssl=tls
    )
    try:
        # Read anew each time, so that a password that was changed is taken up.
        user, password = secret("LIMITS_USER"), secret("LIMITS_PASSWORD")
        if password is not None:
            await connection.ask("AUTH", *([] if user is None else [user]), password)
        if place.database:
            await connection.ask("SELECT", place.database)
        loaded = await connection.ask("SCRIPT", "LOAD", SCRIPT)
    except BaseException:
        connection.close()
        raise
    return connection, loaded.decode()
