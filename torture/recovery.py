"""What a server does at its start, in this process: the same code without HTTP, so that hundreds of starts are quick.

The data folder is opened, each partition of the log is mended and written to once more, and the loader loads all.
`python -m torture.recovery FOLDER` does it in a process of its own, whose changes can be recorded in turn.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from kixo.audit import audit
from kixo.bench.traffic import Credential
from kixo.layout import Layout
from kixo.loader.loader import Loader, Surroundings
from kixo.log.folder import ensure_log
from kixo.log.reader import LocalLogReader
from kixo.log.segment import pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.metric_file import MetricFile
from kixo.query import QueryCaps
from kixo.registry import open_registry
from kixo.server.data_folder import DataFolder
from kixo.settings import Settings
from kixo.stored import AS_SENT
from kixo.timestamp import now_us
from torture.event import Source

PARTITIONS = 2
SEGMENT_BYTES = 1 << 20
SENDER, SENDERS_MAX = 99, 1_000_000
CAPS = QueryCaps(memory_bytes_max=1 << 30, seconds_max=60)


@dataclass
class Told:
    """What the server said while it started: sentences by how bad they are."""

    infos: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def info(self, event: str, **_: Any) -> None:
        """Something of use to know."""
        self.infos.append(event)

    def warning(self, event: str, **members: Any) -> None:
        """Something that is being dealt with."""
        self.warnings.append(f"{event} {members}")

    def error(self, event: str, **members: Any) -> None:
        """Something that somebody should look at."""
        self.errors.append(f"{event} {members}")

    def of_log(self, what: str, size: int) -> None:
        """Bytes of the log that were cut or skipped."""
        self.info(f"{what} ({size} bytes)")


def recover(folder: Path, credential: Credential, source: Source, told: Told) -> list[str]:
    """Starts on a data folder, takes one more event in each partition, and loads all; the tokens of those events.

    Raises whatever a server would die of.
    """
    settings = Settings(data_dir=folder, log_free_bytes_min=0, load_events_max=3000, compaction_files_min=4)
    layout = Layout(folder)
    with closing(DataFolder(layout)):
        ensure_log(layout.log)
        open_registry(settings, make=True).close()
        tokens = [plain_token(partition, source) for partition in range(PARTITIONS)]
        for partition, token in enumerate(tokens):
            with closing(open_writer(layout.log, partition, told)) as writer:
                append(writer, (token,), credential, source)
        load_all(settings, told)
    return tokens


def plain_token(number: int, source: Source) -> str:
    """The token of an event that the log may hold as it was sent; ingest would have to mend a cut emoji."""
    tokens = (f"{SENDER}-{number + SENDERS_MAX * again}-i" for again in count())
    return next(token for token in tokens if "\\ud83d" not in source.make(token).text)


def live_keys(folder: Path, credentials: list[Credential]) -> list[Credential]:
    """Those of the credentials that the registry lets in."""
    with open_registry(Settings(data_dir=folder)) as registry:
        snapshot = registry.snapshot()
    return [each for each in credentials if snapshot.authenticate(each.project_id, each.api_key) is not None]


def differences(folder: Path) -> list[str]:
    """What the audit says of a folder, but for damage of the log, of which a power cut leaves some."""
    layout = Layout(folder)
    reader = LocalLogReader(layout.log, lambda _what, _bytes: None)
    with closing(reader):
        report = audit(layout.lake, reader, CAPS, [])
    pending = sum(project.pending for project in report.projects)
    return [*report.differences, *([f"{pending} events stay in the log."] if pending else [])]


def open_writer(log: Path, partition: int, told: Told) -> LocalLogWriter:
    """A partition of the log in the folder `log`, mended and ready to be written to."""
    return LocalLogWriter(
        log,
        partition,
        segment_bytes=SEGMENT_BYTES,
        free_bytes_min=0,
        now_us=now_us,
        report=told.of_log,
    )


def append(writer: LocalLogWriter, tokens: Sequence[str], credential: Credential, source: Source) -> None:
    """Makes a request with these events durable."""
    content = _body(tokens, credential, source)
    writer.commit(pack_frame(writer.next_offset(), now_us(), AS_SENT, len(tokens), 0, [content]))


def _body(tokens: Sequence[str], credential: Credential, source: Source) -> bytes:
    """A request's body as the log keeps it."""
    envelope = {"project_id": credential.project_id, "api_key": "***", "bundle_id": "com.example", "platform": "web"}
    events = ",".join(source.make(token).text for token in tokens)
    return f'{json.dumps(envelope)[:-1]},"batch":[{events}]}}'.encode()


def load_all(settings: Settings, told: Told) -> None:
    """Loads all that is in the log."""
    layout = Layout(settings.data_dir)
    layout.run.mkdir(exist_ok=True)
    metrics = MetricFile(layout.run / "recovery")
    reader = LocalLogReader(layout.log, told.of_log)
    with closing(metrics), closing(reader):
        surroundings = Surroundings(layout.lake, layout.index, reader, settings, now_us, metrics, told)
        with closing(Loader(surroundings)) as loader:
            loader.open()
            while loader.run_once().bytes:
                pass


if __name__ == "__main__":
    recover(Path(sys.argv[1]), Credential(*sys.argv[2:4]), Source(int(sys.argv[4]), int(sys.argv[5])), Told())
