"""A command that runs by itself: started, looked at, hurt and stopped by its process id.

A process id is only believed together with the time at which its process began, so that nobody else's process is ever
hurt.
"""

import errno
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from services.errors import NotStarted

START_S_MAX = 180.0
STOP_S_MAX = 30.0
POLL_S = 0.05
LOOPBACK = "127.0.0.1"
# Below the range from which systems give out free ports, so that nobody gets ours while a service is down.
PORTS = range(15_000, 30_000)


class Program(Struct, frozen=True):
    """What runs, and where it answers; `pid` and `began` (clock ticks since boot) are 0 while it does not."""

    name: str
    command: tuple[str, ...]
    folder: Path
    port: int
    host: str = LOOPBACK
    environment: dict[str, str] = {}
    user: str = ""
    pid: int = 0
    began: int = 0

    @property
    def log(self) -> Path:
        """What it wrote on stdout and stderr, over all starts."""
        return self.folder / f"{self.name}.log"


def launch(program: Program, prefix: Sequence[str] = ()) -> Program:
    """Starts it without waiting, behind the words of `prefix`; the program as it runs.

    What `prefix` starts may need to be root still, and becomes the program's user only then.
    """
    user = pwd.getpwnam(program.user) if program.user and not prefix else None
    if program.user and prefix:
        prefix = (*prefix, "setpriv", f"--reuid={program.user}", f"--regid={program.user}", "--clear-groups")
    with program.log.open("ab") as log:
        process = subprocess.Popen(
            [*prefix, *program.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=program.folder,
            env={**os.environ, **program.environment},
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    # It outlives whoever started it: nobody waits for it.
    process.returncode = 0
    return replace(program, pid=process.pid, began=_began(process.pid))


def wait_ready(program: Program) -> None:
    """Waits until its port answers. Raises `NotStarted`."""
    ends = time.monotonic() + START_S_MAX
    while not answers(program):
        if not runs(program) or time.monotonic() > ends:
            raise NotStarted(f"{program.name} did not start. It said:\n{last_lines(program)}")
        time.sleep(POLL_S)


def start(program: Program) -> Program:
    """Starts it and waits until its port answers."""
    running = launch(program)
    wait_ready(running)
    return running


def runs(program: Program) -> bool:
    """Whether its process is there, stopped ones too."""
    if program.pid > 0:
        # What ended stays a process until whoever started it has looked: PostgreSQL would take its old id for alive.
        with suppress(ChildProcessError):
            os.waitpid(program.pid, os.WNOHANG)
    return program.pid > 0 and _began(program.pid) == program.began > 0


def answers(program: Program) -> bool:
    """Whether somebody listens on its port."""
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex((program.host, program.port)) == 0


def send(program: Program, number: int) -> None:
    """Sends a signal to its process, if that is there."""
    if runs(program):
        with suppress(ProcessLookupError):
            os.kill(program.pid, number)


def stop(program: Program, number: int = signal.SIGTERM) -> None:
    """Ends it with a signal, with SIGKILL where that does not help, and waits until it is gone."""
    for attempt in (number, signal.SIGKILL):
        send(program, attempt)
        # A process that is stopped ends only when it goes on.
        send(program, signal.SIGCONT)
        ends = time.monotonic() + STOP_S_MAX
        while runs(program):
            if time.monotonic() > ends:
                break
            time.sleep(POLL_S)
        else:
            return
    raise NotStarted(f"{program.name}, process {program.pid}, does not end.")


def last_lines(program: Program, count: int = 20) -> str:
    """The newest lines of its log."""
    if not program.log.exists():
        return ""
    return "\n".join(program.log.read_text("utf-8", "replace").splitlines()[-count:])


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody holds; any, where the host is not this machine's: a network of its own has them all free."""
    dice = random.SystemRandom()
    while True:
        port = dice.choice(PORTS)
        with socket.socket() as trial:
            try:
                trial.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    continue
            return port


def _began(pid: int) -> int:
    """When a process began; 0 where there is none, or only what is left of one."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] in {"Z", "X"} else int(words[19])
