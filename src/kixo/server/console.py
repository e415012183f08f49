"""The console process: serves the private port."""

import asyncio

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from kixo.console.application import build_application
from kixo.server.child import Assignment, metric_folder, run_child
from kixo.server.listening import listen


def main() -> None:
    """Runs the private port until told to stop."""
    run_child(lambda assignment: asyncio.run(_work(assignment)))


async def _work(assignment: Assignment) -> None:
    server = Server(
        build_application(metric_folder(assignment.settings)),
        assignment.host,
        assignment.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    await listen(server, assignment)


if __name__ == "__main__":
    main()
