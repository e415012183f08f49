"""A limit that answers later, as one over a network does: the answers are those of a limit that is at hand."""

import asyncio
import json
from asyncio import Future
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kixo.errors import Unavailable
from kixo.http.application import TURN_BYTES, Application, Notes
from kixo.ingest import Ingest
from kixo.limits import Counted, RequestLimit, Verdict
from kixo.limits.ring_file import RingFile
from kixo.log import Position
from kixo.metric_file import MetricFile
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash
from tests.conftest import Project, event

PROJECT = Project("kx_proj_far", "kx_key_far_away")
SNAPSHOT = Snapshot(1, {PROJECT.id: 1}, {key_hash(PROJECT.key): Sender(1, 1, key_hash(PROJECT.key))})
START_NS = 10**12


class Later:
    """A `RequestLimit` that knows at once, and tells after a turn of the event loop, with times of its own."""

    def __init__(self, limit: RingFile) -> None:
        self._limit = limit

    def admit(self, project_number: int, now_ns: int) -> "Future[Counted]":
        return self._later(self._limit.admit(project_number, now_ns), -now_ns)

    def peek(self, project_number: int, now_ns: int) -> "Future[Counted]":
        return self._later(self._limit.peek(project_number, now_ns), 0)

    def is_full(self, project_number: int, now_ns: int) -> bool:
        return self._limit.is_full(project_number, now_ns)

    def retract(self, project_number: int, admitted_at: int, now_ns: int) -> None:
        self._limit.retract(project_number, -admitted_at, now_ns)

    def close(self) -> None:
        self._limit.close()

    def _later(self, verdict: Verdict, at: int) -> "Future[Counted]":
        loop = asyncio.get_running_loop()
        reply: Future[Counted] = loop.create_future()
        loop.call_soon(reply.set_result, Counted(verdict, at))
        return reply


class Surroundings:
    """What an application stands on, without a network or a disk; `full` lets the log refuse."""

    durability = "fsync"

    def __init__(self) -> None:
        self.full = False
        self.runner = asyncio.Runner()

    async def read(self, protocol: Any, _length: int | None) -> bytes:
        body: bytes = protocol.body
        return body

    def release(self, _body: bytes) -> None:
        pass

    def submit(self, *_: object) -> "Future[Position]":
        if self.full:
            raise Unavailable("The disk is full.", retry_after_s=1)
        done: Future[Position] = asyncio.get_running_loop().create_future()
        done.set_result(Position(0, 0))
        return done

    def note(self, *_: object) -> None:
        pass

    def error(self, event: str, **values: Any) -> None:
        pytest.fail(f"{event}: {values}")


@contextmanager
def application(folder: Path, *, later: bool) -> Iterator[tuple[Application, Surroundings]]:
    settings, around = Settings(data_dir=folder, requests_per_second_max=3), Surroundings()
    ring = RingFile(folder / f"limits-{later}", projects_max=10, requests_per_second_max=3)
    limit: RequestLimit = Later(ring) if later else ring
    every: Any = around
    with around.runner, closing(ring), closing(MetricFile(folder / f"metrics-{later}")) as metrics:
        ingest = Ingest(lambda: SNAPSHOT, limit, lambda: START_NS, settings)
        notes = Notes(metrics, lambda *_: None, every)
        yield Application(ingest, every, every, {}, notes, every, lambda: 0, lambda: 0, settings), around


def send(
    application: Application, around: Surroundings, *bodies: bytes, query: str = ""
) -> list[tuple[int, dict[str, str], Any]]:
    """Sends these at once; status, headers and body of each answer."""
    answers: list[tuple[int, dict[str, str], Any]] = []

    async def one(body: bytes) -> None:
        scope = SimpleNamespace(path="/v1/batch", method="POST", headers={}, query_string=query)

        def respond(status: int, headers: list[tuple[str, str]], answer: bytes) -> None:
            answers.append((status, dict(headers), json.loads(answer)))

        await application.__rsgi__(scope, SimpleNamespace(body=body, response_bytes=respond))

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, bodies))

    around.runner.run(all_of_them())
    return answers


SMALL = PROJECT.body(event())
LARGE = PROJECT.body(*[event(event_name="x" * 100)] * 500)
JUDGED = PROJECT.body(event(), 7)
FLOODS = [
    [SMALL] * 5,
    [LARGE] * 5,
    [JUDGED] * 5,
    [SMALL, PROJECT.body(platform="amiga"), PROJECT.body(*[7] * 1001), b"{"],
    [PROJECT.body(api_key="kx_key_unknown"), SMALL],
]


@pytest.mark.parametrize("bodies", FLOODS)
@pytest.mark.parametrize("query", ["", "dry_run=true"])
def test_the_answers_are_those_of_a_limit_at_hand(tmp_path: Path, bodies: list[bytes], query: str) -> None:
    found = []
    for later in (False, True):
        with application(tmp_path, later=later) as (made, around):
            answers = send(made, around, *bodies, query=query)
            found.append(sorted(answers, key=repr))
    assert found[0] == found[1]


def test_five_at_once_of_three_are_three_and_the_others_are_told_to_wait(tmp_path: Path) -> None:
    with application(tmp_path, later=True) as (made, around):
        answers = send(made, around, *[SMALL] * 5)
    assert sorted(status for status, _, _ in answers) == [200, 200, 200, 429, 429]
    assert {headers.get("retry-after") for status, headers, _ in answers if status == 429} == {"1"}


@pytest.mark.parametrize("body", [SMALL, LARGE])
def test_what_could_not_be_stored_gives_its_place_back(tmp_path: Path, body: bytes) -> None:
    assert len(LARGE) > TURN_BYTES
    with application(tmp_path, later=True) as (made, around):
        around.full = True
        refused = send(made, around, *[body] * 5)
        assert {status for status, _, _ in refused} <= {503, 429}
        around.full = False
        assert [status for status, _, _ in send(made, around, body, body, body)] == [200] * 3
