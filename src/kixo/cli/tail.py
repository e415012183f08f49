"""`kixo tail`: with `--json`, a line has `outcome`, `received_at`, `project_id`, `environment`, `platform`, `bundle_id`
and `sent_at`. An accepted event adds `event_type`, `event_name`, `device_id`, `session_id`, `timestamp`, `event_id`
and `properties`; a rejected one adds `field`, `code`, `message` and `event`, its JSON text as sent.
"""

import sys
import time
from itertools import islice
from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import Json, takes_settings
from kixo.errors import BadArgument
from kixo.log.opening import open_log_reader
from kixo.output import print_error, print_json, print_line
from kixo.settings import Settings
from kixo.tail import follow, is_wanted, line

# The longest time between an answer and its lines; a look at a quiet log costs less than 0.1 ms.
POLL_S = 0.1


@takes_settings()
def tail(
    settings: Settings,
    *,
    project: Annotated[str | None, Parameter(help="Only events of this project.")] = None,
    rejected: Annotated[bool, Parameter(help="Only events that were rejected.")] = False,
    from_start: Annotated[bool, Parameter(help="First what is in the log already.")] = False,
    limit: Annotated[int | None, Parameter(help="End after so many lines.")] = None,
    json: Json = False,
) -> None:
    """Prints events as they arrive, accepted and rejected, until Ctrl-C."""
    if limit is not None and limit < 1:
        raise BadArgument(f"--limit is {limit}.", "It has to be at least 1.")
    reader = open_log_reader(settings, _report)
    positions = {} if from_start else {number: reader.end_position(number) for number in reader.partitions()}
    wanted = (arrival for arrival in follow(reader, positions, _wait) if is_wanted(arrival, project, rejected))
    try:
        for arrival in islice(wanted, limit):
            if json:
                print_json(arrival)
            else:
                print_line(line(arrival))
    finally:
        reader.close()


def _wait() -> None:
    sys.stdout.flush()
    time.sleep(POLL_S)


def _report(sentence: str, size_bytes: int) -> None:
    print_error(f"The log {sentence} ({size_bytes} bytes). 'kixo audit' tells whether events are missing.")
