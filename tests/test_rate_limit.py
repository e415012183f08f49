"""A hundred requests of a project in any rolling second, over all workers: as the clients' clocks see it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx

from tests.conftest import Project, Server, event

LIMIT = 100
SECOND = 1.0
SENDERS = 8


class Sent(NamedTuple):
    """A request: when it was begun, when its answer was there, and what that was."""

    begun: float
    ended: float
    answer: httpx.Response

    @property
    def admitted(self) -> bool:
        return self.answer.status_code == 200


def send_for(server: Server, project: Project, seconds: float) -> list[Sent]:
    """Sends without a pause on connections of its own, so that several workers are met."""
    body, sent = project.body(event()), []
    ends = time.monotonic() + seconds
    with httpx.Client(base_url=server.url, timeout=30) as client:
        while (begun := time.monotonic()) < ends:
            answer = client.post("/v1/batch", content=body)
            sent.append(Sent(begun, time.monotonic(), answer))
    return sent


def flood(server: Server, project: Project, seconds: float) -> list[Sent]:
    with ThreadPoolExecutor(SENDERS) as senders:
        floods = [senders.submit(send_for, server, project, seconds) for _ in range(SENDERS)]
        return sorted(sent for done in floods for sent in done.result())


def flood_until_refused(server: Server, project: Project) -> httpx.Response:
    """The first refusal; a busy machine may need some floods to come to a hundred requests within a second."""
    for _ in range(20):
        refused = [request.answer for request in flood(server, project, 1.0) if not request.admitted]
        if refused:
            return refused[0]
    raise AssertionError("No flood came to the limit.")


def test_never_more_than_a_hundred_in_any_second_and_all_of_them_are_had(server: Server, project: Project) -> None:
    sent = flood(server, project, 2.5)
    admitted = [request for request in sent if request.admitted]
    refused = [request for request in sent if not request.admitted]
    assert {request.answer.status_code for request in refused} == {429}
    assert len(refused) > LIMIT
    # The n-th request to be begun was begun before the n-th admission, and the n-th to end ended after it.
    begins = sorted(request.begun for request in admitted)
    ends = sorted(request.ended for request in admitted)
    assert all(later - earlier >= SECOND for earlier, later in zip(begins, ends[LIMIT:], strict=False))
    # Refused requests do not count: else a flood that never pauses would get nothing after its first hundred.
    seconds = ends[-1] - begins[0]
    assert len(admitted) >= LIMIT * int(seconds)
    assert sum(frame.accepted for frame in server.frames(project)) == len(admitted)


def test_both_workers_were_met(server: Server, project: Project) -> None:
    flood(server, project, 0.5)
    partitions = {path.parent.name for path in (server.folder / "log").glob("*/*.log")}
    assert partitions == {"0", "1"}


def test_whoever_waits_for_retry_after_is_admitted(server: Server, project: Project) -> None:
    refused = flood_until_refused(server, project)
    threading.Event().wait(float(refused.headers["retry-after"]))
    answer = server.http.post("/v1/batch", content=project.body(event()))
    assert answer.status_code == 200
    assert answer.headers["ratelimit"] == f'"project";r={LIMIT - 1};t=1'


def test_another_project_is_not_slowed(server: Server, project: Project) -> None:
    other = server.project()
    with ThreadPoolExecutor(1) as noise:
        flooding = noise.submit(flood, server, project, 1.5)
        answers = [server.http.post("/v1/batch", content=other.body(event())) for _ in range(50)]
        assert any(not request.admitted for request in flooding.result())
    assert {answer.status_code for answer in answers} == {200}


def test_all_apps_of_a_project_share_its_limit(server: Server, project: Project) -> None:
    lefts = [
        server.http.post("/v1/batch", content=project.body(event(), bundle_id=f"app.{number}")).headers["ratelimit"]
        for number in range(3)
    ]
    assert lefts == [f'"project";r={left};t=1' for left in (99, 98, 97)]
