"""Apache Spark with the Delta package, for the test that reads the tables as Spark does.

PySpark brings all of Spark, some 500 MB, so it has an environment of its own in the cache rather than a place among
the packages of the tests. The Delta package comes from Maven Central; Scala's library is in Spark.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from services.errors import Missing
from services.installed import INSTALL, cache, program_path, run

# Spark 4.0 is the newest that this Delta package is made for, and runs on Java 17.
SPARK_VERSION = DELTA_VERSION = "4.0.1"
REQUIREMENTS = Path(__file__).parent
DELTA_SETTINGS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>kixo</groupId><artifactId>spark</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>io.delta</groupId><artifactId>delta-spark_2.13</artifactId><version>{version}</version>
    </dependency>
  </dependencies>
</project>
"""


class Spark(NamedTuple):
    """The Python that has PySpark, and the jars of the Delta package."""

    python: Path
    jars: list[Path]


def require_spark() -> Spark:
    """What `install_spark` has put there, if it is whole and Java is there. Raises `Missing`."""
    program_path("java")
    folder = _folder()
    if not (folder / "complete").exists():
        raise Missing(f"Apache Spark {SPARK_VERSION} is not in {cache()}. {INSTALL}")
    return Spark(folder / "python" / "bin" / "python", sorted((folder / "jars").glob("*.jar")))


def install_spark() -> None:
    """Puts Spark and the Delta package into the cache, unless they are there. Raises `Missing`."""
    folder = _folder()
    if (folder / "complete").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    run([sys.executable, "-m", "venv", str(folder / "python")])
    pip = [str(folder / "python" / "bin" / "pip"), "install", "--quiet", "--require-hashes"]
    # PySpark comes as sources, which are built with just these.
    run([*pip, "-r", str(REQUIREMENTS / "requirements-spark-build.txt")])
    run([*pip, "--no-build-isolation", "-r", str(REQUIREMENTS / "requirements-spark.txt")])
    pom = folder / "pom.xml"
    pom.write_text(POM.format(version=DELTA_VERSION))
    goals = ["dependency:copy-dependencies", f"-DoutputDirectory={folder / 'jars'}"]
    run([program_path("mvn"), "-q", "-B", "-f", str(pom), *goals, "-DexcludeArtifactIds=scala-library"])
    (folder / "complete").touch()


def environment() -> dict[str, str]:
    """The environment for Spark's programs: no Spark that is there otherwise gets in the way."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}


def _folder() -> Path:
    return cache() / f"spark-{SPARK_VERSION}"
