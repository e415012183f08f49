"""`kixo-move.json`: keeps loaders away from a lake that tables still arrive in, and from one that they have left."""

from msgspec import DecodeError, json

from kixo.errors import DataFolderError
from kixo.lake.store import LakeStore

CARD = "kixo-move.json"


def read_move(lake: LakeStore) -> dict[str, str] | None:
    """The card of a move; None where there is none. Raises `DataFolderError`."""
    try:
        return json.decode(lake.read(CARD), type=dict[str, str])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, DecodeError) as error:
        raise DataFolderError(f"{lake.url}/{CARD} cannot be read: {error}.", "Repeat 'kixo move copy'.") from error


def write_move(lake: LakeStore, card: dict[str, str] | None) -> None:
    """Puts the card in place, or takes it away."""
    if card is None:
        lake.delete([CARD])
    else:
        lake.replace(CARD, json.encode(card))


def check_not_moving(lake: LakeStore) -> None:
    """Raises `DataFolderError` where tables have not arrived yet, or have left."""
    card = read_move(lake) or {}
    if card.get("state") == "arriving":
        raise DataFolderError(
            f"The tables of {card.get('from')} are still being moved to {lake.url}.",
            "Let 'kixo move finish' end first.",
        )
    if card.get("state") == "moved":
        raise DataFolderError(
            f"The tables in {lake.url} were moved to {card.get('to')}.",
            f"Name that place with KIXO_LAKE; remove {CARD} there only to go back to the old state.",
        )
