"""A query process: `python -m kixo.query.child LAKE FOLDER`, spoken to as `kixo.query.protocol` says.

It answers one request after the other, each in a DuckDB of its own and within the bounds of the process
(`confinement`). A thread listens for the end of its input meanwhile, so that it never outlives its owner, whatever a
query is doing. What it spills lies in FOLDER, which is its own, locked by it, and goes with it.
"""

import io
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

from kixo.errors import OperatorError
from kixo.files import lock_folder
from kixo.lake.opening import reopen
from kixo.query.caps import QueryCaps
from kixo.query.confinement import memory_bounded
from kixo.query.engine import BATCH_ROWS, QueryEngine, Snapshot, lake_snapshot
from kixo.query.files import TableFiles, table_files
from kixo.query.protocol import (
    ANSWER,
    DATA,
    END,
    FAILURE,
    OVERRUN_STATUS,
    PIECE_BYTES,
    READY,
    Request,
    decode_request,
    encode_failure,
    write_frame,
)
from kixo.query.write import WRITERS, write_answer

# An answer is cut at some number of rows, so it is read in batches that do not go far beyond.
ANSWER_BATCH_ROWS = 1024
# Questions can wait, events cannot: the process yields to those that take events, and is the one that the kernel ends
# where memory runs out.
NICENESS = 10
OOM_SCORE = "500"


class Tables(NamedTuple):
    """What is asked, for the life of the process: which files there are, and the way to them."""

    snapshot: Snapshot
    way: TableFiles


def main() -> NoReturn:
    """Answers requests until there are no more."""
    requests, answers = _take_over_pipes()
    # Named once: looked for again, on a full disk, it would be some folder that is everybody's.
    tempfile.tempdir = sys.argv[2]
    try:
        lock_folder(Path(sys.argv[2]), wait=True)
    except FileNotFoundError:
        _end(0)
    _step_back()
    lake = reopen(sys.argv[1])
    tables = Tables(lake_snapshot(lake), table_files(lake))
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests, inbox), name="owner-watch", daemon=True).start()
    write_frame(answers, READY)
    while True:
        request = decode_request(inbox.get())
        try:
            _serve(tables, request, answers)
        except FileNotFoundError:
            if Path(sys.argv[2]).exists():
                raise
            # The owner has given up on this process and removed its folder: what is left is to go, without a word.
            _end(0)


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, for this module alone. Whatever else reads finds nothing, what else is written goes to stderr."""
    requests, answers = os.dup(0), os.dup(1)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def _step_back() -> None:
    with suppress(OSError):
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


def _listen(requests: BinaryIO, inbox: "SimpleQueue[bytes]") -> None:
    for line in requests:
        inbox.put(line)
    _end(0)


def _end(status: int) -> NoReturn:
    shutil.rmtree(sys.argv[2], ignore_errors=True)
    os._exit(status)


def _serve(tables: Tables, request: Request, sink: BinaryIO) -> None:
    try:
        with _gone_with_owner():
            pieces = _Pieces(sink)
            _answer(tables, request, cast("BinaryIO", pieces))
            pieces.finish()
    except OperatorError as error:
        write_frame(sink, FAILURE, encode_failure(error))
    else:
        write_frame(sink, END)


@contextmanager
def _gone_with_owner() -> Iterator[None]:
    """A pipe that nobody reads is the end of the owner, seen a moment before the thread that listens sees it."""
    try:
        yield
    except BrokenPipeError:
        _end(0)


def _answer(tables: Tables, request: Request, sink: BinaryIO) -> None:
    caps = QueryCaps(request.memory_bytes_max, request.seconds_max, request.threads)
    began = time.monotonic()
    is_answer = request.format == ANSWER
    batch_rows = ANSWER_BATCH_ROWS if is_answer else BATCH_ROWS
    with (
        QueryEngine(tables.snapshot, caps, partial(_end, OVERRUN_STATUS), batch_rows, way=tables.way) as engine,
        memory_bounded(caps),
    ):
        result = engine.run(request.sql)
        if is_answer:
            write_answer(result, sink, request.rows_max, request.bytes_max, lambda: time.monotonic() - began)
        else:
            WRITERS[request.format](result, sink)


class _Pieces(io.RawIOBase):
    """What is written, as frames. What is left at a failure is never sent."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._waiting = bytearray()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Takes all of the data."""
        self._waiting += data
        while len(self._waiting) >= PIECE_BYTES:
            write_frame(self._sink, DATA, bytes(self._waiting[:PIECE_BYTES]))
            del self._waiting[:PIECE_BYTES]
        return len(data)

    def finish(self) -> None:
        """Sends the rest."""
        if self._waiting:
            write_frame(self._sink, DATA, bytes(self._waiting))
            self._waiting.clear()


if __name__ == "__main__":
    main()
