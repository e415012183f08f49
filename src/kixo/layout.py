"""What is where in a data folder.

kixo.json        the format of the folder
registry.sqlite  projects and keys
log/             accepted requests that are not in the tables yet
lake/            the tables
index/           the identities of the events in the tables, derived from them
run/             what only matters while a server runs: locks, addresses, counters
"""

from dataclasses import dataclass
from pathlib import Path

from kixo.errors import DataFolderError
from kixo.format_card import ensure_card, read_card

FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """The paths in the data folder `root`."""

    root: Path

    @property
    def registry(self) -> Path:
        """The file of projects and keys."""
        return self.root / "registry.sqlite"

    @property
    def log(self) -> Path:
        """The folder of the log."""
        return self.root / "log"

    @property
    def lake(self) -> Path:
        """The folder of the tables."""
        return self.root / "lake"

    @property
    def index(self) -> Path:
        """The folder of the index of identities."""
        return self.root / "index"

    @property
    def run(self) -> Path:
        """The folder of what only matters while a server runs."""
        return self.root / "run"

    @property
    def server_lock(self) -> Path:
        """Locked by the server that uses the folder."""
        return self.run / "lock"

    @property
    def loader_lock(self) -> Path:
        """Locked by the loader that writes the tables."""
        return self.run / "loader.lock"

    @property
    def server_card(self) -> Path:
        """By which other programs find the running server: process id and addresses, as JSON."""
        return self.run / "server.json"

    @property
    def limits(self) -> Path:
        """The memory that workers share for the rate limit."""
        return self.run / "limits"

    @property
    def limit_nodes(self) -> Path:
        """How many nodes shared the limit last (`kixo.limits.redis_limit`)."""
        return self.run / "limit-nodes"

    @property
    def load_record(self) -> Path:
        """What the loader did last, for those who watch (`kixo.load_record`)."""
        return self.run / "loads"

    @property
    def refused(self) -> Path:
        """The folder of the workers' records of refused requests (`kixo.refused`)."""
        return self.run / "refused"

    @property
    def key_use(self) -> Path:
        """The folder of the workers' counts of what keys are used for (`kixo.key_use`)."""
        return self.run / "key-use"

    @property
    def snapshot(self) -> Path:
        """What was last known of a registry on another machine (`kixo.registry.source`)."""
        return self.run / "registry-snapshot"

    def check_format(self) -> None:
        """Raises `DataFolderError` where a newer Kixo wrote the folder, or its format cannot be read."""
        read_card(self.root / "kixo.json", "data folder", FORMAT)

    def mark_format(self) -> None:
        """Writes the format into a folder that has none; raises `OSError`."""
        ensure_card(self.root / "kixo.json", FORMAT)

    def check_name(self) -> None:
        """Raises `DataFolderError` for a path that the table library takes for a pattern, without a word."""
        odd = sorted(set(str(self.root.resolve())) & set("[]%*?"))
        if odd:
            raise DataFolderError(
                f"The path of the data folder {self.root} has {' '.join(odd)} in it, which the tables cannot have.",
                "Choose another --data-dir.",
            )
