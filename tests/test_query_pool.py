"""The pool of query processes: what one query does is never another's business, and nothing is left of it."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kixo.errors import QueryFailed, QueryLost, QueryStopped, QueryTooLarge, QueryTooLong, TooManyQueries
from kixo.files import lock_folder
from kixo.lake.schema import EVENTS
from kixo.query import QueryCaps
from kixo.query.answer import Answer, Column
from kixo.query.pool import PoolBounds, PoolState, QueryPool, pool_bounds
from kixo.query.process import PREFIX, start_process
from kixo.query.protocol import HEAD, READY, ProtocolFault, decode_head
from kixo.settings import Settings
from tests.conftest import MIB, PATIENCE_S
from tests.loading import Reports
from tests.test_query import append, event
from tests.test_server import wait_until

CAPS = QueryCaps(memory_bytes_max=64 * MIB, seconds_max=60.0)
BOUNDS = PoolBounds(CAPS, rows_max=100, answer_bytes_max=MIB, running_max=2, waiting_max=8, idle_s=600.0)
# Where DuckDB looks neither at the clock nor at what wants to stop it.
DEAF = "SELECT sleep_ms(600000)"
NOTHING = PoolState(0, 0, ())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where query processes put things aside."""
    path = tmp_path / "aside"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.setenv("TMPDIR", str(path))
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "data" / "lake"


@asynccontextmanager
async def opened(lake: Path, bounds: PoolBounds = BOUNDS) -> AsyncIterator[QueryPool]:
    """A pool, of which nothing may be left afterwards."""
    pool = QueryPool(lake, bounds, Reports())
    try:
        yield pool
    finally:
        await pool.close()
        assert pool.state() == NOTHING
        assert processes(lake) == []
        assert await asyncio.to_thread(left, tempfile.gettempdir()) == []


def left(folder: str) -> list[Path]:
    return list(Path(folder).iterdir())


def processes(lake: Path) -> list[int]:
    """The query processes of a lake that live."""
    of_lake = f"kixo.query.child\0{lake}\0".encode()
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if of_lake in command_line(path)]


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


async def until(true: Callable[[], bool]) -> None:
    """Waits in a thread, so that the pool goes on."""
    await asyncio.to_thread(wait_until, true)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await work

    asyncio.run(bounded())


async def busy(pool: QueryPool, id: str, sql: str = DEAF) -> "asyncio.Task[Answer]":
    """A query that waits or runs."""
    before = pool.state()
    task = asyncio.create_task(pool.table(sql, id=id))
    await until(lambda: (pool.state().running, pool.state().waiting) != (before.running, before.waiting))
    return task


async def ready(pool: QueryPool) -> int:
    """The process id of an idle child, which there is after a query."""
    await pool.table("SELECT 1")
    return pool.state().idle[-1]


def test_an_answer_has_columns_with_their_types_and_rows_of_json_values(lake: Path) -> None:
    append(lake, EVENTS, [event(1, properties='{"a": 1}')])

    async def work() -> None:
        async with opened(lake) as pool:
            answer = await pool.table(
                "SELECT log_offset AS n, timestamp, identity, properties, 'nan'::DOUBLE FROM events"
            )
            assert answer.columns[:2] == (Column("n", "int64"), Column("timestamp", "timestamp[us, tz=UTC]"))
            assert answer.rows == ((1, "2026-04-08T12:00:00.000000Z", f"{1:032x}", '{"a": 1}', None),)
            assert (answer.truncated, answer.column("n"), answer.dicts()[0]["n"]) == (False, [1], 1)
            assert answer.seconds > 0

    run(work())


@pytest.mark.parametrize(
    ("sql", "rows_max", "expected"),
    [
        ("FROM range(100)", None, (100, False)),
        ("FROM range(101)", None, (100, True)),
        ("FROM range(101)", 7, (7, True)),
        ("FROM range(101)", 1_000_000, (100, True)),
        ("SELECT repeat('x', 300000) FROM range(10)", None, (3, True)),
        ("SELECT repeat('x', 2000000)", None, (0, True)),
        ("SELECT repeat('x', 9000) FROM range(1000000)", 5, (5, True)),
    ],
)
def test_an_answer_is_bounded_in_rows_and_bytes_and_says_so(
    lake: Path, sql: str, rows_max: int | None, expected: tuple[int, bool]
) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            answer = await pool.table(sql, rows_max=rows_max)
            assert (len(answer.rows), answer.truncated) == expected

    run(work())


def test_a_process_is_used_again_after_a_query_and_after_one_that_was_wrong(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            first = await ready(pool)
            with pytest.raises(QueryFailed, match="nothere") as failed:
                await pool.table("FROM nothere")
            assert (failed.value.position, failed.value.code) == (5, "query_failed")
            assert failed.value.next_step.startswith("SHOW TABLES")
            assert await ready(pool) == first

    run(work())


def test_each_query_sees_what_was_committed_before_it(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            for count in (1, 2):
                append(lake, EVENTS, [event(count)])
                assert (await pool.table("SELECT count(*) FROM events")).rows == ((count,),)

    run(work())


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT repeat('x', 4000000000)", QueryTooLarge),
        ("SELECT list(md5(range::VARCHAR)) FROM range(5000000)", QueryTooLarge),
        (DEAF, QueryTooLong),
        ("SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range * b.range % 7 = 1", QueryTooLong),
    ],
)
def test_a_query_past_a_cap_ends_with_its_process_and_the_next_one_has_another(
    lake: Path, sql: str, error: type[QueryFailed]
) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            first = await ready(pool)
            with pytest.raises(error):
                await pool.table(sql, pool.bounds.lowered(seconds=30 if error is QueryTooLarge else 0.5))
            assert pool.state() == NOTHING
            assert await ready(pool) != first

    run(work())


def test_caps_can_be_lowered_and_never_raised() -> None:
    assert BOUNDS.lowered() == CAPS
    assert BOUNDS.lowered(memory_bytes=MIB, seconds=1.5) == QueryCaps(MIB, 1.5)
    assert BOUNDS.lowered(memory_bytes=2**40, seconds=1e9) == CAPS


def test_a_query_is_cancelled_by_its_id_from_elsewhere(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            await ready(pool)
            task = await busy(pool, "mine")
            await until(lambda: len(processes(lake)) == 1)
            assert not pool.cancel("another's")
            assert pool.cancel("mine")
            with pytest.raises(QueryStopped):
                await task
            assert not pool.cancel("mine")
            await until(lambda: processes(lake) == [])

    run(work())


def test_a_query_whose_process_only_starts_can_be_cancelled(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            task = await busy(pool, "mine")
            pool.cancel("mine")
            with pytest.raises(QueryStopped):
                await task

    run(work())


def test_an_id_is_used_by_one_query_at_a_time(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            task = await busy(pool, "mine")
            with pytest.raises(QueryFailed, match="an id of its own"):
                await pool.table("SELECT 1", id="mine")
            pool.cancel("mine")
            await asyncio.wait([task])
            assert (await pool.table("SELECT 1", id="mine")).rows == ((1,),)
            assert isinstance(task.exception(), QueryStopped)

    run(work())


def test_whoever_asked_and_went_away_leaves_no_query_behind(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            task = await busy(pool, "mine")
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await until(lambda: processes(lake) == [])
            assert pool.state() == NOTHING

    run(work())


def test_the_death_of_a_process_is_told_to_its_query_and_harms_no_other(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            victim = await ready(pool)
            lost = await busy(pool, "lost")
            other = await busy(pool, "other", "SELECT sleep_ms(2000), 'unharmed'")
            os.kill(victim, signal.SIGSEGV)
            with pytest.raises(QueryLost, match="status -11"):
                await lost
            assert (await other).rows[0][1] == "unharmed"

    run(work())


def test_an_idle_process_that_died_is_not_asked(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            victim = await ready(pool)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: not Path(f"/proc/{victim}").exists())
            assert (await pool.table("SELECT 2")).rows == ((2,),)

    run(work())


def test_queries_wait_for_their_turn_in_order(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake, replace(BOUNDS, running_max=1, waiting_max=4)) as pool:
            done: list[int] = []

            async def ask(number: int) -> None:
                await pool.table("SELECT 1")
                done.append(number)

            tasks = [asyncio.create_task(ask(number)) for number in range(5)]
            await until(lambda: pool.state().waiting == 4)
            with pytest.raises(TooManyQueries, match="4 queries wait"):
                await pool.table("SELECT 1")
            await asyncio.gather(*tasks)
            assert done == [0, 1, 2, 3, 4]
            assert len(processes(lake)) == 1

    run(work())


def test_who_gives_up_waiting_takes_nobodys_turn(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake, replace(BOUNDS, running_max=1)) as pool:
            first = await busy(pool, "first")
            cancelled = await busy(pool, "cancelled")
            left = await busy(pool, "left")
            last = await busy(pool, "last", "SELECT 'last'")
            pool.cancel("cancelled")
            left.cancel()
            with pytest.raises(QueryStopped):
                await cancelled
            await asyncio.wait([left])
            assert pool.state().waiting == 1
            pool.cancel("first")
            assert (await last).rows == (("last",),)
            assert isinstance(first.exception(), QueryStopped)

    run(work())


def test_every_format_is_streamed_whole(lake: Path) -> None:
    async def fetch(pool: QueryPool, format: str) -> io.BytesIO:
        async with aclosing(pool.stream("SELECT range AS n FROM range(200000)", format)) as pieces:
            found = [piece async for piece in pieces]
        assert len(found) > 1
        return io.BytesIO(b"".join(found))

    async def work() -> None:
        async with opened(lake) as pool:
            assert pq.read_table(await fetch(pool, "parquet"))["n"].to_pylist() == list(range(200_000))
            rows = list(csv.reader(io.TextIOWrapper(await fetch(pool, "csv"), newline="")))
            assert (rows[0], rows[-1], len(rows)) == (["n"], ["199999"], 200_001)
            assert [json.loads(line)["n"] for line in await fetch(pool, "json")] == list(range(200_000))

    run(work())


def test_a_stream_that_fails_in_the_middle_says_so_after_what_it_gave(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            sql = "SELECT CASE WHEN range < 1000000 THEN range ELSE error('bad row') END AS n FROM range(1000001)"
            found = b""
            with pytest.raises(QueryFailed, match="bad row"):
                async with aclosing(pool.stream(sql, "csv")) as pieces:
                    async for piece in pieces:
                        found += piece
            assert found.startswith(b"n\r\n0\r\n1\r\n")

    run(work())


def test_a_stream_that_is_left_ends_its_query(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            async with aclosing(pool.stream("FROM range(1000000000000)", "csv")) as pieces:
                assert await anext(pieces)
            await until(lambda: processes(lake) == [])
            assert pool.state() == NOTHING

    run(work())


def test_an_answer_that_nobody_fetches_ends_with_its_time(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kixo.query.process.GRACE_S", 0.2)

    async def work() -> None:
        async with opened(lake) as pool:
            caps = pool.bounds.lowered(seconds=2)
            with pytest.raises(QueryTooLong):
                async with aclosing(pool.stream("FROM range(1000000000000)", "csv", caps)) as pieces:
                    assert await anext(pieces)
                    await until(lambda: processes(lake) == [])
                    async for _ in pieces:
                        pass

    run(work())


def test_a_process_is_started_when_somebody_is_there_and_ends_when_nobody_asks(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake, replace(BOUNDS, idle_s=0.2)) as pool:
            assert processes(lake) == []
            pool.warm()
            pool.warm()
            await until(lambda: len(pool.state().idle) == 1)
            assert len(processes(lake)) <= 1
            await until(lambda: pool.state() == NOTHING)
            await until(lambda: processes(lake) == [])

    run(work())


def test_a_closed_pool_starts_nothing(lake: Path) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            task = await busy(pool, "mine")
            waiting = asyncio.create_task(pool.table(DEAF))
            pool.warm()
            await pool.close()
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], QueryStopped)
            assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], QueryStopped)
            pool.warm()
            with pytest.raises(QueryStopped):
                await pool.table("SELECT 1")

    run(work())


def test_closing_does_not_wait_for_a_process_that_only_loads(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 600\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    # Longer than the test may take, so that nothing but the closing ends the wait for it.
    monkeypatch.setattr("kixo.query.process.START_S_MAX", 1000.0)

    async def work() -> None:
        async with opened(lake) as pool:
            pool.warm()
            await until(lambda: any(Path(tempfile.gettempdir()).iterdir()))

    run(work())


def test_a_process_removes_no_folder_but_its_own(lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, others = tmp_path / "own", tmp_path / "others"
    own.mkdir()
    (others / "precious").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setenv("TEMP", str(others))
    command = [sys.executable, "-m", "kixo.query.child", str(lake), str(own)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == READY
        own.rmdir()
        process.communicate(timeout=PATIENCE_S)
    assert (others / "precious").exists()


def test_what_processes_that_were_killed_with_their_owner_left_is_removed(lake: Path) -> None:
    folders = [Path(tempfile.gettempdir()) / f"{PREFIX}{name}" for name in ("left", "held", "new")]
    for folder in folders:
        (folder / "kixo-query-1").mkdir(parents=True)
    for folder in folders[:2]:
        os.utime(folder, (0, 0))
    lock = lock_folder(folders[1], wait=False)

    async def work() -> None:
        process = await start_process(lake)
        await process.close()

    run(work())
    os.close(lock)
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_a_process_that_cannot_start_is_told_in_a_sentence(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with opened(lake) as pool:
            monkeypatch.setattr(sys, "executable", "/nothing/here")
            with pytest.raises(QueryLost, match="No such file"):
                await pool.table("SELECT 1")
            monkeypatch.setattr(sys, "executable", "/bin/true")
            with pytest.raises(QueryLost, match="did not start"):
                await pool.table("SELECT 1")

    run(work())


OWNER = """
import asyncio, sys
from pathlib import Path
from tests.test_query_pool import BOUNDS, DEAF
from kixo.query.pool import QueryPool

async def main():
    await QueryPool(Path(sys.argv[1]), BOUNDS, None).table(DEAF)

asyncio.run(main())
"""


def test_a_process_ends_with_its_owner_whatever_it_computes(lake: Path, folder: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(lake)], cwd=Path(__file__).parent.parent)
    try:
        wait_until(lambda: list(folder.glob("*/kixo-query-*")) != [])
        assert len(processes(lake)) == 1
    finally:
        owner.kill()
        owner.wait()
    wait_until(lambda: processes(lake) == [])
    wait_until(lambda: list(folder.iterdir()) == [])


@pytest.mark.parametrize("data", [b"X\0\0\0\0", b"D\xff\xff\xff\xff", HEAD.pack(b"D", 65 * 1024)])
def test_what_is_not_of_the_protocol_is_a_fault(data: bytes) -> None:
    with pytest.raises(ProtocolFault):
        decode_head(data)


def test_a_process_that_breaks_the_protocol_is_ended(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nprintf 'R\\0\\0\\0\\0'\nread line\necho nonsense\nexec sleep 600\n")
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))

    async def work() -> None:
        async with opened(lake) as pool:
            with pytest.raises(QueryLost, match="a query process sent b'nonse'"):
                await pool.table("SELECT 1")
            assert pool.state() == NOTHING

    run(work())


def test_the_bounds_are_those_of_the_settings() -> None:
    settings = Settings(query_s_max=7, queries_running_max=1, query_idle_s=3)
    bounds = pool_bounds(settings)
    assert (bounds.caps, bounds.running_max, bounds.idle_s) == (QueryCaps(1024 * MIB, 7), 1, 3)
