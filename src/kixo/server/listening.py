"""Serving a port from a child process, from telling that it is ready to its graceful end."""

import asyncio
import signal
from collections.abc import Callable

from granian.server.embed import Server

from kixo.server.child import Assignment, hear_stop, tell_ready


async def listen(server: Server, assignment: Assignment, on_stop: Callable[[], None] = lambda: None) -> None:
    """Serves until SIGTERM or the end of the supervisor; requests that are under way are answered.

    `on_stop` is called first, to end what they might wait for.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        on_stop()
        server.stop()

    def stop_as_orphan() -> None:
        loop.remove_reader(assignment.alive_fd)
        stop()

    loop.add_signal_handler(signal.SIGTERM, stop)
    hear_stop()
    loop.add_reader(assignment.alive_fd, stop_as_orphan)
    # Called when the address is bound; connections are taken one turn of the loop later.
    server.on_startup(lambda: loop.call_soon(tell_ready, assignment))
    await server.serve()
