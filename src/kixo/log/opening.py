"""Opens the log that the settings name, in whichever form: the one place that knows which forms there are.

The libraries that a form for more than one machine takes are loaded when one is opened.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from kixo.errors import BadSetting
from kixo.layout import Layout
from kixo.log import Appender, LogReader
from kixo.log import folder as local
from kixo.log.folder import Report
from kixo.log.group_commit import GroupCommit, Observe
from kixo.log.preview import LogPreview, Preview
from kixo.log.reader import LocalLogReader
from kixo.log.writer import LocalLogWriter
from kixo.places import log_place
from kixo.settings import Settings
from kixo.timestamp import now_us


def ensure_log(settings: Settings) -> str:
    """The id of the log, which is made if it is not there; raises `OperatorError`."""
    place = log_place(settings.log)
    if place is None:
        return local.ensure_log(Layout(settings.data_dir).log)
    with _library():
        from kixo.log.kafka.topic import ensure_topic
    return ensure_topic(place, settings).log_id


def read_log_id(settings: Settings) -> str:
    """The id of the log; raises `OperatorError` where there is none."""
    place = log_place(settings.log)
    if place is None:
        return local.read_log_id(Layout(settings.data_dir).log)
    with _library():
        from kixo.log.kafka.topic import read_topic
    return read_topic(place, settings).log_id


def open_appender(settings: Settings, partition: int, observe: Observe, report: Report) -> Appender:
    """What a process appends to the log with, in its running event loop; local, it writes `partition`.

    Raises `PartitionHeld` where another process writes that, and `OperatorError`.
    """
    place = log_place(settings.log)
    if place is not None:
        with _library():
            from kixo.log.kafka.appender import KafkaAppender
        return KafkaAppender(place, settings, observe)
    writer = LocalLogWriter(
        Layout(settings.data_dir).log,
        partition,
        segment_bytes=settings.log_segment_bytes,
        free_bytes_min=settings.log_free_bytes_min,
        now_us=now_us,
        report=report,
    )
    return GroupCommit(writer, queue_bytes_max=settings.log_queue_bytes_max, observe=observe)


def open_log_reader(settings: Settings, report: Report, lost: Report | None = None) -> LogReader:
    """The reading end of the whole log; raises `OperatorError` where there is none.

    `lost` is told of frames that went before they were read: a sentence, and how many. Without it `report` is, of those
    that went while they were being read.
    """
    place = log_place(settings.log)
    if place is None:
        return LocalLogReader(Layout(settings.data_dir).log, report)
    with _library():
        from kixo.log.kafka.reader import KafkaLogReader
        from kixo.log.kafka.topic import read_topic
    return KafkaLogReader(place, read_topic(place, settings), settings, report, lost)


def open_preview(settings: Settings) -> Preview:
    """The looking end of the log; raises `OperatorError` where there is none."""
    place = log_place(settings.log)
    if place is None:
        return LogPreview(Layout(settings.data_dir).log)
    with _library():
        from kixo.log.kafka.preview import KafkaLogPreview
        from kixo.log.kafka.topic import read_topic
    return KafkaLogPreview(place, read_topic(place, settings), settings)


@contextmanager
def _library() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "confluent_kafka":
            raise
        raise BadSetting(
            "KIXO_LOG names Kafka, whose client is not installed.", "pip install 'kixo[distributed]'"
        ) from error
