"""Queries in processes of their own, for a process that has other things to do: the private port.

DuckDB may use all the memory it is allowed, and a query that does not end can only end with its process. So each
query runs in a child (`kixo.query.child`) that holds nothing of others: what becomes of it becomes of one query.

A child is used again after a good query, because loading takes half a second; it is ended when its query was stopped,
went past a cap, or ended it. One that nobody asks ends after `idle_s`. None is started before somebody is there to ask:
`warm` says so.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from kixo.errors import QueryFailed, QueryLost
from kixo.lake.report import Report
from kixo.lake.store import LakeStore
from kixo.query.answer import Answer, decode_answer
from kixo.query.caps import QueryCaps, stopped
from kixo.query.process import QueryProcess, start_process
from kixo.query.protocol import ANSWER, Request
from kixo.query.turns import Turns
from kixo.settings import Settings

CLOSE_S_MAX = 2.0


@dataclass(frozen=True)
class PoolBounds:
    """What all queries together may use, and the most that one of them may."""

    caps: QueryCaps
    rows_max: int
    answer_bytes_max: int
    running_max: int
    waiting_max: int
    idle_s: float

    def lowered(self, memory_bytes: int | None = None, seconds: float | None = None) -> QueryCaps:
        """The caps of a query that is to use less; asking for more gives what there is."""
        memory = min(memory_bytes or self.caps.memory_bytes_max, self.caps.memory_bytes_max)
        return QueryCaps(memory, min(seconds or self.caps.seconds_max, self.caps.seconds_max), self.caps.threads)


@dataclass(frozen=True)
class PoolState:
    """How many queries run and wait, and the process ids of the idle children."""

    running: int
    waiting: int
    idle: tuple[int, ...]


def pool_bounds(settings: Settings) -> PoolBounds:
    """The bounds that the settings give."""
    return PoolBounds(
        QueryCaps(settings.query_memory_bytes_max, settings.query_s_max),
        settings.query_rows_max,
        settings.query_answer_bytes_max,
        settings.queries_running_max,
        settings.queries_waiting_max,
        settings.query_idle_s,
    )


class _Query:
    """A query that waits or runs."""

    def __init__(self) -> None:
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.process: QueryProcess | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ends it, wherever it stands."""
        self.stopped = True
        if self.process is not None:
            self.process.stop()
        elif not self.called.done():
            self.called.set_exception(stopped())
            # One that has its turn and waits for its process will never look there.
            self.called.exception()


class QueryPool:
    """The query processes of one event loop. `close` ends them all."""

    def __init__(self, lake: LakeStore | Path, bounds: PoolBounds, report: Report) -> None:
        self.bounds = bounds
        self._lake = lake
        self._report = report
        self._turns = Turns(bounds.running_max, bounds.waiting_max)
        self._queries: dict[str, _Query] = {}
        self._idle: dict[QueryProcess, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: _Query | None = None
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._closed = False

    async def table(
        self, sql: str, caps: QueryCaps | None = None, *, rows_max: int | None = None, id: str | None = None
    ) -> Answer:
        """The first rows of a query, at most `rows_max` and never more than the bounds; raises `QueryFailed`."""
        return decode_answer(await self.answer(sql, caps, rows_max=rows_max, id=id))

    async def answer(
        self, sql: str, caps: QueryCaps | None = None, *, rows_max: int | None = None, id: str | None = None
    ) -> bytes:
        """The same as the JSON of `kixo.query.answer`, to be passed on."""
        async with aclosing(self._pieces(sql, ANSWER, caps, rows_max, id)) as pieces:
            return b"".join([piece async for piece in pieces])

    async def stream(
        self, sql: str, format: str, caps: QueryCaps | None = None, *, id: str | None = None
    ) -> AsyncGenerator[bytes, None]:
        """All rows of a query in a format of `kixo.query.write`, piece by piece; raises `QueryFailed`.

        It has to be closed (`contextlib.aclosing`): the query runs until then.
        """
        async with aclosing(self._pieces(sql, format, caps, None, id)) as pieces:
            async for piece in pieces:
                yield piece

    def cancel(self, id: str) -> bool:
        """Stops the query of this id, waiting or running; False where there is none."""
        query = self._queries.get(id)
        if query is not None:
            query.stop()
        return query is not None

    def warm(self) -> None:
        """Somebody is there who may soon ask: lets one process be ready, where there is none."""
        if not (self._closed or self._queries or self._idle or self._warming):
            self._warming = _Query()
            self._spawn(self._warm(self._warming))

    def state(self) -> PoolState:
        """What goes on."""
        waiting = self._turns.waiting
        return PoolState(len(self._queries) - waiting, waiting, tuple(process.pid for process in self._idle))

    def stop(self) -> None:
        """Stops every query, of which whoever asked hears, and takes no more; `close` comes later."""
        self._closed = True
        for query in (*self._queries.values(), *([self._warming] if self._warming else [])):
            query.stop()

    async def close(self) -> None:
        """Stops every query and ends every process; whoever reads an answer has a moment to let go of it."""
        self.stop()
        for process in list(self._idle):
            self._discard(process)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await self._quiet.wait()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pieces(
        self, sql: str, format: str, caps: QueryCaps | None, rows_max: int | None, id: str | None
    ) -> AsyncGenerator[bytes, None]:
        request = self._request(sql, format, caps or self.bounds.caps, rows_max)
        with self._known(id or token_hex(16)) as query:
            async with (
                self._turns.turn(query.called),
                self._process_for(query) as process,
                aclosing(process.ask(request)) as pieces,
            ):
                async for piece in pieces:
                    yield piece

    def _request(self, sql: str, format: str, caps: QueryCaps, rows_max: int | None) -> Request:
        rows = min(rows_max or self.bounds.rows_max, self.bounds.rows_max)
        return Request(
            sql, format, caps.memory_bytes_max, caps.seconds_max, caps.threads, rows, self.bounds.answer_bytes_max
        )

    @contextmanager
    def _known(self, id: str) -> Iterator[_Query]:
        if id in self._queries:
            raise QueryFailed(f"A query with the id {id!r} runs already.", "Give each query an id of its own.")
        query = self._queries[id] = _Query()
        self._quiet.clear()
        try:
            yield query
        finally:
            del self._queries[id]
            if not self._queries:
                self._quiet.set()

    @asynccontextmanager
    async def _process_for(self, query: _Query) -> AsyncIterator[QueryProcess]:
        """A process that is ready; afterwards it waits for the next query, or ends, as its query left it."""
        process = query.process = self._take() or await self._start(query)
        try:
            yield process
        finally:
            if process.is_fit and not self._closed:
                self._keep(process)
            else:
                self._discard(process)

    def _take(self) -> QueryProcess | None:
        while self._idle:
            process, timer = self._idle.popitem()
            timer.cancel()
            if process.is_fit:
                return process
            self._discard(process)
        return None

    async def _start(self, query: _Query) -> QueryProcess:
        process = await self._started()
        query.process = process
        try:
            if query.stopped:
                raise stopped()
            await process.wait_ready()
        except BaseException:
            self._discard(process)
            raise
        return process

    async def _started(self) -> QueryProcess:
        if self._closed:
            raise stopped()
        try:
            return await start_process(self._lake)
        except OSError as error:
            self._report.error("query_process_not_started", reason=str(error))
            raise QueryLost(f"No process could be started for the query: {error.strerror}.", "Try again.") from error

    async def _warm(self, query: _Query) -> None:
        try:
            with suppress(QueryFailed):
                self._keep(await self._start(query))
        finally:
            self._warming = None

    def _keep(self, process: QueryProcess) -> None:
        if self._closed:
            self._discard(process)
            return
        loop = asyncio.get_running_loop()
        self._idle[process] = loop.call_later(self.bounds.idle_s, self._discard, process)

    def _discard(self, process: QueryProcess) -> None:
        """Ends a process; its end is awaited elsewhere."""
        timer = self._idle.pop(process, None)
        if timer is not None:
            timer.cancel()
        self._spawn(process.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
