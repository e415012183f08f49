"""What any limit of requests does, wherever it is counted: one contract, run on the file and on Redis."""

import asyncio
import multiprocessing
import os
import shutil
import signal
import time
from asyncio import Future
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
import uvloop

from kixo.console.traffic import Traffic, Use
from kixo.errors import Unavailable
from kixo.limits import Counted, Reply, RequestLimit, Verdict
from kixo.limits.connection import open_connection
from kixo.limits.looking import open_look
from kixo.limits.opening import list_prefix
from kixo.limits.redis_limit import Identity, RedisLimit
from kixo.limits.ring_file import RingFile
from kixo.places import Address, RedisPlace, limits_place
from kixo.settings import Settings
from services import redis as redis_service
from services import running
from services.program import Program, start, stop
from tests.cable import Cable
from tests.services import Redis

LIMIT = 5
SECOND_NS = 10**9
WAIT_S_MAX = 30.0
spawn = multiprocessing.get_context("spawn")

Open = Callable[[], Coroutine[Any, Any, RequestLimit]]


class Told:
    """What a limit told of how it counts."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.requests_alone = 0
        self.share = 0

    def away(self, reason: str, share: int) -> None:
        self.share = share
        self.lines.append("away")

    def back(self) -> None:
        self.lines.append("back")

    def alone(self, requests: int) -> None:
        self.requests_alone += requests


async def known(reply: Reply) -> Counted:
    """The reply, waited for where it has to be; a local one counts as of the caller's time, which is 0 here."""
    return await reply if isinstance(reply, Future) else Counted(reply, 0)


async def ask(limit: RequestLimit, project: int = 1) -> Counted:
    now_ns = time.monotonic_ns()
    verdict, at = await known(limit.admit(project, now_ns))
    return Counted(verdict, at or now_ns)


async def asked_at_once(limit: RequestLimit, count: int, project: int = 1) -> list[Verdict]:
    """So many in one turn of the event loop."""
    return [verdict for verdict, _ in await asyncio.gather(*(ask(limit, project) for _ in range(count)))]


async def left(limit: RequestLimit, project: int = 1) -> int:
    return (await known(limit.peek(project, time.monotonic_ns()))).verdict.left


async def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S_MAX
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


async def retracted(limit: RequestLimit, taken: Counted, project: int = 1) -> None:
    limit.retract(project, taken.at, time.monotonic_ns())
    await left(limit, project)


class LimitsContract:
    """Gives the tests; a form gives `open_limit`, which opens the same limit as another worker would."""

    def test_so_many_are_admitted_the_next_is_not_and_the_header_counts_down(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as limit:
                for number in range(LIMIT):
                    verdict, _ = await ask(limit)
                    assert verdict == Verdict(admitted=True, left=LIMIT - number - 1, reset_s=1, retry_after_s=0)
                verdict, _ = await ask(limit)
                assert verdict == Verdict(admitted=False, left=0, reset_s=1, retry_after_s=1)

        uvloop.run(story())

    def test_of_those_of_one_turn_the_first_are_admitted(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as limit:
                verdicts = await asked_at_once(limit, LIMIT + 3)
                assert [verdict.admitted for verdict in verdicts] == [True] * LIMIT + [False] * 3
                assert [verdict.left for verdict in verdicts] == [4, 3, 2, 1, 0, 0, 0, 0]

        uvloop.run(story())

    def test_workers_count_together_and_projects_do_not(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as one, closing(await open_limit()) as two:
                for limit in (one, two, one, two, one):
                    assert (await ask(limit)).verdict.admitted
                assert [(await ask(limit)).verdict.admitted for limit in (two, one)] == [False, False]
                assert (await ask(two, project=2)).verdict.left == LIMIT - 1
                assert await left(one, project=2) == LIMIT - 1

        uvloop.run(story())

    def test_a_look_takes_nothing(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as limit:
                assert (await known(limit.peek(1, time.monotonic_ns()))).verdict == Verdict(True, LIMIT, 0, 0)
                await ask(limit)
                assert [await left(limit) for _ in range(3)] == [LIMIT - 1] * 3
                await asked_at_once(limit, LIMIT)
                assert await left(limit) == 0

        uvloop.run(story())

    def test_what_is_taken_back_is_free_for_others(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as limit, closing(await open_limit()) as other:
                taken = [await ask(limit) for _ in range(LIMIT)]
                await retracted(limit, taken[2])
                assert await left(limit) == 1
                assert (await ask(other)).verdict.admitted
                assert not (await ask(other)).verdict.admitted

        uvloop.run(story())

    def test_it_is_full_as_soon_as_one_was_refused_and_not_after_a_second(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as limit:
                assert not limit.is_full(1, time.monotonic_ns())
                await asked_at_once(limit, LIMIT + 1)
                now_ns = time.monotonic_ns()
                assert limit.is_full(1, now_ns)
                assert not limit.is_full(2, now_ns)
                assert not limit.is_full(1, now_ns + SECOND_NS)

        uvloop.run(story())

    def test_a_place_is_free_a_second_after_it_was_taken_and_refused_ones_count_nothing(self, open_limit: Open) -> None:
        async def story() -> None:
            with closing(await open_limit()) as limit:
                begun = time.monotonic()
                await asked_at_once(limit, LIMIT)
                while not (await ask(limit)).verdict.admitted:
                    assert time.monotonic() - begun < WAIT_S_MAX
                assert time.monotonic() - begun >= 1.0

        uvloop.run(story())


class TestRingFile(LimitsContract):
    """The limit of one machine."""

    @pytest.fixture
    def open_limit(self, tmp_path: Path) -> Open:
        async def open_ring() -> RequestLimit:
            return RingFile(tmp_path / "limits", projects_max=10, requests_per_second_max=LIMIT)

        return open_ring


class Node:
    """A node with a folder of its own."""

    def __init__(self, folder: Path, name: str, place: RedisPlace, prefix: str, limit: int = LIMIT) -> None:
        self.told = Told()
        self._folder = folder / name
        self._folder.mkdir(exist_ok=True)
        self._identity = Identity(name, prefix)
        self._place = place
        self._limit = limit

    async def open(self) -> RedisLimit:
        ring = RingFile(self._folder / "limits", projects_max=10, requests_per_second_max=self._limit)
        limit = RedisLimit(
            lambda: open_connection(self._place, ""),
            ring,
            self._limit,
            self._identity,
            self._folder / "limit-nodes",
            self.told,
            time.monotonic_ns,
        )
        await limit.open()
        return limit


@pytest.fixture
def place(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> RedisPlace:
    monkeypatch.setenv("KIXO_LIMITS_PASSWORD", redis.password)
    place = limits_place(redis.url())
    assert place is not None
    return place


@pytest.fixture
def prefix() -> str:
    """Lists that no other test has."""
    return f"test:{os.urandom(6).hex()}:"


@pytest.fixture
def cable(place: RedisPlace) -> Iterator[Cable]:
    with Cable(place.address.host, place.address.port) as cable:
        yield cable


@pytest.fixture
def by_cable(place: RedisPlace, cable: Cable) -> RedisPlace:
    """The same Redis, by a way that the test can cut."""
    return RedisPlace(Address("127.0.0.1", cable.port), place.database, tls=False)


class TestRedis(LimitsContract):
    """The limit of several machines."""

    @pytest.fixture
    def open_limit(self, tmp_path: Path, place: RedisPlace, prefix: str) -> Open:
        numbers = iter(range(100))

        async def open_node() -> RequestLimit:
            return await Node(tmp_path, f"node-{next(numbers)}", place, prefix).open()

        return open_node


class TestRedisAway:
    """A node whose way to Redis is cut, or lets nothing through."""

    @pytest.mark.parametrize("how", ["cut", "stall"])
    def test_requests_are_counted_alone_and_together_again_by_itself(
        self, tmp_path: Path, by_cable: RedisPlace, cable: Cable, prefix: str, how: str
    ) -> None:
        node = Node(tmp_path, "node", by_cable, prefix)

        async def story() -> None:
            with closing(await node.open()) as limit:
                assert (await ask(limit)).at < 0
                (cable.cut if how == "cut" else cable.stall)()
                verdicts = await asked_at_once(limit, LIMIT + 1, project=2)
                assert [verdict.admitted for verdict in verdicts] == [True] * LIMIT + [False]
                assert node.told.lines == ["back", "away"]
                assert limit.is_full(2, time.monotonic_ns())
                # Now nobody waits any more.
                assert not isinstance(limit.admit(2, time.monotonic_ns()), Future)
                (cable.mend if how == "cut" else cable.flow)()
                await until(lambda: node.told.lines == ["back", "away", "back"])
                assert (await ask(limit, project=3)).at < 0
                assert node.told.requests_alone == LIMIT + 2

        uvloop.run(story())

    def test_a_node_alone_keeps_to_its_share_also_after_a_start(
        self, tmp_path: Path, place: RedisPlace, by_cable: RedisPlace, cable: Cable, prefix: str
    ) -> None:
        node, others = Node(tmp_path, "node", by_cable, prefix), [Node(tmp_path, n, place, prefix) for n in "ab"]

        async def story() -> None:
            opened = [await other.open() for other in others]
            with closing(await node.open()) as limit, closing(opened[0]), closing(opened[1]):
                await until((tmp_path / "node" / "limit-nodes").exists)
                cable.cut()
                await until(lambda: node.told.lines[-1] == "away")
                assert sum(verdict.admitted for verdict in await asked_at_once(limit, LIMIT)) == LIMIT // 3
            # A worker that starts while Redis is away.
            with closing(await node.open()) as limit:
                assert node.told.share == LIMIT // 3
                verdicts = await asked_at_once(limit, LIMIT, project=2)
                assert sum(verdict.admitted for verdict in verdicts) == LIMIT // 3

        uvloop.run(story())

    def test_what_was_counted_alone_is_taken_back_alone(
        self, tmp_path: Path, by_cable: RedisPlace, cable: Cable, prefix: str
    ) -> None:
        node = Node(tmp_path, "node", by_cable, prefix)

        async def story() -> None:
            with closing(await node.open()) as limit:
                cable.cut()
                taken = await ask(limit)
                assert taken.at > 0
                limit.retract(1, taken.at, time.monotonic_ns())
                assert await left(limit) == LIMIT

        uvloop.run(story())

    def test_what_can_not_be_counted_alone_either_is_told(
        self, tmp_path: Path, by_cable: RedisPlace, cable: Cable, prefix: str
    ) -> None:
        node = Node(tmp_path, "node", by_cable, prefix)

        async def story() -> None:
            with closing(await node.open()) as limit:
                cable.stall()
                with pytest.raises(Unavailable, match="projects_max"):
                    await ask(limit, project=11)

        uvloop.run(story())

    def test_a_wrong_password_is_a_reason_to_count_alone(
        self, tmp_path: Path, place: RedisPlace, prefix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KIXO_LIMITS_PASSWORD", "not this one")
        node = Node(tmp_path, "node", place, prefix)

        async def story() -> None:
            with closing(await node.open()) as limit:
                assert (await ask(limit)).at > 0

        uvloop.run(story())
        assert node.told.lines == ["away"]


class TestRedisThatForgets:
    """A Redis of its own, since what happens to it would happen to all tests."""

    @pytest.fixture
    def server(self, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
        monkeypatch.setenv("KIXO_LIMITS_PASSWORD", redis.password)
        folder = running.new_folder()
        server = start(redis_service.server(folder))
        yield server
        stop(server)
        shutil.rmtree(folder)

    @pytest.mark.parametrize("how", ["script flushed", "emptied", "restarted"])
    def test_it_is_asked_again_by_itself(self, tmp_path: Path, server: Program, prefix: str, how: str) -> None:
        place = RedisPlace(Address(server.host, server.port), 0, tls=False)
        node, client = Node(tmp_path, "node", place, prefix), client_of(server)

        async def story() -> None:
            with closing(await node.open()) as limit:
                await asked_at_once(limit, LIMIT)
                if how == "script flushed":
                    client.script_flush()
                elif how == "emptied":
                    client.flushall()
                else:
                    stop(server, signal.SIGKILL)
                    start(server)
                # Whoever counts now, nobody waits in vain, and nothing is an error.
                assert (await ask(limit, project=2)).verdict.admitted

                async def is_asked() -> bool:
                    return (await ask(limit, project=3)).at < 0

                ends = time.monotonic() + WAIT_S_MAX
                while not await is_asked():
                    assert time.monotonic() < ends
                    await asyncio.sleep(0.05)

        uvloop.run(story())
        assert client.exists(f"{prefix}3")
        client.close()
        assert node.told.lines == (["back"] if how == "emptied" else ["back", "away", "back"])


def client_of(server: Program) -> Any:
    return redis_client.Redis(host=server.host, port=server.port, password=redis_service.PASSWORD)


def admissions(folder: Path, name: str, place: RedisPlace, prefix: str, barrier: Barrier, answers: Connection) -> None:
    """The times, by the clock of Redis, of what a process is admitted while it asks without a pause."""
    node = Node(folder, name, place, prefix, 100)

    async def story() -> list[int]:
        with closing(await node.open()) as limit:
            barrier.wait(WAIT_S_MAX)
            found: list[int] = []
            while len(found) < 150:
                counted = await asyncio.gather(*(ask(limit) for _ in range(7)))
                # What a machine that stands still let it count alone has no time of Redis.
                found += [-at for verdict, at in counted if verdict.admitted and at < 0]
            return found

    answers.send(uvloop.run(story()))


def test_two_processes_together_stay_within_the_limit_in_every_rolling_second(
    tmp_path: Path, place: RedisPlace, prefix: str
) -> None:
    barrier, pipes = spawn.Barrier(2), [spawn.Pipe(duplex=False) for _ in range(2)]
    processes = [
        spawn.Process(target=admissions, args=(tmp_path, f"node-{n}", place, prefix, barrier, end))
        for n, (_, end) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    times = sorted(at for receiver, _ in pipes for at in receiver.recv())
    for process in processes:
        process.join(60)
    # Each has got its 150, so what was refused took no place from them.
    assert len(times) >= 300
    assert all(later - first >= 1_000_000 for first, later in zip(times, times[100:], strict=False))


def test_onlookers_see_how_close_projects_are(redis: Redis, place: RedisPlace, tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, registry="postgresql://u@h/d", limits=redis.url(), requests_per_second_max=LIMIT
    )
    found = limits_place(settings.limits)
    assert found is not None

    async def story() -> None:
        with closing(await Node(tmp_path, "node", found, list_prefix(settings)).open()) as limit:
            await asked_at_once(limit, 3, project=2)

    traffic = Traffic(open_look(settings))
    uvloop.run(story())
    traffic.look(3, time.monotonic_ns())
    assert [traffic.use(project) for project in (1, 3, 4)] == [Use(0, 0), Use(0, 0), None]
    use = traffic.use(2)
    assert use is not None
    assert use.most == 3
