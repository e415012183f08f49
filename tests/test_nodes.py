"""The parts of the server as nodes of their own: what each needs, and what its private port answers."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kixo.console.condition import judge
from kixo.console.samples import Sample
from kixo.console.status import build_status
from kixo.errors import BadSetting
from kixo.layout import Layout
from kixo.metric_file import MetricFile
from kixo.metrics import COMPACTIONS
from kixo.server.node import Node, check_places, whole_node
from kixo.server_card import ServerCard, console_url, public_url, write_server_card
from kixo.settings import Settings
from tests.conftest import KIXO, wait_for_greeting
from tests.test_server import kixo

KAFKA = "kafka://127.0.0.1:1/events"


@contextmanager
def node(folder: Path, command: str, *arguments: str) -> Iterator[dict[str, object]]:
    """A node on free ports, which has to end in order; gives what its card tells."""
    folder.mkdir(exist_ok=True)
    ports = ("--port", "0", "--console-port", "0")
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [KIXO, command, "--data-dir", folder, *ports, *arguments], stdout=subprocess.PIPE, stderr=stderr
        )
    try:
        wait_for_greeting(process, folder)
        yield json.loads((folder / "run" / "server.json").read_bytes())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 0, (folder / "stderr").read_text()


@pytest.mark.parametrize(
    ("command", "variable"), [("ingest", "KIXO_LOG"), ("load", "KIXO_LOG"), ("console", "KIXO_LAKE")]
)
def test_a_part_by_itself_needs_a_place_that_the_others_reach(tmp_path: Path, command: str, variable: str) -> None:
    done = kixo(command, "--data-dir", tmp_path / "node")
    assert done.returncode == 2
    assert f"{variable} is not set. Set it, or run everything on this machine with 'kixo serve'." in done.stderr
    assert not (tmp_path / "node").exists()


def test_a_log_in_the_data_folder_has_one_loader() -> None:
    with pytest.raises(BadSetting, match="loaders is 2"):
        check_places(Settings(), whole_node(Settings(loaders=2)))
    check_places(Settings(), whole_node(Settings()))
    check_places(Settings(log=KAFKA), Node("load", 0, 2, console=False))


def test_the_console_alone_runs_beside_no_other_part(tmp_path: Path) -> None:
    with node(tmp_path / "node", "console", "--lake", str(tmp_path / "lake")) as card:
        assert (card["url"], card["workers"]) == ("", 0)
        assert card["console_url"] == card["private_url"]
        answers = [httpx.get(f"{card['private_url']}{path}") for path in ("/healthz", "/readyz", "/metrics", "/")]
        assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
        assert answers[3].status_code in {302, 303, 401}
        link = kixo("console", "login-link", "--data-dir", tmp_path / "node").stdout
        assert link.startswith(f"{card['console_url']}/login?token=")


def status_of(folder: Path, paths: Sequence[str], *, ready: bool, name: str = "127.0.0.1") -> list[httpx.Response]:
    transport = httpx.ASGITransport(build_status(Settings(), folder, lambda: ready))

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{name}:8001") as client:
            return [await client.get(path) for path in paths]

    return asyncio.run(ask())


def test_the_private_port_of_a_node_without_a_console_tells_metrics_and_whether_it_works(tmp_path: Path) -> None:
    metrics = MetricFile(tmp_path / "loader-0")
    metrics.add(COMPACTIONS)
    metrics.close()
    shown, alive, ready, login = status_of(tmp_path, ("/metrics", "/healthz", "/readyz", "/login"), ready=True)
    assert "kixo_compactions_total 1.0" in shown.text
    assert alive.json() == ready.json() == {"status": "ok"}
    assert login.status_code == 404


def test_a_node_is_not_ready_before_its_processes_are(tmp_path: Path) -> None:
    alive, ready = status_of(tmp_path, ("/healthz", "/readyz"), ready=False)
    assert alive.status_code == 200
    assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")


def test_the_private_port_of_a_node_does_not_answer_to_a_strange_name(tmp_path: Path) -> None:
    answers = status_of(tmp_path, ("/metrics", "/healthz", "/readyz"), ready=True, name="evil.example.com")
    assert [answer.status_code for answer in answers] == [400] * 3


def test_the_console_does_not_miss_processes_that_other_machines_have() -> None:
    sample = Sample(0, [0.0] * 1000, 1 << 40, 0, {"worker": 0, "loader": 0, "console": 1, "status": 0})
    assert [state.kind for state in judge([sample, sample], Settings())] == ["bad", "bad"]
    assert judge([sample, sample], Settings(log=KAFKA)) == []


def test_the_card_of_a_node_tells_no_address_of_what_is_not_there(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    Layout(tmp_path).run.mkdir()
    write_server_card(Layout(tmp_path), ServerCard(1, "", "", 0, "http://127.0.0.1:5"))
    assert public_url(settings) == "http://127.0.0.1:8000"
    assert console_url(settings) == "http://127.0.0.1:8001"
