"""Apache Kafka in KRaft mode: one broker, or three that replicate; each is broker and controller in one process.

A broker's folder is written here instead of by Kafka's `StorageTool`, which would take a Java of its own each time: a
card with the ids, and the first records of a cluster, which are the same for all clusters of a version. `install` has
the `StorageTool` make them once.
"""

import base64
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from services.installed import FIRST_RECORDS, program_path, require_kafka
from services.program import LOOPBACK, Program, free_port

HEAP = ("-Xmx256m", "-Xms64m")
# Quick to start and small: tests start brokers far more often than they fill them.
JVM = (*HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")

SETTINGS = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "share.coordinator.state.topic.num.partitions": "3",
    # A group's first members are not waited for.
    "group.initial.rebalance.delay.ms": "0",
    # A broker that is gone is known to be gone after seconds.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "1000",
    "replica.lag.time.max.ms": "10000",
    # A consumer may say for itself after how long it counts as gone.
    "group.min.session.timeout.ms": "1000",
    # Little memory and few threads.
    "log.cleaner.dedupe.buffer.size": "2097152",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "1",
    "controlled.shutdown.enable": "true",
}


def brokers(folder: Path, hosts: Sequence[str] = (LOOPBACK,), settings: dict[str, str] | None = None) -> list[Program]:
    """The brokers of a new cluster, one per host of `hosts`, not yet started; `settings` are added to each one's.

    They keep everything in `folder`. Raises `Missing`.
    """
    jars = require_kafka()
    ports = [(host, free_port(host), free_port(host)) for host in hosts]
    voters = ",".join(f"{node}@{host}:{port}" for node, (host, _, port) in enumerate(ports, 1))
    common = {**SETTINGS, **replication(len(hosts)), "controller.quorum.voters": voters, **(settings or {})}
    cluster = _new_id()
    return [
        _broker(jars, folder, node, host, port, {**common, "listeners": _listeners(host, port, controller)}, cluster)
        for node, (host, port, controller) in enumerate(ports, 1)
    ]


def replication(count: int) -> dict[str, str]:
    """How often records are kept: on every broker, acknowledged when all but one of them have it."""
    copies, acknowledged = str(count), str(max(1, count - 1))
    topics = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")
    enough = ("min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr")
    return {
        "default.replication.factor": copies,
        **{f"{topic}.replication.factor": copies for topic in topics},
        **dict.fromkeys(enough, acknowledged),
    }


def addresses(programs: Sequence[Program]) -> str:
    """The brokers as clients name them: host:port,host:port."""
    return ",".join(f"{program.host}:{program.port}" for program in programs)


def url(programs: Sequence[Program], topic: str) -> str:
    """A topic as Kixo names it."""
    return f"kafka://{addresses(programs)}/{topic}"


def _broker(
    jars: Path, folder: Path, node: int, host: str, port: int, settings: dict[str, str], cluster: str
) -> Program:
    home = folder / f"kafka-{node}"
    data = home / "data"
    data.mkdir(parents=True)
    _format(jars, data, node, cluster)
    own = {"node.id": str(node), "log.dirs": str(data), "advertised.listeners": f"BROKER://{host}:{port}"}
    card = home / "server.properties"
    card.write_text("".join(f"{name}={value}\n" for name, value in {**settings, **own}.items()))
    java = (program_path("java"), *JVM, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*")
    return Program(f"kafka-{node}", (*java, "kafka.Kafka", str(card)), home, port, host)


def _format(jars: Path, data: Path, node: int, cluster: str) -> None:
    shutil.copy(jars / FIRST_RECORDS, data / "bootstrap.checkpoint")
    ids = f"version=1\ncluster.id={cluster}\nnode.id={node}\ndirectory.id={_new_id()}\n"
    (data / "meta.properties").write_text(ids)


def _listeners(host: str, port: int, controller: int) -> str:
    return f"BROKER://{host}:{port},CONTROLLER://{host}:{controller}"


def _new_id() -> str:
    """An id as Kafka writes it: 16 random bytes in 22 letters, none that a command would take for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
