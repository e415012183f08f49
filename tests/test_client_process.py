"""The client and the life of a process: its end, its forks, its signals, and threads that are not to be had."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest

from kixo.client import Options
from tests.clienting import WHERE, FakeServer, connected

ROOT = Path(__file__).parent.parent
START = """
import atexit, json, os, sys
from kixo import AsyncClient, Client
from kixo.client import Options, Surroundings
from tests.clienting import WHERE, WHO, FakeServer

server = FakeServer()
surroundings = Surroundings(open_transport=server.open)
"""


def run(script: str, *, status: int = 0) -> str:
    """What a program prints; it may not complain."""
    command = [sys.executable, "-W", "error", "-c", START + textwrap.dedent(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_what_is_queued_is_sent_at_the_end_of_the_program() -> None:
    script = """
        atexit.register(lambda: print(server.names()))
        client = Client(*WHO, surroundings=surroundings)
        client.track("a", **WHERE)
    """
    assert run(script) == "['a']\n"


def test_what_is_tracked_while_the_program_ends_is_sent_too() -> None:
    script = """
        atexit.register(lambda: print(server.names()))
        client = Client(*WHO, surroundings=surroundings)
        atexit.register(lambda: client.track("late", **WHERE))
    """
    assert run(script) == "['late']\n"


def test_a_program_ends_though_the_server_never_answers() -> None:
    script = """
        import threading
        server.script = lambda _: threading.Event().wait()
        client = Client(*WHO, options=Options(exit_s_max=0.2), surroundings=surroundings,
                        on_dropped=lambda count: print("dropped", count))
        client.track("a", **WHERE)
        client.flush(0.1)
    """
    assert run(script) == "dropped 1\n"


def test_a_forked_child_begins_with_nothing_and_sends_its_own() -> None:
    script = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which is what is tried here
        client = Client(*WHO, options=Options(flush_interval_s=3600), surroundings=surroundings)
        client.track("parent", **WHERE)
        child = os.fork()
        client.track("child" if child == 0 else "parent again", **WHERE)
        assert client.flush()
        if child:
            os.waitpid(child, 0)
        print(json.dumps([server.names(), client.stats.delivered]), flush=True)
    """
    child, parent = run(script).splitlines()
    assert child == '[["child"], 1]'
    assert parent == '[["parent", "parent again"], 2]'


def test_ids_of_parent_and_child_differ_even_in_the_same_instant() -> None:
    script = """
        surroundings = Surroundings(open_transport=server.open, now_ns=lambda: 10**18)
        client = Client(*WHO, surroundings=surroundings)
        client.track("before", **WHERE)
        child = os.fork()
        client.track("after", **WHERE)
        assert client.flush()
        if child:
            os.waitpid(child, 0)
        print(server.stored[-1]["event_id"], flush=True)
    """
    child, parent = run("import warnings; warnings.simplefilter('ignore')\n" + textwrap.dedent(script)).splitlines()
    assert child != parent


def test_many_forks_lose_nothing() -> None:
    script = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        client = Client(*WHO, surroundings=surroundings)
        children = []
        for number in range(10):
            client.track(f"parent {number}", **WHERE)
            child = os.fork()
            if child == 0:
                client.track("child", **WHERE)
                client.close()
                os._exit(0 if server.names()[-1] == "child" and client.stats.delivered == 1 else 1)
            children.append(child)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        assert client.flush()
        print(statuses == [0] * 10, server.names() == [f"parent {number}" for number in range(10)])
    """
    assert run(script) == "True True\n"


def test_a_signal_handler_may_track() -> None:
    server = FakeServer()
    count = 300
    with connected(server, Options(batch_events_max=10)) as client:
        previous = signal.signal(signal.SIGALRM, lambda *_: client.track("signal", **WHERE))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            for number in range(count * 20):
                client.track(str(number), **WHERE)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert client.flush(60)
        assert client.stats.queued == 0
    assert [name for name in server.names() if name != "signal"] == [str(number) for number in range(count * 20)]


def test_where_no_thread_can_start_a_flush_sends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = FakeServer()
    with connected(server) as client, monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", fail)
        client.track("a", **WHERE)
        client.track("b", **WHERE)
        assert server.names() == []
        assert client.flush()
        assert server.names() == ["a", "b"]
    assert "can't start new thread" in caplog.text


def test_a_flush_says_when_time_ran_out() -> None:
    let_go = SimpleQueue[None]()

    def script(_: object) -> None:
        let_go.get(timeout=60)

    server = FakeServer(script)
    with connected(server) as client:
        client.track("a", **WHERE)
        assert not client.flush(0.05)
        let_go.put(None)
        assert client.flush(60)


def test_the_async_client_shares_it_all() -> None:
    script = """
        import asyncio

        async def main():
            async with AsyncClient(*WHO, surroundings=surroundings) as client:
                client.track("a", **WHERE)
                print(await client.flush(), server.names())
                client.page("/b", **WHERE)
            print(server.names(), client.stats.delivered)

        asyncio.run(main())
    """
    assert run(script) == "True ['a']\n['a', '/b'] 2\n"
