"""The library between a process and its disk: it does what the plan says, and its record is the truth."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from torture.shim import Clock, Plan, Rule, preload

DAY_NS = 86_400 * 10**9


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "plan")


def python(library: Path, environment: dict[str, str], code: str) -> "subprocess.CompletedProcess[str]":
    """A process under the library."""
    surroundings = {**os.environ, **preload(library), **environment}
    return subprocess.run([sys.executable, "-c", code], env=surroundings, text=True, capture_output=True, check=False)


def test_a_call_fails_as_planned_and_others_do_not(library: Path, plan: Plan, tmp_path: Path) -> None:
    plan.write(Rule("sync", f"{tmp_path}/a*", "2", "EIO"))
    done = python(
        library,
        plan.environment,
        f"import os; file = open({str(tmp_path / 'a')!r}, 'wb'); os.fsync(file)\n"
        "try: os.fdatasync(file)\n"
        "except OSError as error: print(error.errno)\n"
        "os.fsync(file)",
    )
    assert (done.stdout, done.returncode) == ("5\n", 0)
    assert plan.calls()[0] == 3


@pytest.mark.parametrize(("action", "size"), [("kill-before", 0), ("kill-after", 4), ("short", 2)])
def test_a_process_is_killed_or_its_write_is_short_at_the_planned_call(
    library: Path, plan: Plan, tmp_path: Path, action: str, size: int
) -> None:
    plan.write(Rule("write", f"{tmp_path}/a", "1", action))
    code = f"import os; print(os.write(os.open({str(tmp_path / 'a')!r}, os.O_CREAT | os.O_WRONLY), b'abcd'))"
    done = python(library, plan.environment, code)
    assert (tmp_path / "a").stat().st_size == size
    assert done.returncode == (0 if action == "short" else -signal.SIGKILL)


def test_a_changed_plan_is_followed_at_once_and_counts_over_all_processes(
    library: Path, plan: Plan, tmp_path: Path
) -> None:
    code = f"import os; os.mkdir({str(tmp_path / 'made')!r}); os.rmdir({str(tmp_path / 'made')!r})"
    assert python(library, plan.environment, code).returncode == 0
    plan.write(Rule("mkdir", "*/made", "2+", "EROFS", "python"), Rule("mkdir", "*/made", "*", "EIO", "another"))
    assert [python(library, plan.environment, code).returncode for _ in range(3)] == [0, 1, 1]
    plan.write()
    assert python(library, plan.environment, code).returncode == 0


def test_the_clock_is_moved_for_a_running_process(library: Path, tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    code = "import time; input(); print(time.time_ns())"
    environment = {**os.environ, **preload(library), **clock.environment}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        clock.step(-3 * DAY_NS)
        told, _ = process.communicate("\n")
    plain = subprocess.run([sys.executable, "-c", code], input="\n", text=True, capture_output=True, check=True)
    assert round((int(plain.stdout) - int(told)) / DAY_NS) == 3
