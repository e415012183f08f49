#!/usr/bin/env python3
"""Makes a small data folder with everything in it that a release can leave behind, for tests/test_upgrade.py.

It is made with the code of that release, so that later code is tested against what that release really wrote:

    git archive 015f1dc | tar x -C ../released
    PYTHONPATH=../released/src .venv/bin/python scripts/make_format_fixture.py tests/data/format-0.1.0.tar.xz

What happens to the folder: projects and keys are made, one key is revoked; batches are loaded one by one until files
were merged and a checkpoint was written, copies among them; the server ends in order, so that the index is on disk; a
request that cannot be read gets into the log and is set aside; more is loaded and every process killed, so that the
index is behind the table; more is written that nobody loads, every process is killed again, and the newest segment
gets a torn tail. `expected.json` beside the folder says what has to be found in it.
"""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kixo import __version__
from kixo.log.segment import pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.stored import AS_SENT

PROJECT, OTHER_PROJECT = "kx_proj_released", "kx_proj_other"
KEY, OTHER_KEY, REVOKED_KEY = "kx_key_released_live", "kx_key_other_live", "kx_key_released_revoked"
# So that little data turns over everything; small numbers keep the files of `run` small.
SETTINGS = {
    "KIXO_WORKERS": "1",
    "KIXO_PROJECTS_MAX": "64",
    "KIXO_LOG_SEGMENT_BYTES": "6000",
    "KIXO_LOG_FREE_BYTES_MIN": "0",
    "KIXO_LOAD_INTERVAL_S": "0.05",
    "KIXO_COMPACTION_FILES_MIN": "4",
    "KIXO_CHECKPOINT_COMMITS": "10",
    "KIXO_FILE_GRACE_S": "0",
}
WAIT_S_MAX = 60.0


class Expected:
    """What has to be in the tables in the end: events by name, and how many were rejected."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.copies = 0
        self.rejected = 0


def main() -> None:
    """Makes the folder and packs it into the file that is named on the command line."""
    target = Path(sys.argv[1]).absolute()
    expected = Expected()
    with TemporaryDirectory(prefix="kixo-format-") as name:
        folder = Path(name) / "data"
        make_registry(folder)
        load_in_order(folder, expected)
        write_what_cannot_be_read(folder)
        load_and_kill(folder, expected)
        write_and_kill(folder, expected)
        tear_tail(folder)
        (Path(name) / "server.log").unlink()
        (Path(name) / "expected.json").write_text(json.dumps(facts(expected), indent=2))
        target.parent.mkdir(exist_ok=True)
        with tarfile.open(target, "w:xz") as archive:
            archive.add(name, ".")


def facts(expected: Expected) -> dict[str, Any]:
    """The content of `expected.json`."""
    return {
        "version": __version__,
        "project": PROJECT,
        "key": KEY,
        "revoked_key": REVOKED_KEY,
        "events": expected.events,
        "copies": expected.copies,
        "rejected": expected.rejected,
        "old_body": json.dumps(batch("first-0")),
    }


def make_registry(folder: Path) -> None:
    """Projects and keys, one of them revoked."""
    for project, key in ((PROJECT, KEY), (OTHER_PROJECT, OTHER_KEY)):
        kixo(folder, "project", "create", "--id", project, "--name", "Released")
        kixo(folder, "key", "create", project, "--key", key)
    kixo(folder, "key", "create", PROJECT, "--key", REVOKED_KEY)
    kixo(folder, "key", "revoke", REVOKED_KEY)


def load_in_order(folder: Path, expected: Expected) -> None:
    """Loads, a merge and a checkpoint; then an end in order."""
    with serving(folder) as server:
        for number in range(12):
            send(server, expected, batch(f"first-{number}"), f"first-{number}")
            server.wait_loaded()
        send(server, expected, batch("first-3"), None)
        server.wait_loaded()
        server.wait(lambda: bool(list(folder.glob("lake/events/_delta_log/*.checkpoint.parquet"))))
        server.wait(lambda: server.metric("kixo_compactions_total") > 0)


def write_what_cannot_be_read(folder: Path) -> None:
    """A frame that no version writes; it has no events, so that the accounts come out even."""
    writer = LocalLogWriter(
        folder / "log", 0, segment_bytes=6000, free_bytes_min=0, now_us=now_us, report=lambda _what, _size: None
    )
    with closing(writer):
        writer.commit(pack_frame(writer.next_offset(), now_us(), AS_SENT, 0, 0, [b"no JSON"]))


def load_and_kill(folder: Path, expected: Expected) -> None:
    """Loads of which the index on disk does not know."""
    with serving(folder, kill=True) as server:
        server.wait(lambda: bool(list(folder.glob("lake/quarantine/*"))))
        for number in range(3):
            send(server, expected, batch(f"second-{number}"), f"second-{number}")
            server.wait_loaded()


def write_and_kill(folder: Path, expected: Expected) -> None:
    """Requests that are in the log alone: as sent, judged, and a copy."""
    with serving(folder, "--no-loader", kill=True) as server:
        for number in range(4):
            send(server, expected, batch(f"third-{number}"), f"third-{number}")
        send(server, expected, batch("second-1"), None)


def tear_tail(folder: Path) -> None:
    """The newest segment ends in the first half of a frame."""
    newest = max(folder.glob("log/0/*.log"))
    whole = b"".join(pack_frame(1 << 40, now_us(), AS_SENT, 1, 0, [b'{"batch":[]}' * 8]))
    with newest.open("ab") as file:
        file.write(whole[: len(whole) // 2])


def batch(name: str) -> dict[str, Any]:
    """A request: events with an id and without, twins, events of other days, and now and then a bad one."""
    number = int(name.rpartition("-")[2])
    day = f"2026-04-{5 + number % 3:02}"
    event = {"device_id": "d_1", "session_id": "s_1", "event_type": "tap", "timestamp": f"{day}T12:00:00.123Z"}
    events: list[dict[str, Any]] = [
        {**event, "event_name": f"{name} id", "event_id": f"{name}"},
        {**event, "event_name": f"{name} fingerprint", "properties": {"text": "über", "numbers": [1, 2.5, 1e300]}},
        {**event, "event_name": f"{name} twins"},
        {**event, "event_name": f"{name} twins"},
    ]
    if number % 2:
        events.append({**event, "event_name": f"{name} bad", "timestamp": "soon"})
    return {
        "project_id": PROJECT if number % 4 else OTHER_PROJECT,
        "api_key": KEY if number % 4 else OTHER_KEY,
        "bundle_id": "com.example.released",
        "platform": ("ios", "android", "web")[number % 3],
        "environment": ("production", "staging", "development")[number % 3],
        # With a device clock that is months behind, or without a word about it: then on several days.
        "sent_at": f"{day}T12:00:05Z" if number % 2 else None,
        "batch": events,
    }


class Server:
    """A running server of the release."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.wait((folder / "run" / "server.json").exists)
        card = json.loads((folder / "run" / "server.json").read_text())
        self.url, self.console_url = card["url"], card["console_url"]

    def metric(self, series: str) -> float:
        """A series of `/metrics`."""
        with urllib.request.urlopen(f"{self.console_url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series + " "))

    def wait_loaded(self) -> None:
        """Waits until everything accepted is in the tables."""
        names = [f'kixo_events_total{{outcome="{outcome}"}}' for outcome in ("accepted", "stored", "duplicate")]

        def is_loaded() -> bool:
            accepted, stored, duplicate = map(self.metric, names)
            return accepted == stored + duplicate

        self.wait(is_loaded)

    def wait(self, true: Any) -> None:
        """Looks again and again until it is true."""
        ends = time.monotonic() + WAIT_S_MAX
        while not true():
            if time.monotonic() > ends or self.process.poll() is not None:
                raise SystemExit("It did not happen in time.")
            time.sleep(0.05)


@contextmanager
def serving(folder: Path, *arguments: str, kill: bool = False) -> Iterator[Server]:
    """A server while the block runs; then it ends in order, or all of its processes are killed."""
    command = [sys.executable, "-m", "kixo", "serve", "--data-dir", str(folder), "--port", "0", "--console-port", "0"]
    (folder / "run" / "server.json").unlink(missing_ok=True)
    with (folder.parent / "server.log").open("ab") as log:
        process = subprocess.Popen([*command, *arguments], stdout=log, stderr=log, env={**os.environ, **SETTINGS})
    try:
        yield Server(folder, process)
    finally:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        for pid in children if kill else ():
            os.kill(int(pid), signal.SIGKILL)
        process.wait()


def send(server: Server, expected: Expected, body: dict[str, Any], name: str | None) -> None:
    """Sends a batch, which counts as `name`, or as a copy."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}/v1/batch", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        said = json.loads(answer.read())
    rejected = said.get("rejected", 0)
    expected.rejected += rejected
    if name is None:
        expected.copies += said["accepted"]
    else:
        expected.events.update(
            event["event_name"] for event in body["batch"] if not event["event_name"].endswith("bad")
        )


def kixo(folder: Path, *arguments: str) -> None:
    """Runs a command of the release."""
    command = [sys.executable, "-m", "kixo", *arguments, "--data-dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **SETTINGS})


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


if __name__ == "__main__":
    main()
