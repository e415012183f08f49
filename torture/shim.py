"""The library that stands between a server and its disk: building it, and telling it what to do; see `shim.c`."""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

from torture.skipped import Skipped

SOURCE = Path(__file__).with_name("shim.c")
COUNTS = struct.Struct("<64Q")
CLOCK = struct.Struct("<q")


class NoCompiler(Skipped):
    """There is no C compiler here, so attacks that need the shim cannot run."""


class Rule(NamedTuple):
    """One line of a plan; the words are explained in `shim.c`. `process` is a word of a command line, empty for all."""

    call: str
    path: str
    nth: str
    action: str
    process: str = ""


def build(folder: Path) -> Path:
    """Compiles the library into `folder` and returns its path; raises `NoCompiler`."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompiler("There is no C compiler: install gcc.")
    library = folder / "shim.so"
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


class Plan:
    """A file with what is to go wrong, which running processes follow as soon as it is changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts = path.with_name(f"{path.name}.counts")
        self.write()

    @property
    def environment(self) -> dict[str, str]:
        """What processes need in their environment to follow it."""
        return {"TORTURE_PLAN": str(self._path)}

    def write(self, *rules: Rule) -> None:
        """Puts `rules` in force in place of those before; their calls are counted from 0. None: nothing goes wrong."""
        _replace(self._counts, bytes(COUNTS.size))
        _replace(self._path, "".join(f"{' '.join(rule).rstrip()}\n" for rule in rules).encode())

    def calls(self) -> tuple[int, ...]:
        """How many calls each rule has met, in their order: one that met none has proved nothing."""
        return COUNTS.unpack(self._counts.read_bytes())


class Clock:
    """The offset of the processes' real-time clocks, in nanoseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(CLOCK.pack(0))

    @property
    def environment(self) -> dict[str, str]:
        """What processes need in their environment to be subject to it."""
        return {"TORTURE_CLOCK": str(self._path)}

    def step(self, offset_ns: int) -> None:
        """Moves the clocks of all processes to this offset, at once."""
        with self._path.open("r+b") as file, mmap.mmap(file.fileno(), CLOCK.size) as memory:
            memory[:] = CLOCK.pack(offset_ns)


def preload(library: Path) -> dict[str, str]:
    """What processes need in their environment to load the library."""
    return {"LD_PRELOAD": str(library)}


def recording(folder: Path, root: Path) -> dict[str, str]:
    """What processes need in their environment to record all changes below `root` in `folder`."""
    return {"TORTURE_RECORD": str(folder), "TORTURE_ROOT": str(root.resolve())}


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)
