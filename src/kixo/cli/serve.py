"""`kixo serve`, the server on one machine, and its parts for several: `kixo ingest`, `kixo load` and `kixo console`."""

import os
from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import EVERY_SETTING, takes_settings
from kixo.output import print_error
from kixo.settings import Settings, unknown_variables


@takes_settings(*EVERY_SETTING)
def serve(
    settings: Settings,
    *,
    demo: Annotated[bool, Parameter(help="Add the documents' example project and key; loopback only.")] = False,
    no_loader: Annotated[bool, Parameter(help="Fill the log but not the tables, to measure.", show=False)] = False,
) -> None:
    """Serves the public and the private port until SIGTERM or Ctrl-C."""
    from kixo.server import serve as server

    _warn()
    server.serve(settings, demo=demo, with_loader=not no_loader)


@takes_settings(*EVERY_SETTING)
def ingest(settings: Settings) -> None:
    """Takes events on the public port until SIGTERM or Ctrl-C."""
    from kixo.server import serve as server

    _warn()
    server.ingest(settings)


@takes_settings(*EVERY_SETTING)
def load(settings: Settings) -> None:
    """Fills the tables until SIGTERM or Ctrl-C."""
    from kixo.server import serve as server

    _warn()
    server.load(settings)


@takes_settings(*EVERY_SETTING)
def console(settings: Settings) -> None:
    """Serves the console on the private port until SIGTERM or Ctrl-C."""
    from kixo.server import serve as server

    _warn()
    server.console(settings)


def _warn() -> None:
    for sentence in unknown_variables(os.environ):
        print_error(sentence)
