"""What Spark answers, printed as JSON: a program of its own, run by the Python that has PySpark, without Kixo.

`spark_answers.py LAKE` reads `{"settings": {…}, "questions": {name: SQL}}` from its input, and prints `{name: rows}`.
The statements find the tables as views `events`, `rejected` and `loads`. `executors` is how many there were.
"""

import json
import sys

from pyspark.sql import SparkSession

# Two executors, processes of their own, each with a core and 1 GiB.
MASTER = "local-cluster[2,1,1024]"
QUIET = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.executor.memory": "512m",
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    # Both executors are there before the first statement.
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
}


def main(lake: str) -> None:
    asked = json.load(sys.stdin)
    spark = _session(asked["settings"])
    try:
        for table in ("events", "rejected", "loads"):
            spark.read.format("delta").load(f"{lake}/{table}").createOrReplaceTempView(table)
        answers = {name: [list(row) for row in spark.sql(sql).collect()] for name, sql in asked["questions"].items()}
        # The driver is counted among them.
        answers["executors"] = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1
    finally:
        spark.stop()
    json.dump(answers, sys.stdout)


def _session(settings: dict[str, str]) -> SparkSession:
    builder = SparkSession.builder.master(MASTER).appName("answers")
    for name, value in {**QUIET, **settings}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


if __name__ == "__main__":
    main(*sys.argv[1:])
