"""Which version of the folder layout a lake has: the file `kixo.json` in it.

Version 1: one Delta table each in `events`, `rejected` and `loads`; files named `<data version>-<id>.parquet`.
"""

from pathlib import Path

from kixo.format_card import ensure_card, read_card

CARD = "kixo.json"
FORMAT = 1


def check_format(lake: Path) -> None:
    """Raises `DataFolderError` where a newer version of Kixo made the lake, or `kixo.json` cannot be read."""
    read_card(lake / CARD, "lake", FORMAT)


def write_format(lake: Path) -> None:
    """Writes `kixo.json` where there is none; raises `OSError`."""
    ensure_card(lake / CARD, FORMAT)
