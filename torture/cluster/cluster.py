"""A cluster of its own: what it is made of, started together, and ended whatever happened."""

import logging
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from kixo.audit import AuditReport
from kixo.bench.traffic import Credential
from kixo.errors import StartFailed
from kixo.log import partition_of
from kixo.registry import open_registry
from kixo.settings import Settings
from services import kafka, postgresql, redis, s3
from services.errors import Missing
from services.program import Program, free_port, last_lines
from torture.cluster.ground import Ground
from torture.cluster.part import Part
from torture.installation import BUSY
from torture.lake import S3Folder
from torture.skipped import Skipped

TOPIC = "events"
PARTITIONS = 4
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
INGESTS, LOADS, CONSOLE = ("ingest-1", "ingest-2"), ("load-1", "load-2"), "console"
NODES = (*INGESTS, *LOADS, CONSOLE)
AUDIT_S_MAX = 300.0

Endpoint = Callable[[str, str], str]
"""Where a node, by its name, finds S3, given the URL at which it is."""


class Cluster:
    """See above. `credentials` are of projects that are there once it has started.

    `endpoint` may lead a node to S3 by another way; `mount` is given each broker's name and its folder before that is
    made. `code` is added to the variables of nodes that start: where they find other code than that of now.
    """

    def __init__(
        self, folder: Path, ground: Ground, projects: int, *, endpoint: Endpoint | None = None, mount: Any = None
    ) -> None:
        self.folder = folder.resolve()
        self.ground = ground
        self.parts: dict[str, Part] = {}
        self.variables: dict[str, str] = {}
        self.code: dict[str, str] = {}
        self.credentials: list[Credential] = []
        self.lake = S3Folder("", {})
        self._projects = projects
        self._endpoint = endpoint
        self._mount = mount

    def start(self) -> None:
        """Starts everything for the first time. Raises `Skipped` where a service is not on this machine."""
        try:
            programs = self._services()
        except Missing as error:
            raise Skipped(str(error)) from error
        for program in programs:
            self._add(program)
        self.bring_up(list(self.parts))
        self._find_variables()
        self._make_projects()
        for name in NODES:
            self._add_node(name)
        self.bring_up(NODES)

    def bring_up(self, names: Sequence[str]) -> None:
        """Starts these and waits until all of them work. Raises `StartFailed`."""
        for name in names:
            self.parts[name].launch()
        self.wait_ready(names)

    def wait_ready(self, names: Sequence[str]) -> None:
        """Waits until all of them work. Raises `StartFailed`."""
        for name in names:
            if not self.parts[name].wait_ready():
                raise StartFailed(f"{name} did not start.", f"It said: {self.last_words(name)}")

    def kill_all(self) -> None:
        """`kill -9` of everything, as if all machines lost their power and kept what was in their memory of disks."""
        for part in self.parts.values():
            part.signal(9)
        for part in reversed(self.parts.values()):
            part.kill()

    def close(self) -> None:
        """Ends everything."""
        self.kill_all()
        self.ground.close()

    def of(self, *kinds: str) -> list[str]:
        """The names of the parts of some kinds, such as `kafka` or `load`."""
        return [name for name, part in self.parts.items() if part.kind in kinds]

    def url(self, name: str) -> str:
        """Where a node takes events."""
        program = self.parts[name].program
        return f"http://{program.host}:{program.port}"

    def leader(self, project_id: str) -> str | None:
        """The broker that leads a project's partition; None while there is none."""
        topic = self._topic()
        number = -1 if topic is None else topic.partitions[partition_of(project_id, PARTITIONS)].leader
        return f"kafka-{number}" if number > 0 else None

    def is_in_sync(self) -> bool:
        """Whether every broker has every partition in full."""
        topic = self._topic()
        return topic is not None and all(len(each.isrs) == len(BROKERS) for each in topic.partitions.values())

    def audit(self) -> AuditReport:
        """What `kixo audit` says; raises `StartFailed` where it cannot say anything."""
        command = [sys.executable, "-m", "kixo", "audit", "--json", "--data-dir", str(self.folder / "audit")]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=AUDIT_S_MAX, check=False, env=self.environment()
        )
        if not done.stdout:
            raise StartFailed("`kixo audit` failed.", f"It said: {done.stderr}")
        return msgspec.json.decode(done.stdout.splitlines()[0], type=AuditReport)

    def metric(self, name: str, series: str) -> float:
        """The value of a series of a node's `/metrics`, written as there."""
        with urllib.request.urlopen(self.parts[name].asks.replace("/readyz", "/metrics"), timeout=30) as page:
            lines = page.read().decode().splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series + " ")), 0.0)

    def last_words(self, name: str) -> str:
        """The newest lines that a part wrote."""
        return last_lines(self.parts[name].program, 5)

    def environment(self) -> dict[str, str]:
        """The surroundings of a command that sees the cluster as its nodes do."""
        return {**os.environ, **self.variables}

    def _services(self) -> list[Program]:
        hosts = [self.ground.host(name) for name in BROKERS]
        for name in BROKERS:
            if self._mount is not None:
                self._mount(name, self.folder / name)
        return [
            *kafka.brokers(self.folder, hosts),
            s3.server(self.folder, self.ground.host("s3")),
            postgresql.server(self.folder, self.ground.host("postgresql")),
            redis.server(self.folder, self.ground.host("redis")),
        ]

    def _add(self, program: Program, asks: str = "") -> None:
        self.parts[program.name] = Part(program, self.ground.prefix(program.name), asks)

    def _find_variables(self) -> None:
        programs = {name: part.program for name, part in self.parts.items()}
        storage = s3.variables(programs["s3"])
        self.lake = S3Folder(f"s3://{s3.make_bucket(programs['s3'])}/lake", storage)
        database = postgresql.make_database(programs["postgresql"])
        self.variables = {
            **BUSY,
            "KIXO_LOAD_INTERVAL_S": "0.2",
            "KIXO_LOG_PARTITIONS": str(PARTITIONS),
            "KIXO_WORKERS": "1",
            "KIXO_LOG": kafka.url([programs[name] for name in BROKERS], TOPIC),
            "KIXO_LAKE": self.lake.url,
            **storage,
            **postgresql.variables(programs["postgresql"], database),
            **redis.variables(programs["redis"], 0),
        }

    def _make_projects(self) -> None:
        with mock.patch.dict("os.environ", self.variables):
            settings = Settings(data_dir=self.folder / "registry", registry=self.variables["KIXO_REGISTRY"])
            with open_registry(settings, make=True) as registry:
                for number in range(self._projects):
                    project = registry.create_project(f"torture {number}")
                    self.credentials.append(Credential(project.id, registry.create_key(project.id)[1]))

    def _add_node(self, name: str) -> None:
        folder, host = self.folder / name, self.ground.host(name)
        folder.mkdir()
        private, public = free_port(host), free_port(host)
        kind = name.partition("-")[0]
        words = ["--data-dir", str(folder), "--console-host", host, "--console-port", str(private)]
        if kind == "ingest":
            words += ["--host", host, "--port", str(public)]
        variables = {**self.variables, **self.code}
        if self._endpoint is not None:
            variables["AWS_ENDPOINT_URL"] = self._endpoint(name, variables["AWS_ENDPOINT_URL"])
        command = (sys.executable, "-m", "kixo", kind, *words)
        port = public if kind == "ingest" else private
        self._add(Program(name, command, folder, port, host, variables), f"http://{host}:{private}/readyz")

    def _topic(self) -> Any:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        addresses = kafka.addresses([self.parts[name].program for name in BROKERS])
        settings: dict[str, Any] = {"bootstrap.servers": addresses, "log_level": 0, "logger": _nobody()}
        client = AdminClient(settings)
        try:
            return client.list_topics(TOPIC, timeout=5).topics[TOPIC]
        except KafkaException:
            return None


def _nobody() -> logging.Logger:
    """Who hears what the library has to say about brokers that are down on purpose."""
    logger = logging.Logger("kafka")
    logger.addHandler(logging.NullHandler())
    return logger
