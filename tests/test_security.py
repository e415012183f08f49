"""Identifiers that look like paths, output that would move a cursor, ports, permissions, and keys in odd places."""

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from kixo.errors import BadArgument
from kixo.layout import Layout
from kixo.output import print_json, visible
from kixo.registry import open_registry
from kixo.server.data_folder import DataFolder
from kixo.server_card import ServerCard
from kixo.settings import Settings
from tests.conftest import KIXO, PATIENCE_S, Project, Server, Wire, event, head, request, running
from tests.test_server import wait_until

TRICKS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "a/../../b",
    "..\\..\\x",
    "C:\\x",
    "%2e%2e%2f",
    "a\0b",
    "~root",
]
TRICKS += [
    "$(touch made)",
    "`touch made`",
    "; touch made",
    "-rf",
    "--data-dir=/",
    "date=2026-01-01/x",
    "{}*?[a]",
    "x" * 255,
]
ANSI = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1b[0m \x9b31m \x7f \r\n \u202ereversed\u2066"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that loads what it is sent."""
    with running(tmp_path_factory.mktemp("security") / "data", {}, loader=True, projects=3) as server:
        yield server


def kixo(server: Server, *arguments: str) -> str:
    command = [str(KIXO), *arguments, "--data-dir", str(server.folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")}


def count(server: Server, project: Project) -> int:
    line = kixo(server, "query", f"SELECT count(*) AS n FROM events WHERE project_id = '{project.id}'", "--format=json")
    found: int = json.loads(line)["n"]
    return found


def test_no_identifier_of_a_client_becomes_a_path(loaded: Server, tmp_path: Path) -> None:
    project = loaded.project()
    outside = names(loaded.folder.parent) - names(loaded.folder)
    for trick in TRICKS:
        members = dict.fromkeys(("event_type", "event_name", "device_id", "session_id", "event_id"), trick[:128])
        body = project.body(event(**members, properties={trick: trick}), bundle_id=trick)
        assert loaded.http.post("/v1/batch", content=body).json() == {"status": "ok", "accepted": 1}, trick
        refused = loaded.http.post("/v1/batch", content=project.body(event(), environment=trick))
        assert refused.json()["field"] == "environment"
        assert loaded.http.post("/v1/batch", content=Project(trick, project.key).body(event())).status_code == 401
    wait_until(lambda: count(loaded, project) == len(TRICKS))
    assert names(loaded.folder.parent) - names(loaded.folder) == outside
    assert not [name for name in names(loaded.folder) if "passwd" in name or "made" in name or "root" in name]


@pytest.mark.parametrize("trick", ["..", ".", "-x", "a/b", "a\\b", "a b", "a\0b", "", "é", "x" * 129, "a\n"])
def test_a_project_id_cannot_be_a_path_a_flag_or_a_line(tmp_path: Path, trick: str) -> None:
    with open_registry(Settings(data_dir=tmp_path / "data"), make=True) as registry, pytest.raises(BadArgument):
        registry.create_project(id=trick)


def test_what_is_shown_moves_no_cursor(loaded: Server) -> None:
    project = loaded.project()
    body = project.body(event(event_name=ANSI, properties={ANSI: ANSI}), event(timestamp=ANSI), bundle_id=ANSI)
    assert loaded.http.post("/v1/batch", content=body).json()["accepted"] == 1
    wait_until(lambda: count(loaded, project) == 1)
    where = f"WHERE project_id = '{project.id}'"
    shown = [
        kixo(loaded, "query", f"SELECT event_name, bundle_id, properties FROM events {where}"),
        kixo(loaded, "query", f"SELECT code, message, event FROM rejected {where}"),
        kixo(loaded, "tail", "--from-start", "--limit=2", "--project", project.id, "--json"),
    ]
    for text in shown:
        assert "red" in text
        assert not [letter for letter in text if letter != "\n" and letter in visible.__globals__["CONTROL"]]


def test_control_characters_are_escapes_in_text_and_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert visible("a\x1b\x9b\x7f\n\u202eb") == r"a\x1b\x9b\x7f\x0a\u202eb"
    print_json({"name": ANSI})
    line = capsys.readouterr().out
    assert line.rstrip("\n").isprintable()
    assert json.loads(line) == {"name": ANSI}


PRIVATE = ("/metrics", "/", "/healthz/../metrics", "//metrics", "/%6detrics", "/metrics;x", "/v1/batch/../../metrics")


def test_the_private_port_is_out_of_reach_from_the_public_one(loaded: Server) -> None:
    private = httpx.URL(loaded.console_url)
    host = f"{private.host}:{private.port}"
    targets = [*PRIVATE, *(f"{loaded.console_url}{path}" for path in PRIVATE), host, "*"]
    for method in ("GET", "POST", "OPTIONS", "CONNECT", "TRACE"):
        for target in targets:
            for extra in (
                [f"Host: {host}"],
                [f"X-Forwarded-Host: {host}", f"X-Original-URL: {loaded.console_url}/metrics"],
            ):
                with Wire(loaded).send(
                    head("Content-Length: 0", "Connection: close", *extra, method=method, path=target)
                ) as wire:
                    answer = wire.answer()
                    assert answer.status in {204, 400, 401, 404, 405}, (method, target)
                    assert b"kixo_" not in answer.body, (method, target)


def test_an_api_key_opens_nothing_on_the_private_port(loaded: Server) -> None:
    project = loaded.project()
    sent = {"Authorization": f"Bearer {project.key}", "X-Api-Key": project.key}
    with httpx.Client(base_url=loaded.console_url, headers=sent) as client:
        assert client.post("/v1/batch", content=project.body(event())).status_code == 401
        for path in (
            "/v1/batch",
            "/openapi.json",
            "/query",
            "/projects",
            "/keys",
            "/registry.sqlite",
            "/../registry.sqlite",
        ):
            assert client.get(path).status_code == 401
    assert loaded.frames(project) == []


def test_only_the_owner_may_enter_the_data_folder(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(DataFolder(Layout(tmp_path / "deep" / "data"))) as folder:
            folder.announce(ServerCard(1, "", "", 1))
        files = list((tmp_path / "deep" / "data").rglob("*"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "deep" / "data").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.is_file()} == {0o600}


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o750)
    with closing(DataFolder(Layout(tmp_path / "data"))):
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o750


def test_keys_in_odd_places_reach_no_file_and_no_output(loaded: Server) -> None:
    with open_registry(Settings(data_dir=loaded.folder)) as registry:
        owner = registry.create_project()
        keys = [registry.create_key(owner.id)[1], registry.create_key(owner.id, "0ddly-sh4ped.k3y/of=another+kind")[1]]
    senders = [Project(owner.id, key) for key in keys]
    wait_until(
        lambda: all(loaded.http.post("/v1/batch", content=sender.body()).status_code == 200 for sender in senders)
    )
    for sender in senders:
        key = sender.key
        bodies = [
            sender.body(
                event(event_name=key, device_id=key, properties={key: {"in": [key, json.dumps(key)]}}), bundle_id=key
            ),
            sender.body(event(timestamp=key), event(properties=key), key, sent_at=key),
            sender.body(7, event(timestamp=key), event(event_type=[key]), {key: key}),
            sender.body(event(), platform=key),
            sender.body(event(), sdk={"key": key}).replace(
                b'"api_key": "', b'"api_key": "%b", "api_key": "' % keys[0].encode()
            ),
            sender.body(event(properties={"url": key})).replace(b"/", b"\\/"),
            sender.body(event())[:-1] + key.encode(),
            key.encode(),
        ]
        for body in bodies:
            loaded.http.post("/v1/batch", content=body, headers={"X-Api-Key": key, "User-Agent": key})
        for path in (f"/{key}", f"/v1/batch?api_key={key}", f"/metrics?{key}"):
            loaded.http.get(path)
        with Wire(loaded).send(request(b"{", f"Content-Type: {key}")) as wire:
            wire.answer()
    assert loaded.frames(senders[0])
    shown = kixo(loaded, "query", "FROM events", "--format=json") + kixo(loaded, "tail", "--from-start", "--limit=5")
    shown += loaded.http.get(f"{loaded.console_url}/metrics").text
    for key in keys:
        assert key not in shown
        assert [path for path in loaded.folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()] == []
