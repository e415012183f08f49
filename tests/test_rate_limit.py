"""A hundred requests of a project in any rolling second, over all workers: as the clients' clocks see it."""

import threading
import time
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tests.conftest import PATIENCE_S, Project, Reply, Server, Wire, event, request

LIMIT = 100
SECOND = 1.0
SENDERS = 8


class Sent(NamedTuple):
    """A request: when it was begun, when its answer was there, and what that was."""

    begun: float
    ended: float
    answer: Reply

    @property
    def admitted(self) -> bool:
        return self.answer.status == 200


def send_for(server: Server, project: Project, seconds: float) -> list[Sent]:
    """Sends without a pause and at little cost, on a connection of its own, so that several workers are met."""
    post = request(project.body(event()))
    sent: list[Sent] = []
    ends = time.monotonic() + seconds
    with Wire(server) as wire:
        while (begun := time.monotonic()) < ends:
            answer = wire.send(post).answer()
            sent.append(Sent(begun, time.monotonic(), answer))
    return sent


def flood(server: Server, project: Project, seconds: float) -> list[Sent]:
    with ThreadPoolExecutor(SENDERS) as senders:
        floods = [senders.submit(send_for, server, project, seconds) for _ in range(SENDERS)]
        return sorted(sent for done in floods for sent in done.result())


def flood_until_refused(server: Server, project: Project) -> list[Sent]:
    """Floods, one after the other, until one was refused something: how soon that is, is the machine's affair."""
    sent: list[Sent] = []
    ends = time.monotonic() + PATIENCE_S
    while all(request.admitted for request in sent):
        assert time.monotonic() < ends, "No flood came to the limit."
        sent += flood(server, project, 1.0)
    return sent


def may_be_refused(request: Sent, begins: list[float], ends: list[float]) -> bool:
    """Whether a hundred admissions, of which these are the sorted times, can lie within the second before."""
    over = bisect_right(ends, request.begun - SECOND)
    return bisect_right(begins, request.ended) - over >= LIMIT


def test_never_more_than_a_hundred_in_any_second_and_all_of_them_are_had(server: Server, project: Project) -> None:
    sent = flood_until_refused(server, project) + flood(server, project, 1.5)
    admitted = [request for request in sent if request.admitted]
    refused = [request for request in sent if not request.admitted]
    assert {request.answer.status for request in refused} == {429}
    # The n-th request to be begun was begun before the n-th admission, and the n-th to end ended after it.
    begins = sorted(request.begun for request in admitted)
    ends = sorted(request.ended for request in admitted)
    assert all(later - earlier >= SECOND for earlier, later in zip(begins, ends[LIMIT:], strict=False))
    # Refused requests do not count: else a flood that never pauses would get nothing after its first hundred.
    assert [request for request in refused if not may_be_refused(request, begins, ends)] == []
    assert sum(frame.accepted for frame in server.frames(project)) == len(admitted)


def test_both_workers_were_met(server: Server, project: Project) -> None:
    met: set[str] = set()
    ends = time.monotonic() + PATIENCE_S
    while met != {"0", "1"}:
        assert time.monotonic() < ends, f"Only {met} took part."
        taken = [request.answer for request in flood(server, project, 0.5) if request.admitted]
        met |= {answer.headers["kixo-position"].partition(":")[0] for answer in taken}


def test_whoever_waits_for_retry_after_is_admitted(server: Server, project: Project) -> None:
    refused = next(request.answer for request in flood_until_refused(server, project) if not request.admitted)
    threading.Event().wait(float(refused.headers["retry-after"]))
    answer = server.http.post("/v1/batch", content=project.body(event()))
    assert answer.status_code == 200
    assert answer.headers["ratelimit"] == f'"project";r={LIMIT - 1};t=1'


def test_another_project_is_not_slowed(server: Server, project: Project) -> None:
    other = server.project()
    with ThreadPoolExecutor(1) as noise:
        flooding = noise.submit(flood_until_refused, server, project)
        answers = [server.http.post("/v1/batch", content=other.body(event())) for _ in range(50)]
        flooding.result()
    assert {answer.status_code for answer in answers} == {200}


def test_all_apps_of_a_project_share_its_limit(server: Server, project: Project) -> None:
    lefts = [
        server.http.post("/v1/batch", content=project.body(event(), bundle_id=f"app.{number}")).headers["ratelimit"]
        for number in range(3)
    ]
    assert lefts == [f'"project";r={left};t=1' for left in (99, 98, 97)]
