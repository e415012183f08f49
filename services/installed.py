"""What the services are made of: which versions, where they are kept, and how they get there.

What is downloaded or built stays in `~/.cache/kixo-services` (or $KIXO_SERVICES_CACHE), for every checkout.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from services.errors import Missing

KAFKA_VERSION = "4.2.2"
VERSITYGW_VERSION = "v1.8.0"
INSTALL = "`scripts/services install` installs it."
DEBIAN = {"postgres": "postgresql", "redis-server": "redis-server", "java": "openjdk-17-jre-headless", "mvn": "maven"}
# The first records of a cluster, beside the jars.
FIRST_RECORDS = "first-records.checkpoint"
# Where Debian puts what is not on the path.
POSTGRESQL = Path("/usr/lib/postgresql")

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kixo</groupId><artifactId>services</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""

FORMATTED = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:1
listeners=BROKER://127.0.0.1:2,CONTROLLER://127.0.0.1:1
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={folder}/data
"""


def cache() -> Path:
    """The folder of what was downloaded or built."""
    return Path(os.environ.get("KIXO_SERVICES_CACHE") or Path.home() / ".cache" / "kixo-services")


def kafka_jars() -> Path:
    """The folder of Kafka and all it needs, there when `complete` is in it."""
    return cache() / f"kafka-{KAFKA_VERSION}"


def versitygw() -> Path:
    """The S3 server."""
    return cache() / f"versitygw-{VERSITYGW_VERSION}" / "versitygw"


def program_path(name: str) -> str:
    """A program of Debian's packages. Raises `Missing`."""
    newest_first = sorted(POSTGRESQL.glob(f"*/bin/{name}"), reverse=True)
    path = str(newest_first[0]) if newest_first else shutil.which(name)
    if path is None:
        raise Missing(f"{name} is not on this machine. {INSTALL}")
    return path


def require_kafka() -> Path:
    """`kafka_jars()`, if it is whole and Java is there. Raises `Missing`."""
    program_path("java")
    if not (kafka_jars() / "complete").exists():
        raise Missing(f"Apache Kafka {KAFKA_VERSION} is not in {cache()}. {INSTALL}")
    return kafka_jars()


def require_versitygw() -> Path:
    """`versitygw()`, if it is there. Raises `Missing`."""
    if not versitygw().exists():
        raise Missing(f"The S3 server versitygw {VERSITYGW_VERSION} is not in {cache()}. {INSTALL}")
    return versitygw()


def install() -> None:
    """Puts everything that is missing on this machine; Debian's packages only as root. Raises `Missing`."""
    _install_packages()
    _install_kafka()
    _install_versitygw()


def _install_packages() -> None:
    lacking = [package for program, package in DEBIAN.items() if not _there(program)]
    if not lacking:
        return
    if os.geteuid() or not shutil.which("apt-get"):
        raise Missing(f"Install with this system's packages: {' '.join(lacking)}")
    # A test server is ours to start; Debian's own must not run.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    run(["apt-get", "update", "-q"], environment)
    run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *lacking], environment)


def _there(program: str) -> bool:
    try:
        return bool(program_path(program))
    except Missing:
        return False


def _install_kafka() -> None:
    jars = kafka_jars()
    if (jars / "complete").exists():
        return
    jars.mkdir(parents=True, exist_ok=True)
    pom = jars / "pom.xml"
    pom.write_text(POM.format(version=KAFKA_VERSION))
    goals = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    run([program_path("mvn"), "-q", "-B", "-f", str(pom), *goals])
    _make_first_records(jars)
    (jars / "complete").touch()


def _make_first_records(jars: Path) -> None:
    """Kafka's own tool formats a folder, of which only what is the same for all clusters is kept."""
    with tempfile.TemporaryDirectory() as folder:
        card = Path(folder, "server.properties")
        card.write_text(FORMATTED.format(folder=folder))
        java = [program_path("java"), "-Xmx128m", "-cp", f"{jars}/*", "kafka.tools.StorageTool"]
        run([*java, "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(card)])
        shutil.copy(Path(folder, "data", "bootstrap.checkpoint"), jars / FIRST_RECORDS)


def _install_versitygw() -> None:
    if versitygw().exists():
        return
    go = shutil.which("go")
    if go is None:
        raise Missing("Go is not on this machine; versitygw needs the newest. Install Debian's golang-go, or Go's own.")
    # Built beside and moved, so that what is there is whole.
    building = versitygw().parent / f"building-{os.getpid()}"
    building.mkdir(parents=True)
    module = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW_VERSION}"
    run([go, "install", module], {**os.environ, "GOBIN": str(building)})
    (building / "versitygw").replace(versitygw())
    building.rmdir()


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Runs a step of the installation. Raises `Missing`."""
    if subprocess.run(command, env=environment, check=False).returncode:
        raise Missing(f"`{' '.join(command)}` failed. What it said stands above.")
