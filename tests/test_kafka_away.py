"""A broker that is paused, killed and started again under an appender: what was answered, and what is in the log."""

import asyncio
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import pytest

from kixo.errors import Unavailable
from kixo.log import Appender
from kixo.log.opening import ensure_log, open_appender
from kixo.settings import Settings
from kixo.stored import AS_SENT
from services import kafka as kafka_service
from services import running
from services.program import Program, launch, send, start, stop, wait_ready
from tests.contract.log_contract import read_all, told_nothing
from tests.services import Kafka

PARTITIONS = 2
DELIVERY_S = 1.0
WAIT_S_MAX = 120.0


@pytest.fixture
def broker(kafka: Kafka) -> Iterator[Program]:
    """A broker of its own; the fixture `kafka` says whether there can be one."""
    folder = running.new_folder()
    program = start(kafka_service.brokers(folder)[0])
    yield program
    send(program, signal.SIGCONT)
    stop(program)
    shutil.rmtree(folder)


class Sender:
    """Sends requests one after the other, and keeps what was said of each."""

    def __init__(self, appender: Appender, name: str) -> None:
        self._appender = appender
        self._name = name
        self.stored: list[bytes] = []
        self.refused: list[bytes] = []
        self.over = False

    async def run(self) -> None:
        number = 0
        while not self.over:
            number += 1
            payload = b"%s %d" % (self._name.encode(), number)
            try:
                await self._appender.submit(self._name, 1, AS_SENT, 1, 0, [payload])
            except Unavailable:
                self.refused.append(payload)
                await asyncio.sleep(0.02)
            else:
                self.stored.append(payload)


async def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S_MAX
    while not true():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.01)


def pause(broker: Program) -> Callable[[], Awaitable[None]]:
    send(broker, signal.SIGSTOP)

    async def go_on() -> None:
        send(broker, signal.SIGCONT)

    return go_on


def kill(broker: Program) -> Callable[[], Awaitable[None]]:
    stop(broker, signal.SIGKILL)

    async def start_again() -> None:
        again = launch(broker)
        # The fixture ends it by the id that it has now.
        await asyncio.to_thread(wait_ready, again)
        STARTED.append(again)

    return start_again


STARTED: list[Program] = []


@pytest.mark.parametrize("hurt", [pause, kill])
def test_what_was_answered_is_in_the_log_and_what_was_refused_comes_at_most_once(
    broker: Program, hurt: Callable[[Program], Callable[[], Awaitable[None]]]
) -> None:
    url = kafka_service.url([broker], "events")
    settings = Settings(log=url, log_partitions=PARTITIONS, log_delivery_s=DELIVERY_S)
    ensure_log(settings)

    async def story() -> tuple[list[Sender], list[int]]:
        with closing(open_appender(settings, 0, lambda *_: None, told_nothing)) as appender:
            senders = [Sender(appender, f"sender-{number}") for number in range(8)]
            tasks = [asyncio.create_task(sender.run()) for sender in senders]
            await until(lambda: all(len(sender.stored) > 20 for sender in senders))
            # A machine that is busy may have refused some at the start.
            early = [len(sender.refused) for sender in senders]
            mend = hurt(broker)
            await until(lambda: all(len(s.refused) > n + 20 for s, n in zip(senders, early, strict=True)))
            assert "Kafka cannot be written" in (appender.reason() or "")
            counts = [len(sender.stored) for sender in senders]
            await mend()
            # By itself.
            await until(lambda: all(len(s.stored) > n + 20 for s, n in zip(senders, counts, strict=True)))
            assert appender.reason() is None
            for sender in senders:
                sender.over = True
            await asyncio.gather(*tasks)
        return senders, early

    try:
        senders, early = asyncio.run(story())
        in_log = Counter(frame.payload for frame in read_all(settings).values())
    finally:
        while STARTED:
            stop(STARTED.pop())
    stored = {payload for sender in senders for payload in sender.stored}
    refused = {payload for sender in senders for payload in sender.refused}
    assert stored <= in_log.keys() <= stored | refused
    assert set(in_log.values()) == {1}
    # Only what was under way when it happened can be there although it was refused; later ones were never sent.
    first = {payload for sender, n in zip(senders, early, strict=True) for payload in sender.refused[: n + 2]}
    assert in_log.keys() & refused <= first
