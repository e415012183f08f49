"""Reading a request's body: capped, bounded in time, and within the memory that all bodies of a worker may have.

A small body of a declared length is read whole, which is cheapest. Its length is *promised* memory until it is there:
a sender need not send what it declared, so promises that run out cost others nothing but that cheapest way. All other
bodies are read piece by piece, and each piece is *held* memory as soon as it is here.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import NoReturn, Protocol, TypeVar

from granian.rsgi import ProtocolClosed

from kixo.errors import BodyTimeout, BodyTooLarge, InvalidJSON, Unavailable
from kixo.inflate import too_large
from kixo.settings import Settings

SWEEP_S = 0.25
# Up to this a body is read whole: beyond, what its pieces cost is small beside what decoding it costs.
WHOLE_BYTES_MAX = 1024 * 1024

Result = TypeVar("Result")


class BodyStream(Protocol):
    """The part of an RSGI protocol object that gives the body: whole when awaited, or in pieces."""

    async def __call__(self) -> bytes:
        """The whole body."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body's pieces."""
        ...


class BodyReader:
    """Reads bodies for one worker, with one timer for all of them. Belongs to the event loop's thread."""

    def __init__(self, settings: Settings) -> None:
        self._bytes_max = settings.body_bytes_max
        self._whole_bytes_max = min(WHOLE_BYTES_MAX, settings.body_bytes_max)
        self._stall_s = settings.body_stall_s
        self._total_s = settings.body_total_s
        self._drain_bytes_max = settings.drain_bytes_max
        self._held_bytes_max = settings.inflight_bytes_max
        self._held_bytes = 0
        self._promised_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time()
        self._ends: dict[asyncio.Task[object], float] = {}
        self._expired: set[asyncio.Task[object]] = set()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Stops the timer."""
        self._timer.cancel()

    def release(self, body: bytes) -> None:
        """Says that a body which `read` gave is no longer held."""
        self._held_bytes -= len(body)

    def hold(self, body: bytes) -> None:
        """Says that another form of a body is held, such as an inflated one; to be released too.

        Raises `Unavailable` where too much is held already.
        """
        if self._held_bytes + len(body) > self._held_bytes_max:
            raise _too_much_held()
        self._held_bytes += len(body)

    async def read(self, stream: BodyStream, length: int | None) -> bytes:
        """The body; `length` is what its header declared, None for a chunked one.

        Raises `BodyTimeout`, `BodyTooLarge`, `Unavailable` where too much is held already, and `InvalidJSON` where
        the client went away in the middle.
        """
        if length is None or length > self._whole_bytes_max or self._promised_bytes + length > self._held_bytes_max:
            return await self._read_pieces(_pieces(stream), length)
        self._promised_bytes += length
        try:
            body = await self._watch(stream(), self._stall_s + length / self._bytes_max * self._total_s)
        finally:
            self._promised_bytes -= length
        self._held_bytes += len(body)
        return body

    async def drain(self, stream: BodyStream) -> None:
        """Reads what is left and throws it away, so that the sender hears the answer."""
        await self._drain(_pieces(stream), 0)

    async def _watch(self, reading: Awaitable[Result], patience_s: float) -> Result:
        """Waits for the body no longer than `patience_s`, as the sweep sees it; `_extend` gives more time."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        # The clock of the last sweep is cheap, and late by no more than the time between two sweeps.
        self._ends[task] = self._now + SWEEP_S + patience_s
        try:
            return await reading
        except asyncio.CancelledError:
            self._raise_if_expired(task)
            raise
        except ProtocolClosed:
            _raise_cut_short(0)
        finally:
            del self._ends[task]

    async def _read_pieces(self, pieces: AsyncIterator[bytes], length: int | None) -> bytes:
        kept: list[bytes] = []
        try:
            if length is not None and length > self._bytes_max:
                raise too_large(self._bytes_max, length)
            await self._watch(self._keep(pieces, kept), self._stall_s)
        except (BodyTooLarge, Unavailable) as error:
            drained = await self._drain(pieces, self._let_go(kept))
            raise too_large(self._bytes_max, length or drained) if isinstance(error, BodyTooLarge) else error from None
        except BaseException:
            self._let_go(kept)
            raise
        body = b"".join(kept)
        if length is not None and len(body) < length:
            self.release(body)
            _raise_cut_short(len(body))
        return body

    async def _keep(self, pieces: AsyncIterator[bytes], kept: list[bytes]) -> None:
        """Reads the pieces; raises `BodyTooLarge` and `Unavailable` when they are too many."""
        size = 0
        ends = self._now + self._total_s
        async for piece in pieces:
            kept.append(piece)
            size += len(piece)
            self._held_bytes += len(piece)
            if size > self._bytes_max:
                raise too_large(self._bytes_max, None)
            if self._held_bytes > self._held_bytes_max:
                raise _too_much_held()
            self._extend(ends)

    def _let_go(self, kept: list[bytes]) -> int:
        """Forgets the pieces of a body; returns how many bytes they had."""
        size = sum(map(len, kept))
        kept.clear()
        self._held_bytes -= size
        return size

    async def _drain(self, pieces: AsyncIterator[bytes], size: int) -> int | None:
        """How many bytes the body has, `size` of them read before; None where the rest was too much or did not come."""
        try:
            return await self._watch(self._count(pieces, size), self._stall_s)
        except (BodyTimeout, InvalidJSON):
            return None

    async def _count(self, pieces: AsyncIterator[bytes], size: int) -> int | None:
        ends = self._now + self._total_s
        async for piece in pieces:
            size += len(piece)
            if size > self._drain_bytes_max:
                return None
            self._extend(ends)
        return size

    def _extend(self, ends: float) -> None:
        """Says that the body moves on, which it may do until `ends`."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._ends[task] = min(ends, self._now + SWEEP_S + self._stall_s)

    def _sweep(self) -> None:
        self._now = self._loop.time()
        for task, ends in self._ends.items():
            if self._now > ends and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        self._timer = self._loop.call_later(SWEEP_S, self._sweep)

    def _raise_if_expired(self, task: "asyncio.Task[object]") -> None:
        if task in self._expired:
            self._expired.discard(task)
            task.uncancel()
            message = (
                f"The body did not arrive in time: {self._stall_s:g} seconds without a byte, or "
                f"{self._total_s:g} seconds in all. Send it again."
            )
            raise BodyTimeout(message) from None


async def _pieces(stream: BodyStream) -> AsyncIterator[bytes]:
    """The pieces, as one iteration that can be left and gone on with; that of the server itself can be begun once."""
    async for piece in stream:
        yield piece


def _too_much_held() -> Unavailable:
    message = "Nothing was stored: the server holds as many bodies as it may. Repeat later."
    return Unavailable(message, retry_after_s=1)


def _raise_cut_short(size: int) -> NoReturn:
    message = "The body ended before all of it had come. Send it again, whole."
    raise InvalidJSON(message, position=size) from None
