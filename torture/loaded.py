"""When all that is in the log has come into the tables."""

import time
from contextlib import closing

from kixo.lake.read import open_table
from kixo.layout import Layout
from kixo.log.reader import LocalLogReader

POLL_S = 0.2


def wait_loaded(layout: Layout, seconds_max: float) -> bool:
    """Waits until the tables hold all that is in the log now; whether they came to it.

    By the log itself: counts of what clients were told leave out what was stored for a client that had hung up.
    """
    with closing(LocalLogReader(layout.log, lambda _what, _size: None)) as reader:
        log_id, ends = reader.log_id, {number: reader.end_position(number) for number in reader.partitions()}
    began_s = time.monotonic()
    while time.monotonic() - began_s < seconds_max:
        positions = open_table(layout.lake, "events").positions(log_id, ends)
        if all(positions[number] >= end for number, end in ends.items()):
            return True
        time.sleep(POLL_S)
    return False
