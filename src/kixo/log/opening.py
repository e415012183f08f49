"""Opens the log that the settings name, in whichever form: the one place that knows which forms there are."""

from kixo.layout import Layout
from kixo.log import Appender, LogReader
from kixo.log import folder as local
from kixo.log.folder import Report
from kixo.log.group_commit import GroupCommit, Observe
from kixo.log.reader import LocalLogReader
from kixo.log.writer import LocalLogWriter
from kixo.settings import Settings
from kixo.timestamp import now_us


def ensure_log(settings: Settings) -> str:
    """The id of the log, which is made if it is not there; raises `DataFolderError`."""
    return local.ensure_log(Layout(settings.data_dir).log)


def read_log_id(settings: Settings) -> str:
    """The id of the log; raises `DataFolderError` where there is none."""
    return local.read_log_id(Layout(settings.data_dir).log)


def open_appender(settings: Settings, partition: int, observe: Observe, report: Report) -> Appender:
    """What a process appends to the log with, in its running event loop; local, it writes `partition`.

    Raises `PartitionHeld` where another process writes that, and `DataFolderError`.
    """
    writer = LocalLogWriter(
        Layout(settings.data_dir).log,
        partition,
        segment_bytes=settings.log_segment_bytes,
        free_bytes_min=settings.log_free_bytes_min,
        now_us=now_us,
        report=report,
    )
    return GroupCommit(writer, queue_bytes_max=settings.log_queue_bytes_max, observe=observe)


def open_log_reader(settings: Settings, report: Report) -> LogReader:
    """The reading end of the whole log; raises `DataFolderError` where there is none."""
    return LocalLogReader(Layout(settings.data_dir).log, report)
