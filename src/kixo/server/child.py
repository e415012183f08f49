"""What the supervisor and its children have agreed on.

A child is `python -m kixo.server.<role> <json>`. It gets two pipes: it writes a line to `ready_fd` once it does its
work, and reads `alive_fd`, which ends when the supervisor is gone, whatever the reason. SIGTERM asks it to stop; the
SIGINT that a terminal sends to everybody is left to the supervisor.
"""

import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from msgspec import json

from kixo.errors import OperatorError
from kixo.layout import Layout
from kixo.metric_file import MetricFile, layout_name
from kixo.settings import Settings


@dataclass(frozen=True)
class Assignment:
    """What one child is to do: its role, its number among those of that role, its address, and all settings."""

    role: str
    number: int
    host: str
    port: int
    ready_fd: int
    alive_fd: int
    settings: Settings

    def encode(self) -> str:
        """As one command-line argument; it holds no secret."""
        values = asdict(self)
        values["settings"]["data_dir"] = str(self.settings.data_dir)
        return json.encode(values).decode()

    @property
    def place(self) -> str:
        """The name of this child's metric file and log lines, such as `worker-0`."""
        return f"{self.role}-{self.number}"


def decode_assignment(text: str) -> Assignment:
    """The assignment in a command-line argument."""
    values: dict[str, Any] = json.decode(text)
    settings = values.pop("settings")
    settings["data_dir"] = Path(settings["data_dir"])
    return Assignment(**values, settings=Settings(**settings))


def run_child(body: Callable[[Assignment], None]) -> NoReturn:
    """The main function of a child process: runs `body`, and shows an `OperatorError` as one line.

    The process ends without tearing the interpreter down: threads of native libraries may still want it, and would
    take the process with them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assignment = decode_assignment(sys.argv[1])
    try:
        body(assignment)
    except OperatorError as error:
        sys.stderr.write(f"kixo: {error}\n")
        status = error.exit_code
    else:
        status = 0
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def tell_ready(assignment: Assignment) -> None:
    """Tells the supervisor that the work is being done."""
    os.write(assignment.ready_fd, b"ready\n")
    os.close(assignment.ready_fd)


def stop_requested(assignment: Assignment) -> threading.Event:
    """An event that is set by SIGTERM and by the end of the supervisor."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    hear_stop()

    def watch() -> None:
        # All children share this end of the pipe, and an event loop among them may have made it non-blocking.
        select.select([assignment.alive_fd], [], [])
        stop.set()

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
    return stop


def hear_stop() -> None:
    """Lets SIGTERM in, which the supervisor held back until there was somebody to hear it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def is_orphan(assignment: Assignment) -> bool:
    """Whether the supervisor is gone, so that its successor may be waiting for what this process holds."""
    return bool(select.select([assignment.alive_fd], [], [], 0)[0])


def metric_folder(settings: Settings) -> Path:
    """Where the metric files are."""
    return Layout(settings.data_dir).run / f"metrics-{layout_name()}"


def make_metric_folder(settings: Settings) -> Path:
    """Makes the folder of the metric files. Those of other layouts go: only another version of Kixo could read them."""
    mine = metric_folder(settings)
    for folder in mine.parent.glob("metrics-*"):
        if folder != mine:
            shutil.rmtree(folder, ignore_errors=True)
    mine.mkdir(exist_ok=True)
    return mine


def open_metrics(assignment: Assignment) -> MetricFile:
    """This child's metric file."""
    return MetricFile(metric_folder(assignment.settings) / assignment.place)
