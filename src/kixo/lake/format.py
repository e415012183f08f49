"""Which version of the folder layout a lake has: the file `kixo.json` in it.

Version 1: one Delta table each in `events`, `rejected` and `loads`; files named `<data version>-<id>.parquet`.
"""

from kixo.format_card import encode_card, read_card_by
from kixo.lake.store import LakeStore

CARD = "kixo.json"
FORMAT = 1


def check_format(lake: LakeStore) -> None:
    """Raises `DataFolderError` where a newer version of Kixo made the lake, or `kixo.json` cannot be read."""
    read_card_by(lambda: lake.read(CARD), f"{lake.url}/{CARD}", "lake", FORMAT)


def write_format(lake: LakeStore) -> None:
    """Writes `kixo.json` where there is none; raises `OSError`."""
    try:
        lake.read(CARD)
    except FileNotFoundError:
        lake.replace(CARD, encode_card(FORMAT))
