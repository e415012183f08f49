"""`kixo serve`: the server on one machine."""

import os
from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import EVERY_SETTING, takes_settings
from kixo.output import print_error
from kixo.server.serve import serve as run_server
from kixo.settings import Settings, unknown_variables


@takes_settings(*EVERY_SETTING)
def serve(
    settings: Settings,
    *,
    demo: Annotated[bool, Parameter(help="Add the documents' example project and key; loopback only.")] = False,
    no_loader: Annotated[bool, Parameter(help="Fill the log but not the tables, to measure.", show=False)] = False,
) -> None:
    """Serves the public and the private port until SIGTERM or Ctrl-C."""
    for sentence in unknown_variables(os.environ):
        print_error(sentence)
    run_server(settings, demo=demo, with_loader=not no_loader)
