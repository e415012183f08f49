"""What runs in a folder: started together, written down in `running.json`, and stopped by whoever reads it.

`keep` ends what runs as soon as nobody holds the folder any more, however those who did have ended: holding is a shared
lock on the file `holders`, which the kernel gives back.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, json

from services import kafka, postgresql, redis, s3
from services.program import LOOPBACK, Program, launch, runs, stop, wait_ready

NAMES = ("kafka", "s3", "postgresql", "redis")
TOPIC = "events"
HOLDERS = "holders"
CARD = "running.json"


class Running(Struct, frozen=True):
    """What runs, and the variables of the environment by which Kixo finds it."""

    programs: tuple[Program, ...] = ()
    variables: dict[str, str] = {}

    def of(self, service: str) -> tuple[Program, ...]:
        """The programs of a service: one, or its brokers."""
        return tuple(program for program in self.programs if program.name.partition("-")[0] == service)


def new_folder() -> Path:
    """An empty folder that PostgreSQL's user can reach too."""
    folder = Path(tempfile.mkdtemp(prefix="kixo-services-"))
    folder.chmod(0o711)
    return folder


def read(folder: Path) -> Running:
    """What was started in a folder; nothing, where nothing was."""
    try:
        return json.decode((folder / CARD).read_bytes(), type=Running, dec_hook=lambda kind, text: kind(text))
    except FileNotFoundError:
        return Running()


def start(folder: Path, names: Iterable[str], brokers: int = 1) -> Running:
    """Starts those services of `NAMES` that do not run in `folder` yet, and waits until all answer.

    Raises `Missing` and `NotStarted`.
    """
    running = read(folder)
    programs = [program for name in names if not running.of(name) for program in _programs(folder, name, brokers)]
    for program in programs:
        running = Running((*running.programs, launch(program)), running.variables)
        _write(folder, running)
    for program in running.programs:
        wait_ready(program)
    started = {program.name.partition("-")[0] for program in programs}
    for name in started:
        running = Running(running.programs, {**running.variables, **_variables(running, name)})
    _write(folder, running)
    return running


def end(folder: Path) -> None:
    """Stops what was started in a folder, and removes the folder."""
    for program in reversed(read(folder).programs):
        stop(program)
    shutil.rmtree(folder, ignore_errors=True)


def status(folder: Path) -> dict[str, bool]:
    """Each program that was started, and whether it runs."""
    return {program.name: runs(program) for program in read(folder).programs}


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder, so that `keep` does not end what runs in it."""
    with (folder / HOLDERS).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Starting in a folder, one at a time."""
    with (folder / "starting").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def keep(folder: Path) -> None:
    """Waits until nobody holds the folder, and ends what runs there."""
    with (folder / HOLDERS).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        end(folder)


def launch_keeper(folder: Path) -> None:
    """Starts a process that does `keep`. The caller has to hold the folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services", "keep", "--folder", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    )
    # It outlives us: nobody waits for it.
    process.returncode = 0


def _programs(folder: Path, name: str, brokers: int) -> list[Program]:
    match name:
        case "kafka":
            return kafka.brokers(folder, (LOOPBACK,) * brokers)
        case "s3":
            return [s3.server(folder)]
        case "postgresql":
            return [postgresql.server(folder)]
        case _:
            return [redis.server(folder)]


def _variables(running: Running, name: str) -> dict[str, str]:
    programs = running.of(name)
    match name:
        case "kafka":
            return {"KIXO_LOG": kafka.url(programs, TOPIC)}
        case "s3":
            return {"KIXO_LAKE": f"s3://{s3.make_bucket(programs[0])}/lake", **s3.variables(programs[0])}
        case "postgresql":
            return postgresql.variables(programs[0], postgresql.make_database(programs[0]))
        case _:
            return redis.variables(programs[0], 0)


def _write(folder: Path, running: Running) -> None:
    card = folder / f"{CARD}.{os.getpid()}"
    card.write_bytes(json.encode(running, enc_hook=str))
    card.replace(folder / CARD)
