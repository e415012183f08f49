"""`kixo move`: from one machine to several, and back."""

from typing import Annotated

from cyclopts import Parameter

from kixo.cli.options import takes_settings
from kixo.output import print_line
from kixo.server import moving
from kixo.server.logs import open_log
from kixo.settings import Settings, setting_fields

PLACES = tuple(row.name for row in setting_fields() if row.name in moving.MOVING)
EXTRAS = ("log_partitions", "kafka_sasl_mechanism", "kafka_ca_file", "s3_endpoint", "s3_region")

Back = Annotated[bool, Parameter(help="From the places that are set into the data folder.")]


@takes_settings(*PLACES, *EXTRAS)
def copy(settings: Settings, *, back: Back = False) -> None:
    """Copies registry and tables while the old side works; can be repeated."""
    moving.copy(moving.plan(settings, back=back), print_line)


@takes_settings(*PLACES, *EXTRAS)
def finish(settings: Settings, *, back: Back = False) -> None:
    """Hands over, once the old side has stopped; can be repeated."""
    moving.finish(moving.plan(settings, back=back), print_line, open_log(settings, "move"))
