"""Processes killed at chosen points: each process kills itself in the middle of a call that the shim sees.

A point is reached when the server comes there by itself, under traffic; which time round is up to the dice, so that
loads, merges and ends of segments all get their turn. A point that is never reached proves nothing, and is reported.
"""

from collections import Counter
from typing import NamedTuple

from kixo.metrics import EVENTS
from torture.installation import BUSY
from torture.shim import Plan, Rule, build, preload
from torture.trial import Orders, Trial
from torture.verdict import Verdict

ROUNDS, POINTS_SHORT = 3, 4
REACHED_S_MAX = 20.0
# The supervisor waits longer and longer before it starts a process again that died soon; a new one begins anew.
DEATHS_PER_START = 4

WORKER, LOADER = "kixo.server.worker", "kixo.server.loader"
SEGMENT, PARTITION = "*/log/[0-9]*/*.log", "*/log/[0-9]"
BEFORE, AFTER = "kill-before", "kill-after"


class Point(NamedTuple):
    """Where a process is killed: before or after a call on some path, at the latest the `times`-th time round.

    `restart`: the server is ended and started meanwhile, because only then it comes there.
    """

    call: str
    path: str
    action: str
    process: str
    sentence: str
    times: int = 20
    restart: bool = False


def _both(call: str, path: str, process: str, what: str, times: int = 20, *, restart: bool = False) -> list[Point]:
    """The point before a call and the one after it."""
    return [
        Point(call, path, BEFORE, process, f"before {what}", times, restart),
        Point(call, path, AFTER, process, f"after {what}", times, restart),
    ]


def _commits(table: str) -> list[Point]:
    entry, folder = f"*/lake/{table}/_delta_log/0*.json", f"*/lake/{table}/_delta_log"
    return [
        *_both("link", entry, LOADER, f"the commit of {table}"),
        Point("sync", folder, BEFORE, LOADER, f"between the commit of {table} and the sync of its name"),
    ]


POINTS: tuple[Point, ...] = (
    Point("write", SEGMENT, BEFORE, WORKER, "before a write to the log"),
    Point("write", SEGMENT, AFTER, WORKER, "between a write to the log and its fsync"),
    Point("sync", SEGMENT, AFTER, WORKER, "between an fsync of the log and the answer"),
    Point("send", "socket:*", BEFORE, WORKER, "before an answer"),
    Point("send", "socket:*", AFTER, WORKER, "after an answer"),
    *_both("create", SEGMENT, WORKER, "making a segment", 3),
    *_both("sync", PARTITION, WORKER, "the sync of a new segment's name", 3),
    *_both("create", "*/lake/*/date=*/*.parquet", LOADER, "making a data file"),
    Point("write", "*/lake/*/date=*/*.parquet", AFTER, LOADER, "in the middle of a data file"),
    *_both("sync", "*/lake/*/date=*/*.parquet", LOADER, "the sync of a data file"),
    *_commits("rejected"),
    *_commits("loads"),
    *_commits("events"),
    *_both("unlink", SEGMENT, LOADER, "the deletion of a segment", 3),
    Point("open", "*/lake/*/date=*/*.parquet", BEFORE, LOADER, "while a merge reads its files", 40),
    *_both("unlink", "*/lake/*/date=*/*.parquet", LOADER, "the deletion of a file that was merged away", 10),
    Point("write", "*/_delta_log/*checkpoint*", AFTER, LOADER, "in the middle of a checkpoint", 4),
    *_both("sync", "*/_delta_log/_last_checkpoint", LOADER, "the sync of a checkpoint", 2),
    *_both("unlink", "*/_delta_log/0*", LOADER, "the cleaning of a table's log", 10),
    Point("write", "*/index/*.run*", AFTER, LOADER, "in the middle of a file of the index", 1, restart=True),
    *_both("rename", "*/index/manifest.json", LOADER, "the exchange of the index's manifest", 1, restart=True),
)


def kill_at_points(orders: Orders) -> Verdict:
    """`kill -9` before and after each call that makes something durable, in workers and loader, under load."""
    tools = orders.tools()
    plan = Plan(tools / "plan")
    with Trial("points", orders, {**BUSY, **preload(build(tools)), **plan.environment}) as trial:
        trial.installation.start()
        missed: Counter[str] = Counter()
        with trial.traffic.flowing():
            for number, point in enumerate(_chosen(trial)):
                if number % DEATHS_PER_START == DEATHS_PER_START - 1:
                    trial.installation.restart()
                _visit(trial, plan, point, missed)
        trial.broken += [f"Nothing was ever killed {name}." for name in missed if not trial.faults[name]]
        trial.figures["visits in vain"] = missed.total()
        return trial.verdict()


def _chosen(trial: Trial) -> list[Point]:
    rounds = list(POINTS) * ROUNDS
    trial.dice.shuffle(rounds)
    return rounds[: trial.orders.count(len(rounds), POINTS_SHORT)]


def _visit(trial: Trial, plan: Plan, point: Point, missed: Counter[str]) -> None:
    nth = trial.dice.randint(1, point.times)
    plan.write(Rule(point.call, point.path, str(nth), point.action, point.process))
    if point.restart:
        _wait_loading(trial)
        trial.installation.restart()
    if not trial.installation.wait_until(lambda: plan.calls()[0] >= nth, REACHED_S_MAX):
        missed[point.sentence] += 1
        plan.write()
        return
    began_s = trial.note(point.sentence)
    plan.write()
    trial.recover(began_s)


def _wait_loading(trial: Trial) -> None:
    """Waits until the loader works, which a killed one does only after a pause: otherwise there is none to end."""
    subject = trial.installation.subject
    stored = subject.metric(EVENTS, "stored")
    trial.installation.wait_until(lambda: subject.metric(EVENTS, "stored") > stored, REACHED_S_MAX)
