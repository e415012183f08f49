"""The status process: the private port of a node without the console, with its metrics and whether it does its work."""

import asyncio
import os

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from kixo.console.status import build_status
from kixo.layout import Layout
from kixo.server.child import Assignment, metric_folder, run_child
from kixo.server.listening import listen
from kixo.server_card import read_server_card


def main() -> None:
    """Runs the private port until told to stop."""
    run_child(lambda assignment: asyncio.run(_work(assignment)))


async def _work(assignment: Assignment) -> None:
    settings, supervisor_pid = assignment.settings, os.getppid()

    def is_ready() -> bool:
        # The supervisor writes the card when all processes have told it that they do their work.
        card = read_server_card(Layout(settings.data_dir))
        return card is not None and card.pid == supervisor_pid

    server = Server(
        build_status(settings, metric_folder(settings), is_ready),
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
