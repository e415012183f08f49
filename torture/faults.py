"""Calls that fail while the server runs: each kind for a while under load, then none, and the server has to go on.

What is expected meanwhile is one of two things. A fault of the log: nothing is acknowledged, since nothing can be made
durable. A fault of the lake, the index or the registry: events are taken as if nothing were wrong, and the tables catch
up afterwards. Whatever the fault, nothing that was acknowledged is lost, and no process needs a person.
"""

import time
from typing import NamedTuple

from torture.installation import BUSY
from torture.shim import Plan, Rule, build, preload
from torture.trial import Orders, Trial
from torture.verdict import Verdict

FAULTS_SHORT = 6
MET_S_MAX = 30.0
HELD_S = 1.0
TAKEN_S_MAX = 30.0

SEGMENTS = "*/log/[0-9]*/*.log"
LAKE = "*/lake/*"
WORKER, LOADER = "kixo.server.worker", "kixo.server.loader"


class Fault(NamedTuple):
    """Something that goes wrong: its name, the plan for it, and whether events are still to be taken meanwhile.

    The first of the rules has to be met. `takes` is None where some events are and some are not.
    """

    name: str
    rules: tuple[Rule, ...]
    takes: bool | None


def _log_faults() -> list[Fault]:
    def failing(call: str, action: str, nth: str = "*") -> Rule:
        return Rule(call, SEGMENTS, nth, action, WORKER)

    cut_fails = (failing("sync", "EIO"), failing("truncate", "EIO"), failing("unlink", "EIO"))
    return [
        Fault("log: fsync EIO", (failing("sync", "EIO"),), False),
        Fault("log: fsync EIO once", (failing("sync", "EIO", "1"),), None),
        Fault("log: fsync EIO, and the segment cannot be cut back", cut_fails, False),
        Fault("log: write EIO", (failing("write", "EIO"),), False),
        Fault("log: write ENOSPC", (failing("write", "ENOSPC"),), False),
        Fault(
            "log: write ENOSPC in the middle", (failing("write", "short", "1"), failing("write", "ENOSPC", "2")), None
        ),
        Fault("log: short writes", (failing("write", "short"),), True),
        Fault("log: slow fsync", (failing("sync", "delay:150"),), True),
        Fault("log: no new segment", (failing("sync", "EIO", "1"), failing("create", "EMFILE")), None),
    ]


def _lake_faults() -> list[Fault]:
    calls = {
        "write": ("EIO", "ENOSPC", "short"),
        "create": ("ENOSPC", "EMFILE"),
        "sync": ("EIO",),
        "link": ("ENOSPC", "EIO"),
        "unlink": ("EROFS",),
        "*": ("EROFS",),
    }
    return [
        Fault(
            f"lake: {'every change' if call == '*' else call} {action}", (Rule(call, LAKE, "*", action, LOADER),), True
        )
        for call, actions in calls.items()
        for action in actions
    ]


def _other_faults() -> list[Fault]:
    return [
        Fault("log: the loader cannot sync what it reads", (Rule("sync", SEGMENTS, "*", "EIO", LOADER),), True),
        Fault("log: the loader cannot release", (Rule("unlink", SEGMENTS, "*", "EROFS", LOADER),), True),
        Fault("registry: every call EIO", (Rule("*", "*/registry.sqlite*", "*", "EIO"),), True),
    ]


def fail_calls(orders: Orders) -> Verdict:
    """Each fault for a while under load, in an order that the seed chooses."""
    tools = orders.tools()
    plan = Plan(tools / "plan")
    shim = {**preload(build(tools)), **plan.environment}
    with Trial("faults", orders, {**BUSY, **shim}) as trial:
        trial.installation.start()
        faults = [*_log_faults(), *_lake_faults(), *_other_faults()]
        trial.dice.shuffle(faults)
        with trial.traffic.flowing():
            for fault in faults[: orders.count(len(faults), FAULTS_SHORT)]:
                _suffer(trial, plan, fault, shim)
        plan.write()
        return trial.verdict()


def _suffer(trial: Trial, plan: Plan, fault: Fault, shim: dict[str, str]) -> None:
    trial.note(fault.name)
    trial.account.wait_for_answer(time.monotonic(), TAKEN_S_MAX)
    plan.write(*fault.rules)
    if fault.name.startswith("registry"):
        _refuse_keys(trial, shim)
    if not trial.installation.wait_until(lambda: plan.calls()[0] > 0, MET_S_MAX):
        trial.broken.append(f"{fault.name}: no call was met, so nothing was tried.")
    _expect(trial, fault)
    plan.write()
    trial.recover(time.monotonic())
    _expect_alive(trial, fault)


def _expect(trial: Trial, fault: Fault) -> None:
    """Looks at answers to requests that were begun after the fault was in force."""
    if fault.takes is None:
        return
    answered = trial.account.wait_for_answer(time.monotonic(), TAKEN_S_MAX if fault.takes else HELD_S)
    if fault.takes and answered is None:
        trial.broken.append(f"{fault.name}: no event was taken meanwhile.")
    if not fault.takes and answered is not None:
        trial.broken.append(f"{fault.name}: events were acknowledged all the same.")


def _expect_alive(trial: Trial, fault: Fault) -> None:
    """No process may have died of it: a fault that passes is no reason to start again."""
    died = [
        line for line in trial.installation.log.read_text("utf-8", "replace").splitlines() if "process_died" in line
    ]
    if died:
        trial.broken.append(f"{fault.name}: a process died. {died[-1]}")


def _refuse_keys(trial: Trial, shim: dict[str, str]) -> None:
    """A key cannot be made now, and says so in a sentence; afterwards one can."""
    server = trial.installation
    done = server.kixo("key", "create", server.credentials[0].project_id, environment=shim)
    if done.returncode == 0 or "Traceback" in done.stderr:
        trial.broken.append(f"A key was made in a registry that fails, or without a clear error: {done.stderr}")
