"""The owner's side of one query process: starting it, asking it, and ending it whatever it does."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from kixo.errors import QueryFailed, QueryLost
from kixo.files import remove_unlocked
from kixo.lake.local import lake_at
from kixo.lake.store import LakeStore
from kixo.query.caps import QueryCaps, overrun, stopped
from kixo.query.protocol import (
    DATA,
    END,
    FAILURE,
    FATAL,
    HEAD,
    OVERRUN_STATUS,
    READY,
    ProtocolFault,
    Request,
    decode_failure,
    decode_head,
    encode_request,
)

START_S_MAX = 60.0
PREFIX = "kixo-queries-"
# How much longer than its cap a query and the reading of its answer may take before the process is ended from here.
# It ends itself before that; this is for one that cannot, and for an answer that nobody fetches.
GRACE_S = 5.0
# Some large blocks, given back to the system when a query is done, not many heaps that keep what they had.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}


class QueryProcess:
    """One query process, started with `start_process`. After a query that raised anything it is of use
    only if `is_fit`; closed, it and its folder are gone.
    """

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._folder = folder
        self._requests = process.stdin
        self._frames = process.stdout
        self._stopped = False
        self._overdue = False
        self._between = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_fit(self) -> bool:
        """Whether it can be asked: it lives, and nothing of an answer is left in its pipe."""
        return self._between and self._process.returncode is None and not self._frames.at_eof()

    async def wait_ready(self) -> None:
        """Waits until it can be asked; raises `QueryFailed` where it does not come to that."""
        try:
            async with asyncio.timeout(START_S_MAX):
                kind, _ = await self._frame()
        except (TimeoutError, asyncio.IncompleteReadError, ProtocolFault):
            if self._stopped:
                raise stopped() from None
            raise QueryLost("The process for the query did not start.", "The server's log says why.") from None
        self._between = kind == READY

    async def ask(self, request: Request) -> AsyncGenerator[bytes, None]:
        """The pieces of the answer; raises `QueryFailed`. Left before its end, the process cannot be asked again."""
        caps = QueryCaps(request.memory_bytes_max, request.seconds_max, request.threads)
        self._between = False
        timer = asyncio.get_running_loop().call_later(caps.seconds_max + GRACE_S, self._expire)
        try:
            self._requests.write(encode_request(request))
            await self._requests.drain()
            while (piece := await self._piece()) is not None:
                yield piece
        except (asyncio.IncompleteReadError, ProtocolFault, OSError) as error:
            raise await self._end_of(caps, error) from error
        finally:
            timer.cancel()

    def stop(self) -> None:
        """Ends the process at once; whoever waits for an answer gets `QueryStopped`."""
        self._stopped = True
        self._kill()

    async def close(self) -> None:
        """Ends the process, if it still runs, and removes what it has put aside."""
        self._between = False
        self._kill()
        # What it had written is read to its end, a pipe's length: until then the pipe stays open.
        await self._frames.read()
        self._requests.close()
        with suppress(OSError):
            await self._requests.wait_closed()
        await self._process.wait()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _piece(self) -> bytes | None:
        """The next piece, None at the end."""
        kind, payload = await self._frame()
        if kind == DATA:
            return payload
        if kind == END:
            self._between = True
            return None
        if kind == FAILURE:
            error = decode_failure(payload).error()
            self._between = not isinstance(error, FATAL)
            raise error
        raise ProtocolFault(f"a query process sent {kind!r} in an answer")

    async def _frame(self) -> tuple[bytes, bytes]:
        head = decode_head(await self._frames.readexactly(HEAD.size))
        return head.kind, await self._frames.readexactly(head.length)

    async def _end_of(self, caps: QueryCaps, error: Exception) -> QueryFailed:
        """Why there is no answer from a process that ended, or has to end now."""
        if isinstance(error, ProtocolFault):
            self._kill()
        status = await self._status()
        if self._stopped:
            return stopped()
        if self._overdue or status == OVERRUN_STATUS:
            return overrun(caps)
        what = str(error) if isinstance(error, ProtocolFault) else f"status {status}"
        return QueryLost(
            f"The process of the query ended before the query did ({what}).",
            "Run it again; where it happens again, narrow it by date and project_id.",
        )

    async def _status(self) -> int:
        """The status of a process whose pipe has ended, as it is about to."""
        try:
            async with asyncio.timeout(GRACE_S):
                return await self._process.wait()
        except TimeoutError:
            self._kill()
            return await self._process.wait()

    def _expire(self) -> None:
        self._overdue = True
        self._kill()

    def _kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


async def start_process(lake: LakeStore | Path) -> QueryProcess:
    """Starts a process for queries over the tables of a lake; `wait_ready` comes next. Raises `OSError`."""
    _remove_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kixo.query.child", lake_at(lake).argument, str(folder)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **ENVIRONMENT, "TMPDIR": str(folder)},
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return QueryProcess(process, folder)


def _remove_left_behind() -> None:
    """Removes the folders of processes that were killed together with their owner. A new one is locked in a moment."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > START_S_MAX:
                remove_unlocked(folder)
