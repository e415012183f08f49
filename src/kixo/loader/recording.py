"""Writing loads down for whoever watches events arrive (`kixo.load_record`). What goes wrong here costs no load."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from kixo.lake.report import Report
from kixo.load_record import COPY, Copies, LoadRecord
from kixo.loader.load import Load

FAILURES = (OSError, ValueError, pa.ArrowException)


class LoadRecorder:
    """Writes loads into the file at `path`, or nowhere where it is None or cannot be had."""

    def __init__(self, path: Path | None, report: Report) -> None:
        self._path = path
        self._report = report
        self._record: LoadRecord | None = None

    def open(self, log_id: str, positions: Mapping[int, int], now_us: int) -> None:
        """Opens the record anew; `positions` are those that the tables have."""
        self.close()
        if self._path is None:
            return
        try:
            self._record = LoadRecord(self._path, log_id, positions, now_us)
        except FAILURES as error:
            self._tell(error)

    def note(self, load: Load) -> None:
        """Writes down a load that has been committed."""
        if self._record is None:
            return
        try:
            self._record.note(load.positions, copies_of(load))
        except FAILURES as error:
            self._tell(error)

    def close(self) -> None:
        """Lets go of the record."""
        if self._record is not None:
            self._record.close()
            self._record = None

    def _tell(self, error: BaseException) -> None:
        self._report.warning(
            "Loads could not be written down for the console; they are in the tables all the same.",
            path=str(self._path),
            error=str(error),
        )


def copies_of(load: Load) -> Copies:
    """Where in the log the events of the load stand that were in the table already."""
    places = np.flatnonzero(~load.new.mask)
    copies = np.empty(len(places), COPY)
    if len(places):
        for name in COPY.fields or ():
            copies[name] = load.rows.table.column(f"log_{name}").to_numpy()[places]
    return copies
