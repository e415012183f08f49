"""Joins the loaders of a log on other machines, in whichever form that has; its library is loaded only then."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from kixo.loader.group import LoaderGroup
from kixo.log import LogReader
from kixo.places import log_place
from kixo.settings import Settings


@contextmanager
def join(settings: Settings, reader: LogReader, lake_id: str) -> Iterator[tuple[LoaderGroup, LogReader]]:
    """One loader's place in the group of those that fill a lake, and the log as far as it is its own.

    `reader` reads all of it, and belongs to this loader alone. Raises `OperatorError`.
    """
    from kixo.loader.kafka_group import GroupLog, KafkaGroup
    from kixo.log.kafka.reader import KafkaLogReader

    place = log_place(settings.log)
    assert place is not None
    assert isinstance(reader, KafkaLogReader)
    with closing(KafkaGroup(place, settings, reader, f"kixo-loaders-{lake_id}")) as group:
        yield group, GroupLog(reader, group)
