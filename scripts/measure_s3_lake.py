"""Measures a lake on S3: commits of several writers, requests of a commit and of a query, and queries next to a folder.

    KIXO_LAKE=s3://bucket/prefix scripts/measure_s3_lake.py [commits of each writer]

The requests are counted by a proxy in between (plain HTTP only), so each figure is what the server was asked.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

import pyarrow as pa

from kixo.lake.opening import open_lake
from kixo.lake.parquet import FRESH, write_file
from kixo.lake.read import open_table
from kixo.lake.schema import LOADS
from kixo.lake.store import LakeStore
from kixo.lake.table import LakeTable, open_tables
from kixo.query import QueryCaps, QueryEngine, lake_snapshot
from kixo.query.files import table_files
from kixo.settings import Settings

LOG_ID = "0" * 32
DATE = "2026-04-08"
ROWS, QUERIED_FILES = 20_000, 20
CAPS = QueryCaps(512 * 1024 * 1024, 120.0)
QUERIES = {
    "count": "SELECT count(*) FROM loads",
    "one project": "SELECT sum(stored) FROM loads WHERE project_id = 'project 03'",
    "one column of all": "SELECT sum(stored) FROM loads",
    "all columns": "SELECT max(columns(*)) FROM loads",
}


class Silence:
    def info(self, event: str, **_: object) -> None:
        pass

    warning = error = info


def rows(number: int, count: int) -> pa.Table:
    columns = {
        "loaded_at": [number * 1_000_000 + n for n in range(count)],
        "log_id": [LOG_ID] * count,
        "log_partition": [0] * count,
        "first_offset": [number] * count,
        "end_offset": [number + 1] * count,
        "project_id": [f"project {n * 20 // count:02d}" for n in range(count)],
        **{name: [n % 1000 for n in range(count)] for name in ("received", "stored", "duplicate", "rejected")},
    }
    return pa.table(columns).select(LOADS.file_schema.names).cast(LOADS.file_schema)


def opened(lake: LakeStore) -> LakeTable:
    return open_tables(lake, LOG_ID, 1_000_000, Silence(), create=True)["loads"]


def load(table: LakeTable, partition: int, number: int, count: int) -> None:
    path = f"date={DATE}/{table.version + 1:012d}-{uuid4().hex}.parquet"
    file = write_file(table.store, path, DATE, rows(number, count), FRESH)
    table.commit("WRITE", number, [file], positions={partition: number + 1}, expected={partition: number})


def commits(url: str, partition: int, count: int) -> list[float]:
    table = opened(open_lake(Settings(lake=url)))
    spent: list[float] = []
    for number in range(count):
        began = time.perf_counter()
        load(table, partition, number, 100)
        spent.append(time.perf_counter() - began)
    return spent


def race(writers: int, count: int) -> None:
    url = f"{os.environ['KIXO_LAKE']}/{uuid4().hex}"
    opened(open_lake(Settings(lake=url)))
    began = time.perf_counter()
    with ProcessPoolExecutor(writers, multiprocessing.get_context("spawn")) as pool:
        spent = [s for each in pool.map(commits, [url] * writers, range(writers), [count] * writers) for s in each]
    seconds = time.perf_counter() - began
    assert open_table(open_lake(Settings(lake=url)), "loads").version == writers * count
    worst = sorted(spent)[int(len(spent) * 0.95)]
    print(f"{writers:7} {len(spent) / seconds:9.1f} {median(spent) * 1000:10.0f} {worst * 1000:8.0f}", flush=True)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Lets the requests of this process go through a proxy that counts them by method and kind."""
    target, counts, lock = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc, Counter[str](), threading.Lock()

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = HTTPConnection(target)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            data = answer.read()
            with lock:
                counts["LIST" if "list-type" in self.path else self.command] += 1
                counts["bytes"] += len(data)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = relay  # noqa: N815 - the names that the library calls

        def log_message(self, format: str, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server, before = Server(("127.0.0.1", 0), Proxy), os.environ["AWS_ENDPOINT_URL"]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # The host is part of what is signed: the proxy passes it on as it came.
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield counts
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before
        server.shutdown()
        server.server_close()


def shown(counts: Counter[str]) -> str:
    text = ", ".join(f"{counts[kind]} {kind}" for kind in ("GET", "LIST", "PUT", "HEAD") if counts[kind])
    return f"{text}, {counts['bytes'] / 1000:.0f} kB received"


def requests_of_commits(url: str) -> None:
    with counted() as counts:
        table = opened(open_lake(Settings(lake=url)))
        other = opened(open_lake(Settings(lake=url)))
        counts.clear()
        load(table, 0, 0, 100)
        print("a commit alone:", shown(counts))
        counts.clear()
        load(other, 1, 0, 100)
        print("a commit after one of another writer:", shown(counts))


def queries(url: str, folder: Path) -> None:
    near, far = open_lake(Settings(lake=str(folder))), open_lake(Settings(lake=url))
    for lake in (near, far):
        table = opened(lake)
        for number in range(QUERIED_FILES):
            path = f"date={DATE}/{number:012d}-{number}.parquet"
            file = write_file(table.store, path, DATE, rows(number, ROWS), FRESH)
            table.commit("WRITE", number, [file], positions={0: number + 1})
    size = sum(
        file.size_bytes for file in open_tables(near, LOG_ID, 1, Silence(), create=False)["loads"].files.values()
    )
    print(f"\nqueries of {QUERIED_FILES * ROWS:,} rows in {QUERIED_FILES} files of {size / 1e6:.1f} MB together; ms")
    print("query                 folder  S3 first  S3 again  requests, first and again")
    for name, sql in QUERIES.items():
        local = timed(engine_of(near), sql, 3)
        with counted() as counts:
            engine = engine_of(open_lake(Settings(lake=url)))
            counts.clear()
            engine.run(sql).table()
            first = shown(counts)
            counts.clear()
            engine.run(sql).table()
            again = shown(counts)
        # Without the proxy, which costs more than the server.
        fresh = engine_of(far)
        cold, warm = timed(fresh, sql, 1), timed(fresh, sql, 3)
        print(f"{name:20} {local * 1000:7.0f} {cold * 1000:9.0f} {warm * 1000:9.0f}  {first}; {again}", flush=True)


def engine_of(lake: LakeStore) -> QueryEngine:
    return QueryEngine(lake_snapshot(lake), CAPS, way=table_files(lake))


def timed(engine: QueryEngine, sql: str, times: int) -> float:
    spent: list[float] = []
    for _ in range(times):
        began = time.perf_counter()
        engine.run(sql).table()
        spent.append(time.perf_counter() - began)
    return median(spent)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    print("writers commits/s  median ms  95 % ms")
    for writers in (1, 2, 4):
        race(writers, count)
    print()
    requests_of_commits(f"{os.environ['KIXO_LAKE']}/{uuid4().hex}")
    with TemporaryDirectory() as folder:
        queries(f"{os.environ['KIXO_LAKE']}/{uuid4().hex}", Path(folder) / "lake")


if __name__ == "__main__":
    main()
