"""What the console looks at all the time, asked or not: the server's figures, and how busy projects are."""

import asyncio
import time
from collections.abc import Callable

from kixo.console.context import Console
from kixo.console.samples import SAMPLE_S, take_sample
from kixo.console.traffic import LOOK_S
from kixo.errors import OperatorError


async def watch(console: Console, supervisor_pid: int) -> None:
    """Looks for ever; whatever cannot be looked at now is looked at the next time."""
    told = ""
    while True:
        fault = await asyncio.to_thread(look, console, supervisor_pid, time.monotonic_ns())
        if fault and fault != told:
            console.log.warning("watching_failed", reason=fault)
        told = fault
        await asyncio.sleep(LOOK_S)


def look(console: Console, supervisor_pid: int, now_ns: int) -> str:
    """One look; why a part of it failed, or an empty text. One that fails keeps no other from being looked at."""

    def look_at_traffic() -> None:
        console.traffic.look(console.registry().count_projects(), now_ns)

    def look_at_figures() -> None:
        newest = console.history.samples[-1:]
        if not newest or console.now_us() - newest[0].at_us >= SAMPLE_S * 1e6:
            console.history.add(take_sample(console.layout, console.metric_folder, supervisor_pid, console.now_us()))

    return " ".join(filter(None, map(_fault_of, (look_at_traffic, look_at_figures))))


def _fault_of(look: Callable[[], None]) -> str:
    try:
        look()
    except (OSError, OperatorError) as error:
        return str(error)
    return ""
