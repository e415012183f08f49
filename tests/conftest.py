"""A real server for tests of the public port, and what it takes to talk to it: over httpx, and byte by byte."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx
import pytest
from hypothesis import HealthCheck, settings

from kixo.depth import at_any_depth
from kixo.log import Frame
from kixo.log.reader import LocalLogReader
from kixo.registry import open_registry
from kixo.settings import Settings
from kixo.stored import decode_owner
from torture.shim import NoCompiler, build

# The fixtures of real services: `kafka`, `s3`, `postgresql`, `redis`.
pytest_plugins = ["tests.services"]

# How fast an example runs says something of the machine, and nothing of what is tested.
settings.register_profile("kixo", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kixo")

KIXO = Path(sys.executable).parent / "kixo"
# How long a test waits for what has to happen. It costs nothing where it happens, also on a machine that is busy.
PATIENCE_S = 300.0
MIB = 1024 * 1024

owner_of = at_any_depth(decode_owner)


class Project(NamedTuple):
    """A project and a live key of it."""

    id: str
    key: str

    def batch(self, *events: object, **members: object) -> dict[str, Any]:
        """The body of a request, as a client would send it."""
        return {
            "project_id": self.id,
            "api_key": self.key,
            "bundle_id": "com.example.app",
            "platform": "web",
            "batch": list(events),
            **members,
        }

    def body(self, *events: object, **members: object) -> bytes:
        """The same, as bytes."""
        return json.dumps(self.batch(*events, **members)).encode()


def event(**members: object) -> dict[str, Any]:
    """A good event, with some members changed or added."""
    return {
        "event_type": "page_view",
        "event_name": "/pricing",
        "device_id": "d_001",
        "session_id": "s_001",
        "timestamp": "2026-04-08T12:00:00Z",
        **members,
    }


class Server:
    """A running `kixo serve`, with projects that nobody has used yet."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", projects: list[Project]) -> None:
        facts = json.loads((folder / "run" / "server.json").read_bytes())
        self.folder = folder
        self.process = process
        self.url: str = facts["url"]
        self.console_url: str = facts["console_url"]
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_S)
        self._projects = projects

    def close(self) -> None:
        """Closes the connections of `http`."""
        self.http.close()

    def project(self) -> Project:
        """A project that has sent nothing."""
        return self._projects.pop()

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"kixo.server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def peak_bytes(self) -> int:
        """The most memory that any worker has had."""
        statuses = [Path(f"/proc/{pid}/status").read_text() for pid in self.workers()]
        lines = [line for status in statuses for line in status.splitlines() if line.startswith("VmHWM:")]
        return max(int(line.split()[1]) * 1024 for line in lines)

    def metric(self, series: str) -> float:
        """The value of a series of `/metrics`, written as there."""
        lines = self.http.get(f"{self.console_url}/metrics").text.splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series + " "))

    def frames(self, project: Project) -> list[Frame]:
        """What the log holds of a project."""
        with log_reader(self.folder) as reader:
            frames = [frame for partition in reader.partitions() for frame in reader.read(partition, 0, 2**40)]
        return [frame for frame in frames if owner_of(frame.payload).project_id == project.id]

    def payloads(self, project: Project) -> list[dict[str, Any]]:
        """The same, without what stands around it."""
        return [json.loads(frame.payload) for frame in self.frames(project)]


@contextmanager
def log_reader(folder: Path) -> Iterator[LocalLogReader]:
    reader = LocalLogReader(folder / "log", lambda sentence, size: pytest.fail(f"{sentence}: {size}"))
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def running(
    folder: Path,
    environment: Mapping[str, str],
    *,
    workers: int = 1,
    projects: int = 10,
    loader: bool = False,
    status: int = 0,
    port: int = 0,
) -> Iterator[Server]:
    """A server on free ports of loopback (or on `port`), which has to end in order, with `status`."""
    unused = make_projects(folder, projects)
    arguments = [*(() if loader else ("--no-loader",)), "--workers", str(workers)]
    command = [KIXO, "serve", "--demo", "--data-dir", folder, "--port", str(port), "--console-port", "0", *arguments]
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, **environment})
    try:
        wait_for_greeting(process, folder)
        with closing(Server(folder, process, unused)) as server:
            yield server
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
        (folder / "stdout").write_bytes(output)
    assert process.returncode == status, (folder / "stderr").read_text()


def make_projects(folder: Path, count: int) -> list[Project]:
    with open_registry(Settings(data_dir=folder), make=True) as registry:
        ids = [registry.create_project().id for _ in range(count)]
        return [Project(project_id, registry.create_key(project_id)[1]) for project_id in ids]


def wait_for_greeting(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """The greeting comes when everything runs."""
    killer = threading.Timer(PATIENCE_S, process.kill)
    killer.start()
    assert process.stdout is not None
    greeting = process.stdout.readline()
    killer.cancel()
    assert greeting, (folder / "stderr").read_text()


class Reply(NamedTuple):
    """An answer as it came over the wire; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The body, which has to be that of an error."""
        return error_of(self.body)


def error_of(body: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(body)
    assert answer["status"] == "error"
    assert isinstance(answer["message"], str)
    return answer


class Wire:
    """A connection on which everything can be sent. Closed at the end of a `with`."""

    def __init__(self, server: Server) -> None:
        url = httpx.URL(server.url)
        self._socket = socket.create_connection((url.host, url.port or 80), timeout=PATIENCE_S)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, *parts: bytes) -> Self:
        for part in parts:
            self._socket.sendall(part)
        return self

    def half_close(self) -> Self:
        self._socket.shutdown(socket.SHUT_WR)
        return self

    def answer(self) -> Reply:
        """The next answer; raises `EOFError` where the server closes instead."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            if not line:
                raise EOFError(head)
            head += line
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Reply(int(first.split()[1]), headers, self._file.read(int(headers.get("content-length", "0"))))

    def is_closed(self) -> bool:
        """Waits for the next byte or the end; whether it was the end."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


def head(*headers: str, method: str = "POST", path: str = "/v1/batch") -> bytes:
    """The head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: kixo", *headers, "", ""]).encode("latin-1")


def request(body: bytes, *headers: str) -> bytes:
    """A whole request."""
    return head(f"Content-Length: {len(body)}", *headers) + body


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers, with the waits of every server: a client on a busy machine may be slow."""
    environment = {"KIXO_REGISTRY_POLL_S": "0.05"}
    with running(tmp_path_factory.mktemp("server"), environment, workers=2, projects=200) as running_server:
        yield running_server


@pytest.fixture(scope="session")
def client(server: Server) -> httpx.Client:
    return server.http


@pytest.fixture
def project(server: Server) -> Project:
    """A project of `server` that has sent nothing."""
    return server.project()


@pytest.fixture(scope="session")
def refused_project(server: Server) -> Project:
    """A project of `server` for requests that are refused before they count, which is most of them."""
    return server.project()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled; on a laptop without a compiler its tests are skipped, in CI they fail."""
    try:
        return build(tmp_path_factory.mktemp("shim"))
    except NoCompiler as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
