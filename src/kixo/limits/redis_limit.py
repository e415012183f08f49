"""The limit of requests in Redis, counted over the workers of all nodes, and by a node alone while Redis is away.

- The requests of one turn of the event loop are asked for together, by one call of one script (`script`). What comes
  while a call is under way is in the next one.
- After a refusal it is known until when a project has no place left. Until then it is refused without asking: a flood
  costs Redis nothing. Should a place be given back on another node meanwhile, that is noticed up to a second later.
- A call that takes longer than `ANSWER_S_MAX`, a lost connection, an error: whoever waits is counted by this node, as
  is all that comes until a new connection has answered in time. A node admits its share then: the limit divided by
  the nodes that were there last, and at least one. Its workers count together in a file (`ring_file`).
- Nobody carries counts over. In the second in which a node changes between the two ways, it may admit its share on top
  of what was admitted before.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kixo.errors import Unavailable
from kixo.files import write_atomically
from kixo.limits import REFUSED, Counted, Reply, Verdict
from kixo.limits.connection import Connection
from kixo.limits.ring_file import RingFile
from kixo.limits.script import FIELDS

ANSWER_S_MAX = 0.1
# An event loop that was held up finds time passed and answers unread. It gets this to read them.
GRACE_S = 0.01
CONNECT_S_MAX = 2.0
RETRY_S_MIN, RETRY_S_MAX = 0.1, 1.0
ANNOUNCE_S = 1.0
# Full projects that are remembered before those that have places again are forgotten.
FULL_KEPT = 4096
NODES_KEY = "kixo:limits:nodes"


class Notes(Protocol):
    """Where it is told how requests are counted."""

    def away(self, reason: str, share: int) -> None:
        """From now on this node counts alone, up to a share of the limit."""
        ...

    def back(self) -> None:
        """From now on all nodes count together."""
        ...

    def alone(self, requests: int, /) -> None:
        """So many requests were counted by this node alone."""
        ...


class Identity(NamedTuple):
    """Who counts: the name of the node, and what stands before the number of a project in the name of its list."""

    node: str
    prefix: str


class _Asked:
    """What is asked for a project in one call."""

    __slots__ = ("admissions", "gone", "looks")

    def __init__(self) -> None:
        self.admissions: list[Future[Counted]] = []
        self.looks: list[Future[Counted]] = []
        self.gone: list[int] = []


class RedisLimit:
    """A `RequestLimit`. Belongs to one event loop's thread. `connect` gives a connection and the name of the script."""

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, tuple[Connection, str]]],
        ring: RingFile,
        requests_per_second_max: int,
        identity: Identity,
        nodes_file: Path,
        notes: Notes,
        now_ns: Callable[[], int],
    ) -> None:
        self._connect = connect
        self._ring = ring
        self._requests_max = requests_per_second_max
        self._identity = identity
        self._notes = notes
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._nodes = _Nodes(nodes_file)
        self._share = 0
        self._connection: Connection | None = None
        self._script = ""
        self._asked: dict[int, _Asked] = {}
        self._scheduled = self._under_way = self._announcing = False
        self._full_until_ns: dict[int, int] = {}
        self._admitted = tuple(Verdict(True, left, 1, 0) for left in range(requests_per_second_max))
        self._keeping: asyncio.Task[None] | None = None
        self._count_share()

    async def open(self) -> None:
        """Connects, or begins alone where that is not to be had within a bound."""
        tried: Future[None] = self._loop.create_future()
        self._keeping = self._loop.create_task(self._keep(tried))
        await tried

    def close(self) -> None:
        """See `RequestLimit`."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
        if self._connection is not None:
            self._connection.close()
        self._ring.close()

    def admit(self, project_number: int, now_ns: int) -> Reply:
        """See `RequestLimit`."""
        if self._connection is None:
            self._notes.alone(1)
            return self._ring.admit(project_number, now_ns)
        if self._is_known_full(project_number, now_ns):
            return REFUSED
        reply: Future[Counted] = self._loop.create_future()
        self._ask(project_number).admissions.append(reply)
        return reply

    def peek(self, project_number: int, now_ns: int) -> Reply:
        """See `RequestLimit`."""
        if self._connection is None:
            return self._ring.peek(project_number, now_ns)
        if self._is_known_full(project_number, now_ns):
            return REFUSED
        reply: Future[Counted] = self._loop.create_future()
        self._ask(project_number).looks.append(reply)
        return reply

    def is_full(self, project_number: int, now_ns: int) -> bool:
        """See `RequestLimit`."""
        if self._connection is None:
            return self._ring.is_full(project_number, now_ns)
        return self._is_known_full(project_number, now_ns)

    def retract(self, project_number: int, admitted_at: int, now_ns: int) -> None:
        """See `RequestLimit`. Times of the server are negative here, those of this node are not."""
        if admitted_at >= 0:
            self._ring.retract(project_number, admitted_at, now_ns)
        elif self._connection is not None:
            self._full_until_ns.pop(project_number, None)
            self._ask(project_number).gone.append(-admitted_at)

    def _is_known_full(self, project_number: int, now_ns: int) -> bool:
        return now_ns < self._full_until_ns.get(project_number, 0)

    def _ask(self, project_number: int) -> _Asked:
        asked = self._asked.get(project_number)
        if asked is None:
            asked = self._asked[project_number] = _Asked()
            self._schedule()
        return asked

    def _schedule(self) -> None:
        """Sends after the requests that are ready now, unless a call is under way: its end looks again."""
        if not self._scheduled and not self._under_way:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        connection = self._connection
        if connection is None:
            self._count_alone(self._take())
        elif self._asked or self._announcing:
            asked, self._under_way = self._take(), True
            sent_ns = self._now_ns()
            answer = connection.ask(*self._call(asked))
            timer = self._loop.call_later(ANSWER_S_MAX, self._look_again, connection, answer)
            answer.add_done_callback(lambda done: self._finish(done, asked, sent_ns, timer))

    def _take(self) -> dict[int, _Asked]:
        asked, self._asked = self._asked, {}
        return asked

    def _call(self, asked: dict[int, _Asked]) -> list[str | int]:
        keys: list[str | int] = [NODES_KEY]
        arguments: list[str | int] = [self._requests_max, self._identity.node if self._announcing else ""]
        self._announcing = False
        for project, each in asked.items():
            keys.append(f"{self._identity.prefix}{project}")
            arguments += (len(each.admissions), len(each.gone), *each.gone)
        return ["EVALSHA", self._script, len(keys), *keys, *arguments]

    def _look_again(self, connection: Connection, answer: "Future[Any]") -> None:
        """Gives an event loop that was held up the time to read what has come."""
        self._loop.call_later(GRACE_S, self._give_up, connection, answer)

    def _give_up(self, connection: Connection, answer: "Future[Any]") -> None:
        if not answer.done():
            connection.close(f"Redis did not answer within {ANSWER_S_MAX} seconds")

    def _finish(
        self, answer: "Future[Any]", asked: dict[int, _Asked], sent_ns: int, timer: asyncio.TimerHandle
    ) -> None:
        timer.cancel()
        if self._keeping is None:
            return
        self._under_way = False
        error = answer.exception()
        if error is None:
            self._tell(answer.result(), asked, sent_ns)
        else:
            self._leave(str(error))
            self._count_alone(asked)
        if self._asked or self._announcing:
            self._schedule()

    def _tell(self, reply: list[int], asked: dict[int, _Asked], sent_ns: int) -> None:
        if reply[0] and self._nodes.note(reply[0]):
            self._count_share()
        numbers = iter(reply)
        next(numbers)
        for project, each in asked.items():
            used, taken, at_us, free_us = islice(numbers, FIELDS)
            if free_us:
                self._note_full(project, sent_ns + free_us * 1000)
            self._tell_one(each, used, taken, at_us)

    def _tell_one(self, asked: _Asked, used: int, taken: int, at_us: int) -> None:
        left = self._requests_max - used
        for number, waiting in enumerate(asked.admissions):
            verdict = self._admitted[left - number - 1] if number < taken else REFUSED
            if not waiting.done():
                waiting.set_result(Counted(verdict, -at_us))
        left -= taken
        seen = Verdict(True, left, int(left < self._requests_max), 0) if left > 0 else REFUSED
        for waiting in asked.looks:
            if not waiting.done():
                waiting.set_result(Counted(seen, -at_us))

    def _note_full(self, project: int, until_ns: int) -> None:
        if len(self._full_until_ns) >= FULL_KEPT:
            now_ns = self._now_ns()
            self._full_until_ns = {key: until for key, until in self._full_until_ns.items() if until > now_ns}
        self._full_until_ns[project] = until_ns

    def _count_alone(self, asked: dict[int, _Asked]) -> None:
        """Counts what was asked for by this node, because Redis did not."""
        now_ns = self._now_ns()
        for project, each in asked.items():
            for waiting in each.admissions:
                self._notes.alone(1)
                _answer(waiting, partial(self._ring.admit, project, now_ns), now_ns)
            for waiting in each.looks:
                _answer(waiting, partial(self._ring.peek, project, now_ns), now_ns)

    def _leave(self, reason: str) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._full_until_ns.clear()
            connection.close(reason)
            self._notes.away(reason, self._share)

    def _count_share(self) -> None:
        self._share = max(1, self._requests_max // self._nodes.count)
        self._ring.allow(self._share)

    async def _keep(self, tried: "Future[None]") -> None:
        """Keeps a connection for the life of the process."""
        retry_s = RETRY_S_MIN
        while True:
            reason = await self._try_connection()
            if reason is None and self._connection is not None:
                retry_s = RETRY_S_MIN
                _done(tried)
                reason = await self._announce_until_lost(self._connection)
                self._leave(reason)
            elif not tried.done():
                self._notes.away(reason or "", self._share)
                _done(tried)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, RETRY_S_MAX)

    async def _try_connection(self) -> str | None:
        """Connects, and has the script answer in time; why that failed, or None."""
        connection = None
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                connection, self._script = await self._connect()
            async with asyncio.timeout(ANSWER_S_MAX):
                reply = await connection.ask(
                    "EVALSHA", self._script, 1, NODES_KEY, self._requests_max, self._identity.node
                )
        except Exception as error:  # noqa: BLE001 - the edge of a thread of work: whatever it is, the node counts alone
            if connection is not None:
                connection.close()
            return str(error) or "Redis does not answer in time"
        self._tell(reply, {}, 0)
        self._connection = connection
        self._notes.back()
        return None

    async def _announce_until_lost(self, connection: Connection) -> str:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(ANNOUNCE_S):
                    return await asyncio.shield(connection.lost)
            self._announcing = True
            self._schedule()


class _Nodes:
    """How many nodes there were last, also for a worker that starts while Redis is away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.count = max(1, int(path.read_text()))
        except (OSError, ValueError):
            self.count = 1

    def note(self, count: int) -> bool:
        """Notes how many there are; whether that is another number."""
        if count == self.count:
            return False
        self.count = count
        with suppress(OSError):
            write_atomically(self._path, b"%d\n" % count)
        return True


def _answer(waiting: "Future[Counted]", count: Callable[[], Verdict], now_ns: int) -> None:
    if waiting.done():
        return
    try:
        waiting.set_result(Counted(count(), now_ns))
    except Unavailable as error:
        waiting.set_exception(error)


def _done(tried: "Future[None]") -> None:
    if not tried.done():
        tried.set_result(None)
