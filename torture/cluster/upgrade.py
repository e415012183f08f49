"""A rolling upgrade: every part ended in order and started again, one after the other, under traffic.

The nodes begin with the code of the oldest commit that speaks the formats of today, and each comes back with that of
now; old and new ones share log, tables, registry and limits meanwhile. Kafka, S3, PostgreSQL and Redis come back as
they were: of them there is one version here. A client whose request fails goes to the other node, and does not find
that one away too.
"""

import signal
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

from msgspec.structs import replace

from services.program import runs, send
from torture.attempt import Orders
from torture.client import Habits
from torture.cluster.cluster import BROKERS, NODES
from torture.cluster.part import Part, wait_until
from torture.cluster.trial import ClusterTrial, back_in_sync, serve_again
from torture.skipped import Skipped
from torture.verdict import Verdict

REPOSITORY = Path(__file__).resolve().parents[2]
# Came with the commit that made loaders on several machines members of a group: none before could share a log in Kafka.
FIRST_FILE = "src/kixo/loader/kafka_group.py"
SERVICES = (*BROKERS, "postgresql", "redis", "s3")
EVENTS_BETWEEN = 200
END_S_MAX = 90.0
# A request that fails at one node and then at the other one had no node to go to.
FAILURES_MAX = 1
# PostgreSQL would wait for its clients to leave.
SIGNALS = {"postgresql": signal.SIGINT}


def upgrade_all(orders: Orders) -> Verdict:
    """Takes the nodes in an order of the dice, then the services."""
    # Hanging up is the client's own doing, and would count as a failure.
    trial = ClusterTrial("cluster-upgrade", orders, habits=Habits(moves_on=True, hang_up_share=0.0))
    trial.cluster.code = old_code(orders.tools())
    with trial:
        with trial.traffic.flowing():
            for name in _shuffled(trial, NODES):
                _renew(trial, name, "old code to new")
            for name in _shuffled(trial, SERVICES):
                _renew(trial, name, "restart")
        _judge_failures(trial)
        return trial.verdict()


def _shuffled(trial: ClusterTrial, names: tuple[str, ...]) -> list[str]:
    return trial.dice.sample(names, len(names))


def _renew(trial: ClusterTrial, name: str, how: str) -> None:
    """Ends a part in order and starts it with the code of now, when all clients got answers without it."""
    trial.wait_events(EVENTS_BETWEEN)
    part = trial.cluster.parts[name]
    trial.note(f"{part.kind}: {how}")
    if not _end(part):
        trial.broken.append(f"{name} did not end in order. {trial.cluster.last_words(name)}")
    trial.recover_all(time.monotonic())
    variables = {key: value for key, value in part.program.environment.items() if key not in trial.cluster.code}
    part.program = replace(part.program, environment=variables)
    serve_again(trial, [name])
    back_in_sync(trial)


def _end(part: Part) -> bool:
    """Whether it ended by itself."""
    send(part.program, SIGNALS.get(part.kind, signal.SIGTERM))
    ended = wait_until(lambda: not runs(part.program), END_S_MAX)
    part.kill()
    return ended


def _judge_failures(trial: ClusterTrial) -> None:
    longest = trial.account.longest_failures
    trial.figures["failures of a client in a row"] = longest
    if longest > FAILURES_MAX:
        trial.broken.append(f"A client failed {longest} times in a row, so at both nodes.")


def old_code(folder: Path, repository: Path = REPOSITORY) -> dict[str, str]:
    """The variables with which Python runs the old code, written into `folder`. Raises `Skipped`."""
    found = _git(repository, "log", "--diff-filter=A", "--format=%H", "--", FIRST_FILE).decode().split()
    if not found:
        raise Skipped("The history of this repository does not reach back to an older version.")
    with tarfile.open(fileobj=BytesIO(_git(repository, "archive", "--format=tar", found[-1], "src"))) as archive:
        archive.extractall(folder, filter="data")
    variables = {"PYTHONPATH": str(folder / "src")}
    told = [sys.executable, "-c", "import kixo; print(kixo.__file__)"]
    place = subprocess.run(told, capture_output=True, text=True, check=True, env=variables, cwd=folder).stdout
    if not place.startswith(variables["PYTHONPATH"]):
        raise Skipped(f"Python takes {place.strip()} rather than the old code.")
    return variables


def _git(repository: Path, *words: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", str(repository), *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped("There is no history of this repository here to take an older version from.") from error
