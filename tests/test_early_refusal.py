"""Refusing early what has no place in the limit: the same answers in the same order, without a look at the events."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from kixo import decode, ingest
from kixo.ingest import Ingest, Refusal
from kixo.limits import REFUSED, Unlimited, Verdict
from kixo.settings import Settings
from kixo.snapshot import Sender, Snapshot, key_hash
from tests.conftest import Project, event

PROJECT, OTHER = Project("kx_proj_full", "kx_key_of_full"), Project("kx_proj_free", "kx_key_of_free")
SNAPSHOT = Snapshot(
    1,
    {PROJECT.id: 1, OTHER.id: 2},
    {key_hash(each.key): Sender(n, n, key_hash(each.key)) for n, each in ((1, PROJECT), (2, OTHER))},
)


class FirstIsFull(Unlimited):
    """A limit in which the first project has no place left."""

    def admit(self, project_number: int, now_ns: int) -> Verdict:
        return REFUSED if project_number == 1 else super().admit(project_number, now_ns)

    peek = admit


LIMITED = Ingest(lambda: SNAPSHOT, FirstIsFull(), lambda: 0, Settings())
MANY = [event(event_name=str(number)) for number in range(1000)]


def code(body: bytes) -> object:
    try:
        LIMITED.admit(body)
    except Refusal as refusal:
        return refusal.error.answer()
    return "ok"


def requests() -> Iterator[tuple[str, bytes]]:
    good = PROJECT.body(*MANY)
    yield "rate_limited", good
    yield "rate_limited", PROJECT.body(*MANY, 7)[: -len(b", 7]}")] + b"]}"
    yield "rate_limited", PROJECT.body(*[7] * 1000, unknown="x" * 20_000)
    yield "too_many_events", PROJECT.body(*MANY, 7)
    yield "unauthorized", PROJECT.body(*MANY, api_key="kx_key_wrong")
    yield "invalid_request", PROJECT.body(*MANY, platform="amiga")
    yield "invalid_json", good[:-1]
    yield "invalid_json", good[:-20] + b"\xff" + good[-20:]
    yield "invalid_json", good[:-2] + b",]}"
    # The last of two members counts, whatever the first look finds.
    yield "ok", good[:-1] + json.dumps({"project_id": OTHER.id, "api_key": OTHER.key}).encode().replace(b"{", b",")
    yield "unauthorized", good[:-1] + b',"api_key":"kx_key_wrong"}'
    yield "ok", OTHER.body(*MANY)
    yield "rate_limited", json.dumps(dict(reversed(list(PROJECT.batch(*MANY).items())))).encode()


@pytest.mark.parametrize(("expected", "body"), list(requests()))
def test_the_answer_is_that_of_the_usual_way(expected: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    early = code(body)
    monkeypatch.setattr(ingest, "LARGE_BYTES", len(body))
    assert early == code(body)
    found: Any = early
    assert (found if isinstance(found, str) else found["code"]) == expected


def test_the_events_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "decode_request", lambda _: pytest.fail("the events were decoded"))
    answer: Any = code(PROJECT.body(*MANY))
    assert answer["code"] == "rate_limited"
