"""The spool: what outlives the process, in which order, within which bounds, and what a broken one costs."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kixo import Client
from kixo.client import BadOption, Options, Surroundings
from kixo.client.envelope import checked_envelope, own_folder
from kixo.client.outbox import Outbox
from kixo.client.report import Report
from kixo.client.spool import Receipt, Spool, claim
from kixo.client.spool_store import SpoolStore
from tests.clienting import WHERE, WHO, FakeServer, connected

AWAY = Options(exit_s_max=0)


def away(_: Any) -> ConnectionError:
    return ConnectionRefusedError("away")


def always(_: int, __: int) -> bool:
    return True


def opened(folder: Path) -> Spool:
    spool = Spool(folder)
    spool.open(always)
    return spool


def everything(spool: Spool) -> list[bytes]:
    taken: list[bytes] = []
    while spool.events:
        taken += spool.take(10, 1000)[0]
    return taken


def test_events_survive_the_process_and_are_sent_first_and_in_order(tmp_path: Path) -> None:
    with connected(FakeServer(away), AWAY, spool=tmp_path / "spool") as client:
        for name in "abc":
            client.track(name, **WHERE)
    assert (client.stats.queued, client.stats.dropped) == (3, 0)
    server = FakeServer()
    with connected(server, spool=str(tmp_path / "spool")) as client:
        client.track("d", **WHERE)
        assert client.flush()
        assert client.stats.delivered == 4
    assert server.names() == ["a", "b", "c", "d"]
    with connected(server, spool=tmp_path / "spool") as client:
        assert client.flush()
    assert server.names() == ["a", "b", "c", "d"], "what was delivered is not sent again"


def test_a_flush_sends_what_was_left_though_nothing_was_tracked(tmp_path: Path) -> None:
    with connected(FakeServer(away), AWAY, spool=tmp_path) as client:
        client.track("a", **WHERE)
    server = FakeServer()
    with connected(server, spool=tmp_path) as client:
        assert client.flush()
        assert server.names() == ["a"]


def test_ids_stay_the_same_over_a_restart(tmp_path: Path) -> None:
    server = FakeServer(away)
    with connected(server, AWAY, spool=tmp_path) as client:
        client.track("a", **WHERE)
        client.flush(0.5)
    attempted = {event["event_id"] for request in server.requests for event in request["batch"]}
    server = FakeServer()
    with connected(server, spool=tmp_path):
        pass
    with connected(server, spool=tmp_path) as client:
        client.flush()
    assert {event["event_id"] for event in server.stored} == attempted
    assert len(attempted) == 1


def test_two_processes_with_one_folder_do_not_send_each_others_events(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.add([[b'"1"']])
    second.add([[b'"2"']])
    assert (everything(first), everything(second)) == ([b'"1"'], [b'"2"'])
    first.close()
    second.close()


def test_what_dead_processes_left_is_taken_over_by_the_next(tmp_path: Path) -> None:
    spools = [opened(tmp_path) for _ in range(3)]
    for number, spool in enumerate(spools):
        spool.add([[b'"%d"' % number]])
        spool.close()
    heir = opened(tmp_path)
    assert sorted(everything(heir)) == [b'"0"', b'"1"', b'"2"']
    heir.close()
    assert len(list(tmp_path.glob("*.sqlite"))) == 3, "files stay, empty"


def test_what_has_no_room_stays_in_its_file(tmp_path: Path) -> None:
    spools = [opened(tmp_path) for _ in range(2)]
    spools[1].add([[b'"a"'], [b'"b"']])
    for spool in spools:
        spool.close()
    heir = Spool(tmp_path)
    heir.open(lambda events, _: heir.events + events <= 1)
    assert everything(heir) == [b'"a"']
    heir.close()
    second = claim(tmp_path / "1.sqlite")
    assert second is not None
    assert second.execute("SELECT count(*) FROM waiting").fetchone() == (1,)
    second.close()


def test_rows_of_an_earlier_opening_are_not_deleted_by_their_number(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.add([[b'"a"']])
    _, receipt = spool.take(10, 1000)
    spool.close()
    spool.open(always)
    spool.forget(receipt)
    assert everything(spool) == [b'"a"']
    spool.forget(Receipt(receipt.last, receipt.opening + 1))
    spool.close()
    spool.open(always)
    assert spool.events == 0
    spool.close()


@given(
    st.lists(st.one_of(st.integers(1, 5), st.sampled_from(["take", "settle", "reopen", "drop"])), max_size=40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_a_spool_gives_everything_in_order_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, actions: list[Any]
) -> None:
    spool = opened(tmp_path_factory.mktemp("spool"))
    number, waiting, hand = 0, list[bytes](), list[bytes]()
    receipt: Receipt | None = None
    for action in actions:
        if isinstance(action, int):
            batch = [b"%d" % (number + place) for place in range(action)]
            number += action
            spool.add([batch])
            waiting += batch
        elif action == "take" and waiting and receipt is None:
            hand, receipt = spool.take(4, 1000)
            assert hand == waiting[: len(hand)]
            waiting = waiting[len(hand) :]
        elif action == "settle" and receipt is not None:
            spool.forget(receipt)
            hand, receipt = [], None
        elif action == "drop":
            waiting = waiting[spool.drop_oldest() :]
        elif action == "reopen":
            spool.close()
            spool.open(always)
            waiting, hand, receipt = hand + waiting, [], None
        assert spool.events == len(waiting)
    assert everything(spool) == waiting
    spool.close()


class Store:
    """A store of a spool, without a thread."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.options = Options(**options)
        self.outbox = Outbox(self.options, lambda: None)
        self.warnings = Report(None, None, lambda: 0.0)
        self.store = SpoolStore(folder, self.outbox, self.options, self.warnings)

    def put(self, *events: bytes) -> None:
        for event in events:
            self.outbox.put(event)

    def taken(self) -> list[bytes]:
        taken: list[bytes] = []
        while load := self.store.take(1000, 1_000_000).events:
            taken += load
        return taken


def test_events_are_written_soon_after_they_are_tracked(tmp_path: Path) -> None:
    store = Store(tmp_path, spool_interval_s=0.1)
    assert store.store.keep(5.0, urgent=False) is None
    store.put(b"1")
    assert store.store.keep(5.0, urgent=False) == pytest.approx(0.1)
    assert store.store.keep(5.2, urgent=False) is None
    assert len(store.outbox) == 0
    store.store.close(0)
    (row,) = sqlite3.connect(tmp_path / "0.sqlite").execute("SELECT batch FROM waiting").fetchall()
    assert row == (b"[1]",)


@pytest.mark.parametrize(("drop", "kept"), [("oldest", [b"4", b"5", b"6"]), ("newest", [b"1", b"2", b"3"])])
def test_a_full_spool_drops_what_it_was_told_to(tmp_path: Path, drop: str, kept: list[bytes]) -> None:
    store = Store(tmp_path, spool_events_max=3, queue_events_max=2, batch_events_max=1, drop=drop)
    for event in (b"1", b"2", b"3", b"4", b"5", b"6"):
        store.put(event)
        store.store.keep(0.0, urgent=True)
    taken = store.taken()
    if drop == "newest":
        assert taken == [*kept, b"4", b"5"], "what the queue still had room for"
        assert store.store.dropped == 1
    else:
        assert taken == kept
        assert store.store.dropped == 3
    store.store.close(0)


def test_a_disk_that_is_full_costs_the_spool_and_not_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    store.put(b"1")
    store.store.keep(0.0, urgent=True)

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Spool, "add", fail)
        store.put(b"2", b"3")
        store.store.keep(0.0, urgent=True)
        store.put(b"4")
        assert store.store.waiting()[0] == 4
    assert "database or disk is full" in caplog.text
    assert store.taken() == [b"1", b"2", b"3", b"4"]
    store.store.close(0)


def test_after_a_failure_the_spool_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("kixo.client.spool.claim", lambda *_: None)
        store.put(b"1")
        store.store.keep(0.0, urgent=True)
    assert store.store.keep(1.0, urgent=True) == 9.0
    store.store.keep(10.0, urgent=True)
    store.store.close(0)
    assert everything(opened(tmp_path)) == [b"1"]


def test_a_spool_that_cannot_be_opened_again_after_a_fork_does_not_hold_up_what_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.put(b"1")
    store.store.keep(0.0, urgent=True)
    store.store.before_fork()
    with monkeypatch.context() as broken:
        broken.setattr("kixo.client.spool.claim", lambda *_: None)
        store.store.after_fork()
        store.put(b"2")
        assert store.store.take(10, 1000).events == [b"2"]
    store.store.close(0)
    assert everything(opened(tmp_path)) == [b"1"]


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    folder = own_folder(tmp_path, checked_envelope(*WHO, "web", "production"))
    (folder / "0.sqlite").write_bytes(b"not a database at all" * 100)
    server = FakeServer()
    with connected(server, spool=tmp_path) as client:
        client.track("a", **WHERE)
        assert client.flush()
    assert server.names() == ["a"]
    assert (folder / "0.sqlite.damaged-0").read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("other", [{"project_id": "kx_proj_other"}, {"environment": "staging"}, {"platform": "ios"}])
def test_what_one_client_left_is_never_sent_as_another_ones(tmp_path: Path, other: dict[str, str]) -> None:
    mine: dict[str, Any] = dict(zip(("project_id", "api_key", "bundle_id"), WHO, strict=True))
    away = FakeServer(lambda _: ConnectionRefusedError("away"))
    with Client(**mine, spool=tmp_path, options=AWAY, surroundings=Surroundings(open_transport=away.open)) as client:
        client.track("mine", **WHERE)
    server = FakeServer()
    with Client(**mine | other, spool=tmp_path, surroundings=Surroundings(open_transport=server.open)) as client:
        client.track("theirs", **WHERE)
        assert client.flush()
    assert server.names() == ["theirs"]
    with connected(server, spool=tmp_path) as client:
        assert client.flush()
    assert server.names() == ["theirs", "mine"]


def test_a_row_that_is_damaged_costs_itself_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = opened(tmp_path)
    spool.add([[b'"a"'], [b'{"cut"'], [b'"c"']])
    spool.close()
    store = Store(tmp_path)
    store.store.open()
    assert store.store.take(10, 1000).events == [b'"a"', b'"c"']
    assert store.store.take(1, 1).events == []
    assert store.store.dropped == 1
    assert "were damaged: 1 events are lost" in caplog.text
    store.put(b"2")
    store.store.keep(0.0, urgent=True)
    assert store.taken() == [b"2"]
    store.store.close(0)


def own_file(spool: Path) -> Path:
    return own_folder(spool, checked_envelope(*WHO, "web", "production")) / "0.sqlite"


def left_behind(spool: Path, *names: str) -> None:
    """Events that another process could not deliver, each in a row of its own."""
    for name in names:
        with connected(FakeServer(away), AWAY, spool=spool) as client:
            client.track(name, **WHERE)


@pytest.mark.parametrize(
    ("damage", "delivered"),
    [
        ("UPDATE waiting SET batch = NULL WHERE id = 2", ["a", "c", "d"]),
        ("UPDATE waiting SET events = NULL WHERE id = 2", ["a", "c", "d"]),
        ("UPDATE waiting SET batch = 'text' WHERE id = 1", ["b", "c", "d"]),
        ("UPDATE waiting SET batch = X'00FF' WHERE id = 3", ["a", "b", "d"]),
        ("UPDATE waiting SET batch = X'5B' WHERE id = 3", ["a", "b", "d"]),
        ("UPDATE waiting SET batch = CAST('[' || replace(hex(zeroblob(50000)), '0', '[') AS BLOB)", ["d"]),
        ("UPDATE waiting SET events = 5", ["a", "b", "c", "d"]),
        ("UPDATE waiting SET events = 0", ["a", "b", "c", "d"]),
    ],
)
def test_damaged_rows_cost_themselves_and_no_flush_waits_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str, delivered: list[str]
) -> None:
    left_behind(tmp_path, "a", "b", "c")
    with sqlite3.connect(own_file(tmp_path)) as database:
        database.execute(damage)
    database.close()
    server = FakeServer()
    with connected(server, spool=tmp_path) as client:
        client.track("d", **WHERE)
        client.flush()
        assert client.flush(), "a later flush waits for nothing that was lost"
        assert client.stats.queued == 0
    assert sorted(server.names()) == delivered
    assert "defect" not in caplog.text
    server = FakeServer()
    with connected(server, spool=tmp_path) as client:
        assert client.flush()
    assert server.names() == []


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_file_that_is_damaged_behind_a_good_head_does_not_end_spooling(tmp_path: Path, place: float) -> None:
    left_behind(tmp_path, *(f"{number}-{'x' * 2000}" for number in range(20)))
    path = own_file(tmp_path)
    data = bytearray(path.read_bytes())
    start = max(4096, round(len(data) * place))
    data[start : start + 8192] = b"\xa5" * len(data[start : start + 8192])
    path.write_bytes(data)
    server = FakeServer()
    with connected(server, spool=tmp_path) as client:
        client.track("new", **WHERE)
        client.flush()
        assert client.flush()
    assert "new" in server.names()
    assert len(server.names()) == len(set(server.names()))
    left_behind(tmp_path, "later")
    with connected(server, spool=tmp_path) as client:
        assert client.flush()
    assert server.names()[-1] == "later", "it outlived its process"


def test_a_spool_that_cannot_be_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadOption, match="no folder"):
        Client(*WHO, spool=tmp_path / "file")


def test_a_spool_without_a_name_is_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadOption, match="working folder"):
        Client(*WHO, spool="")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys, threading
from kixo import Client
from kixo.client import Options, Surroundings
from tests.clienting import WHERE, WHO, FakeServer

attempted = threading.Event()
client = Client(*WHO, spool=sys.argv[1], surroundings=Surroundings(open_transport=FakeServer(
    lambda _: attempted.set() or ConnectionRefusedError("away")).open))
for number in range(1000):
    client.track(str(number), **WHERE)
attempted.wait(60)
for number in range(1000, 3000):
    client.track(str(number), **WHERE)
for _ in range(2):  # the second attempt began when everything had been tracked
    attempted.clear()
    while not attempted.is_set():
        client.flush(0.1)
print("spooled", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_spooled_survives_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    root = Path(__file__).parent.parent
    killed = subprocess.run(command, capture_output=True, check=False, cwd=root, env={**os.environ, "PYTHONPATH": "."})
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert killed.stdout == b"spooled\n"
    server = FakeServer()
    with connected(server, spool=tmp_path) as client:
        assert client.flush(60)
    assert server.names() == [str(number) for number in range(3000)]


def test_a_fork_leaves_the_spool_to_the_parent(tmp_path: Path) -> None:
    server = FakeServer(away)
    surroundings = Surroundings(open_transport=server.open)
    client = Client(*WHO, spool=tmp_path, options=AWAY, surroundings=surroundings)
    store = client._machinery.store
    client._machinery.outbox.put(b'"parent"')
    store.open()
    store.keep(0.0, urgent=True)
    child = os.fork()
    if child == 0:
        inherited = client._machinery.outbox
        client._machinery.outbox.put(b'"child"')
        client.close()
        os._exit(len(inherited) + client.stats.queued)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    store.keep(0.0, urgent=True)
    client.close()
    folder = own_folder(tmp_path, checked_envelope(*WHO, "web", "production"))
    assert sorted(everything(opened(folder))) == [b'"child"', b'"parent"']
