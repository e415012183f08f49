"""`kixo move`: takes an installation from one machine to the distributed form, and back, place by place.

What moves is each place (log, lake, registry) that the settings name by URL. The copy is made while the old side works,
as often as one likes; the hand-over then only copies what is new.

    copy     the registry, and every table file that is not there yet; nothing of a table's log, so nobody can read half
    finish   the old side has stopped: its log is put into the tables, registry and tables are copied as they are now,
             compared, and only then the old side is marked as moved and the new one as arrived

Each step can be repeated, whatever cut it off: a file that arrived whole is not copied again. Nothing of the old side
is deleted. Until the tables have arrived their lake has a card that keeps loaders away; ingest needs only the registry,
and may take events into the new log all the time. Copies of an event that both logs hold are found by the identities of
the table, which know no logs.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from kixo.errors import BadArgument, DataFolderError
from kixo.files import try_lock
from kixo.lake.copying import copy_lake, differences
from kixo.lake.move_card import read_move, write_move
from kixo.lake.opening import open_lake
from kixo.lake.read import open_table, require_lake
from kixo.layout import Layout
from kixo.loader.loader import Loader, Surroundings
from kixo.log.folder import partitions
from kixo.log.opening import ensure_log, open_log_reader
from kixo.log.writer import LOCK
from kixo.metric_file import MetricFile
from kixo.moved import mark_moved, read_moved, unmark_moved
from kixo.registry import open_registry
from kixo.registry.copying import copy_registry
from kixo.server.child import make_metric_folder
from kixo.server.data_folder import DataFolder
from kixo.settings import Settings
from kixo.timestamp import now_us

MOVING = ("log", "lake", "registry")
DONE = "Everything has arrived. Start the new side; the old one is kept as it was, and refuses to start."
LOCK_S_MAX = 10.0
LOCK_POLL_S = 0.05
Tell = Callable[[str], None]
"""Told what is being done, in a sentence."""


@dataclass(frozen=True)
class Move:
    """From where to where; the places that move are those whose settings differ."""

    source: Settings
    target: Settings

    def moves(self, place: str) -> bool:
        """Whether that place moves."""
        return bool(getattr(self.source, place) != getattr(self.target, place))


def plan(settings: Settings, *, back: bool) -> Move:
    """The move out of the data folder to the places that are set, or back; raises `BadArgument` where none is set."""
    local = replace(settings, log="", lake="", registry="", limits="")
    if not any(getattr(settings, place) for place in MOVING):
        raise BadArgument("No place is set, so there is nothing to move.", "Set KIXO_LOG, KIXO_LAKE or KIXO_REGISTRY.")
    return Move(settings, local) if back else Move(local, settings)


def copy(move: Move, tell: Tell) -> None:
    """Copies what can be copied while the old side works; raises `OperatorError`."""
    if _is_done(move):
        tell(DONE)
        return
    _begin(move)
    _copy_registry(move, tell)
    if move.moves("lake"):
        count, size = copy_lake(open_lake(move.source), open_lake(move.target), with_log=False)
        tell(f"{count} files of the tables copied, {size} bytes.")


def finish(move: Move, tell: Tell, log: Any) -> None:
    """The hand-over, once the old side has stopped; raises `OperatorError`, and can then be repeated."""
    if _is_done(move):
        tell(DONE)
        return
    with closing(DataFolder(Layout(move.source.data_dir))), _alone(move.source):
        _begin(move)
        _copy_registry(move, tell)
        if move.source.log:
            _check_loaded(move.source)
        elif Layout(move.source.data_dir).log.is_dir():
            tell(f"{_drain(move.source, log)} bytes of the log put into the tables.")
        if move.moves("lake"):
            _copy_tables(move, tell)
        if move.source.log:
            # Who still took events, or filled the tables, has shown it by now.
            _check_loaded(move.source)
        if move.moves("log"):
            ensure_log(move.target)
        _hand_over(move)
    tell(DONE)


def _is_done(move: Move) -> bool:
    """Whether a move came to its end already: repeating it would put old things in the place of new ones."""
    if move.moves("lake"):
        source, target = open_lake(move.source), open_lake(move.target)
        return read_move(target) is None and (read_move(source) or {}).get("to") == target.url
    return bool(_leaving(move)) and read_moved(Layout(move.target.data_dir)) == _leaving(move)


def _leaving(move: Move) -> dict[str, str]:
    """The URLs of the places that leave the data folder; none on the way back."""
    return {place: url for place in MOVING if move.moves(place) and (url := getattr(move.target, place))}


def _begin(move: Move) -> None:
    """Marks the target's lake as one that tables arrive in, or refuses one that has others."""
    if not move.moves("lake"):
        return
    source, target = open_lake(move.source), open_lake(move.target)
    require_lake(source)
    card = read_move(target)
    if card is None and target.inside("events").is_table():
        raise DataFolderError(
            f"There are tables in {target.url} already.", "Choose an empty place, or move them away first."
        )
    if card is not None and card.get("from") != source.url:
        raise DataFolderError(f"Another move to {target.url} has begun.", "Finish that one, or choose another place.")
    target.make()
    write_move(target, {"state": "arriving", "from": source.url})


def _copy_registry(move: Move, tell: Tell) -> None:
    if not move.moves("registry"):
        return
    with open_registry(move.source) as source, open_registry(move.target, make=True) as target:
        tell(f"The registry copied: {copy_registry(source, target)} projects.")


def _drain(settings: Settings, log: Any) -> int:
    """Puts what is left of the log into the tables; returns the bytes."""
    layout = Layout(settings.data_dir)
    with ExitStack() as stack:
        metrics = stack.enter_context(closing(MetricFile(make_metric_folder(settings) / "move-0")))
        reader = stack.enter_context(closing(open_log_reader(settings, _damaged)))
        loader = Loader(Surroundings(open_lake(settings), layout.index, reader, settings, now_us, metrics, log))
        stack.callback(loader.close)
        loader.open()
        total = 0
        while size := loader.run_once().bytes:
            total += size
    _check_loaded(settings)
    return total


def _damaged(what: str, size: int) -> NoReturn:
    raise DataFolderError(
        f"The log reader {what} ({size} bytes).", "Run 'kixo audit' on the old side, and repeat when it is in order."
    )


def _check_loaded(settings: Settings) -> None:
    """Raises `DataFolderError` unless the tables hold all that is in the log."""
    with closing(open_log_reader(settings, _damaged)) as reader:
        table = open_table(open_lake(settings), "events")
        ends = {number: reader.end_position(number) for number in reader.partitions()}
        behind = [number for number, end in ends.items() if table.position(reader.log_id, number) < end]
    if behind:
        raise DataFolderError(
            f"The log has requests that are not in the tables yet, in {len(behind)} of its partitions.",
            "Stop whatever takes events, let the loaders catch up, stop them, and repeat.",
        )


def _copy_tables(move: Move, tell: Tell) -> None:
    source, target = open_lake(move.source), open_lake(move.target)
    count, size = copy_lake(source, target, with_log=True)
    tell(f"{count} files of the tables copied, {size} bytes.")
    if wrong := differences(source, target):
        raise DataFolderError(f"The tables changed while they were copied: {wrong[0]}.", "Stop the loaders and repeat.")


def _hand_over(move: Move) -> None:
    """Marks the old side first: between the two marks nobody works, which is repeated, and never both."""
    if move.moves("lake"):
        write_move(open_lake(move.source), {"state": "moved", "to": open_lake(move.target).url})
    layout = Layout(move.target.data_dir)
    if leaving := _leaving(move):
        mark_moved(layout, leaving)
    else:
        unmark_moved(layout)
    if move.moves("lake"):
        write_move(open_lake(move.target), None)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Holds what processes that outlive their supervisor for a moment hold: the lake, and the partitions of the log."""
    layout = Layout(settings.data_dir)
    paths = [layout.loader_lock]
    if not settings.log and layout.log.is_dir():
        paths += [layout.log / str(number) / LOCK for number in partitions(layout.log)]
    ends = time.monotonic() + LOCK_S_MAX
    with ExitStack() as stack:
        for path in paths:
            while (lock := try_lock(path)) is None:
                if time.monotonic() > ends:
                    raise DataFolderError(f"A process of the old side still holds {path}.", "Wait until it has ended.")
                time.sleep(LOCK_POLL_S)
            stack.callback(os.close, lock)
        yield
