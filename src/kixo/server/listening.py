"""Serving a port from a child process, from telling that it is ready to its graceful end."""

import asyncio
import signal

from granian.server.embed import Server

from kixo.server.child import Assignment, hear_stop, tell_ready


async def listen(server: Server, assignment: Assignment) -> None:
    """Serves until SIGTERM or the end of the supervisor; requests that are under way are answered."""
    loop = asyncio.get_running_loop()

    def stop_as_orphan() -> None:
        loop.remove_reader(assignment.alive_fd)
        server.stop()

    loop.add_signal_handler(signal.SIGTERM, server.stop)
    hear_stop()
    loop.add_reader(assignment.alive_fd, stop_as_orphan)
    # Called when the address is bound; connections are taken one turn of the loop later.
    server.on_startup(lambda: loop.call_soon(tell_ready, assignment))
    await server.serve()
