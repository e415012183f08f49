"""What the tests of replays share: a data folder whose log, loader and tables are real, and requests into it."""

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from kixo import decode, metric_file
from kixo.audit import audit
from kixo.loader.loader import Loader, Surroundings
from kixo.log.folder import ensure_log
from kixo.log.reader import LocalLogReader
from kixo.log.segment import pack_frame
from kixo.log.writer import LocalLogWriter
from kixo.metric_file import MetricFile
from kixo.metrics import Metric
from kixo.query import QueryCaps, open_query
from kixo.query.account import read_rows
from kixo.rejected.change import NO_CHANGE, Change
from kixo.rejected.judging import Judgement
from kixo.rejected.reading import Source, parts
from kixo.rejected.replay import Replay
from kixo.rejected.selection import Place, Selection
from kixo.settings import Settings
from kixo.stored import JUDGED, JudgedBatch, encode_judged
from kixo.timestamp import parse_us
from tests.loading import Reports

CAPS = QueryCaps(256 * 1024 * 1024, 60)
NOW_US = parse_us("2026-04-08T12:00:00Z")
ALL = Selection()


class MemoryRecord:
    """A record of replays that a test can look into, and take away."""

    def __init__(self) -> None:
        self.places: set[Place] = set()

    def known(self, places: Collection[Place]) -> set[Place]:
        return self.places & set(places)

    def add(self, places: Sequence[Place]) -> None:
        self.places |= set(places)

    def check_room(self, events: int) -> None:
        pass


class Folder:
    """A data folder; events come into it as from a worker, and are loaded when a test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = Settings(data_dir=root, log_free_bytes_min=0)
        self.record = MemoryRecord()
        self.reports = Reports()
        self.log_id = ensure_log(root / "log")

    def receive(self, *events: object, received_at_us: int = NOW_US, partition: int = 0, **members: Any) -> None:
        """A request with these events; those that are bad are rejected."""
        batch = {"project_id": "p", "bundle_id": "b", "platform": "ios", "api_key": "*", "batch": events, **members}
        request = decode.open_request(json.dumps(batch).encode())
        accepted, rejected = decode.judge_events(request.events)
        judged = JudgedBatch(
            request.project_id,
            request.environment,
            request.bundle_id,
            request.platform,
            request.sent_at,
            accepted,
            rejected,
        )
        writer = LocalLogWriter(
            self.root / "log",
            partition,
            segment_bytes=2**20,
            free_bytes_min=0,
            now_us=lambda: NOW_US,
            report=lambda sentence, size: None,
        )
        content = [encode_judged(judged)]
        writer.commit(pack_frame(writer.next_offset(), received_at_us, JUDGED, len(accepted), len(rejected), content))
        writer.close()

    @contextmanager
    def reader(self) -> Iterator[LocalLogReader]:
        reader = LocalLogReader(self.root / "log", lambda sentence, size: self.reports.info(sentence))
        try:
            yield reader
        finally:
            reader.close()

    @contextmanager
    def loader(self) -> Iterator[Loader]:
        with self.reader() as reader, closing(MetricFile(self.root / "metrics")) as metrics:
            lake, index = self.root / "lake", self.root / "index"
            around = Surroundings(lake, index, reader, self.settings, lambda: NOW_US, metrics, self.reports)
            loader = Loader(around)
            loader.open()
            yield loader
            loader.close()

    def load(self) -> None:
        """Loads what is in the log."""
        with self.loader() as loader:
            while loader.run_once().bytes:
                pass

    def metric(self, metric: Metric) -> float:
        """What the loader last said of something."""
        return metric_file.read(self.root / "metrics")[metric_file.slots()[metric.name, ()]]

    def ask(self, sql: str) -> list[dict[str, Any]]:
        with open_query(self.root / "lake", CAPS) as engine:
            return read_rows(engine, sql)

    @property
    def source(self) -> Source:
        return Source(self.ask, self.log_id, self.record)

    def judged(self, selection: Selection = ALL, change: Change = NO_CHANGE) -> list[Judgement]:
        """What a replay would do."""
        return [each for part in parts(self.source, selection, change) for each in part.judgements]

    def opened(self, step: Callable[[str], None] = lambda _: None) -> Replay:
        return Replay(self.root / "log", self.settings, self.record, lambda: NOW_US, lambda sentence, size: None, step)

    def replay(
        self,
        selection: Selection = ALL,
        change: Change = NO_CHANGE,
        step: Callable[[str], None] = lambda _: None,
    ) -> int:
        """Replays; how many events were written."""
        with self.opened(step) as replay:
            return sum(replay.write(part.judgements) for part in parts(self.source, selection, change))

    def rows(self, columns: str = "*", table: str = "events") -> list[tuple[Any, ...]]:
        """Some columns of a table's rows, sorted."""
        return sorted((tuple(row.values()) for row in self.ask(f"SELECT {columns} FROM {table}")), key=repr)

    def differences(self) -> list[str]:
        """What an audit finds."""
        with self.reader() as reader:
            return audit(self.root / "lake", reader, CAPS, []).differences


def event(**members: Any) -> dict[str, Any]:
    """An event without an id."""
    return {
        "event_type": "tap",
        "event_name": "Button",
        "device_id": "d",
        "session_id": "s",
        "timestamp": "2026-04-08T11:59:00Z",
        **members,
    }


def without(name: str, **members: Any) -> dict[str, Any]:
    """An event that lacks a member."""
    found = event(**members)
    del found[name]
    return found
