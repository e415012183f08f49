"""The places of log, lake, registry and limits on real services, each alone and together: the same answers and rows."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from kixo.settings import PLACES
from tests.cable import Cable
from tests.conftest import KIXO, PATIENCE_S, Project, event, wait_for_greeting
from tests.services import S3, Kafka, PostgreSQL, Redis
from tests.test_server import kixo, wait_until

# Each alone, all but each, and all.
TOGETHER = [(name,) for name in PLACES] + [tuple(p for p in PLACES if p != name) for name in PLACES] + [tuple(PLACES)]
SECRETS = ("KIXO_LOG_PASSWORD", "KIXO_REGISTRY_PASSWORD", "KIXO_LIMITS_PASSWORD", "AWS_SECRET_ACCESS_KEY")

Environment = dict[str, str]


@contextmanager
def serving(folder: Path, environment: Environment) -> Iterator[dict[str, str]]:
    """`kixo serve` on free ports, which has to end in order; its card. Its words are in `stdout` and `stderr`."""
    folder.mkdir(exist_ok=True)
    command = [str(KIXO), "serve", "--data-dir", str(folder), "--port", "0", "--console-port", "0", "--workers", "2"]
    with (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **environment}, process_group=0
        )
    try:
        wait_for_greeting(process, folder)
        yield address_of(folder)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
        (folder / "stdout").write_bytes(output)
    assert process.returncode == 0, (folder / "stderr").read_text()


def address_of(folder: Path) -> dict[str, str]:
    """The card of the node in a folder."""
    card: dict[str, str] = json.loads((folder / "run" / "server.json").read_bytes())
    return card


def asked(folder: Path, environment: Environment, *arguments: str) -> str:
    """What a command says that has to work."""
    done = kixo(*arguments, "--data-dir", folder, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(folder: Path, environment: Environment, sql: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in asked(folder, environment, "query", "--format", "json", sql).splitlines()]


def new_project(folder: Path, environment: Environment) -> Project:
    id = json.loads(asked(folder, environment, "project", "create", "--json"))["id"]
    key = json.loads(asked(folder, environment, "key", "create", id, "--json"))["api_key"]
    return Project(id, key)


def taken(url: str, body: bytes) -> httpx.Response:
    """The answer to a batch that is taken, which may be only when a new key has come into force."""
    answers: list[httpx.Response] = []

    def is_taken() -> bool:
        answers.append(httpx.post(f"{url}/v1/batch", content=body, timeout=PATIENCE_S))
        return answers[-1].status_code == 200

    wait_until(is_taken)
    return answers[-1]


def command_lines(folder: Path) -> str:
    """The command lines of all processes that have to do with a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return "\n".join(found)


@pytest.fixture
def places(kafka: Kafka, s3: S3, postgresql: PostgreSQL, redis: Redis) -> dict[str, Environment]:
    """New places on the services, by the setting."""
    return {
        "log": {"KIXO_LOG": kafka.url(kafka.topic()), "KIXO_LOG_PARTITIONS": "2"},
        "lake": {"KIXO_LAKE": s3.url(), **s3.variables},
        "registry": {"KIXO_REGISTRY": postgresql.url(), "KIXO_REGISTRY_PASSWORD": postgresql.password},
        "limits": {"KIXO_LIMITS": redis.url(), "KIXO_LIMITS_PASSWORD": redis.password},
    }


@pytest.mark.parametrize("named", TOGETHER, ids="+".join)
def test_any_places_together_keep_each_event_once(
    tmp_path: Path, places: dict[str, Environment], named: tuple[str, ...]
) -> None:
    environment = {variable: value for name in named for variable, value in places[name].items()}
    folder, project = tmp_path / "data", Project("", "")
    batch = [event(event_id="one"), event(event_name="no id"), event(event_name="no id"), event(timestamp="soon")]
    said = ""
    for _ in range(2):
        with serving(folder, environment) as card:
            if not project.id:
                project = new_project(folder, environment)
            answer = taken(card["url"], project.body(*batch))
            assert answer.json()["accepted"] == 3
            assert answer.headers["Kixo-Durability"] == ("replicated" if "log" in named else "fsync")
            wait_until(lambda: rows(folder, environment, "SELECT event_id FROM events") != [])
            metrics = httpx.get(f"{card['private_url']}/metrics").text
            said += metrics + command_lines(folder)
            assert httpx.get(f"{card['private_url']}/readyz").status_code == 200
            assert httpx.get(f"{card['url']}/readyz").status_code == 200
            assert "kixo_limit_alone 0.0" in metrics
    found = rows(folder, environment, "SELECT sum(received) AS r, sum(stored) AS s, sum(duplicate) AS d FROM loads")
    assert found == [{"r": 8, "s": 3, "d": 3}]
    assert rows(folder, environment, "SELECT count(*) AS n FROM rejected") == [{"n": 2}]
    said += asked(folder, environment, "audit")
    said += "".join((folder / name).read_text() for name in ("stdout", "stderr"))
    assert not [name for name in SECRETS if (secret := environment.get(name)) and secret in said]


def test_a_server_whose_postgresql_is_away_starts_with_what_it_knew(tmp_path: Path, postgresql: PostgreSQL) -> None:
    there = urlsplit(postgresql.url())
    with Cable(postgresql.program.host, postgresql.program.port) as cable:
        url = there._replace(netloc=f"{there.username}@127.0.0.1:{cable.port}").geturl()
        environment = {"KIXO_REGISTRY": url, "KIXO_REGISTRY_PASSWORD": postgresql.password}
        with serving(tmp_path / "data", environment) as card:
            project = new_project(tmp_path / "data", environment)
            taken(card["url"], project.body(event(event_name="before")))
        cable.cut()
        with serving(tmp_path / "data", environment) as card:
            answer = httpx.post(
                f"{card['url']}/v1/batch", content=project.body(event(event_name="away")), timeout=PATIENCE_S
            )
            assert answer.status_code == 200
        refused = kixo("serve", "--data-dir", tmp_path / "other", "--port", "0", environment=environment)
        assert refused.returncode != 0
        assert "cannot be used" in refused.stderr
