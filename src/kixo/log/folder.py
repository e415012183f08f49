"""The folder of a local log: `log.json` with the log's id, and one folder of segments for each partition."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

from kixo.errors import DataFolderError
from kixo.files import write_atomically
from kixo.log import segment

FORMAT = 1

Report = Callable[[str, int], None]
"""Told of bytes that were cut or skipped: a sentence, and how many bytes."""


def ensure_log(folder: Path) -> str:
    """The id of the log in `folder`, which is made if it is not there; raises `DataFolderError`."""
    card = folder / "log.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not card.exists():
            write_atomically(card, json.dumps({"format": FORMAT, "log_id": uuid.uuid4().hex}).encode())
        return read_log_id(folder)
    except OSError as error:
        raise DataFolderError(f"The log folder {folder} cannot be used: {error.strerror}.", "Mend it.") from error


def read_log_id(folder: Path) -> str:
    """The id of the log in `folder`; raises `DataFolderError` where there is none or it is newer than we read."""
    if not folder.is_dir():
        raise DataFolderError(f"There is no log in {folder.parent}.", "Correct --data-dir, or start `kixo serve` once.")
    try:
        card = json.loads((folder / "log.json").read_bytes())
        found, log_id = int(card["format"]), str(card["log_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFolderError(
            f"There is no readable log in {folder}: log.json is missing or damaged.",
            "Check --data-dir, or restore log.json from a backup.",
        ) from error
    if found > FORMAT:
        raise DataFolderError(f"The log in {folder} has format {found}, newer than {FORMAT}.", "Install a newer Kixo.")
    return log_id


def segments(folder: Path) -> list[Path]:
    """The segments of a partition folder, oldest first; none where the folder is not there."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == segment.SUFFIX and path.stem.isdecimal())
    except FileNotFoundError:
        return []
