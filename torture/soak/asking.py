"""Queries now and then, each in a process of its own, as people ask them while the server runs."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL_S = 30.0
QUERY_S_MAX = 120.0
# One of all projects, for the last minutes: the rest of the table has to be passed over quickly.
SQL = """
    SELECT event_type, count(*) AS events, count(DISTINCT device_id) AS devices
    FROM events
    WHERE project_id = '{project}' AND received_at > now() - INTERVAL 10 MINUTE
    GROUP BY event_type ORDER BY events DESC
"""


@dataclass
class Asked:
    """How long the last query took, in seconds, how many there were, and what went wrong with some."""

    last_s: float = 0.0
    count: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def asking(folder: Path, project: str, interval_s: float = INTERVAL_S) -> Iterator[Asked]:
    """Asks about one project every so many seconds while the block runs."""
    asked, over = Asked(), threading.Event()

    def run() -> None:
        while not over.wait(interval_s):
            _ask(folder, project, asked)

    thread = threading.Thread(target=run, name="asking", daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()


def _ask(folder: Path, project: str, asked: Asked) -> None:
    command = [sys.executable, "-m", "kixo", "query", SQL.format(project=project), "--data-dir", str(folder)]
    began_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=QUERY_S_MAX, check=False, cwd=folder)
    asked.last_s = time.monotonic() - began_s
    asked.count += 1
    if done.returncode:
        asked.failures.append(done.stderr.strip())
