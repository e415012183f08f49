"""The bookmark: how far a file was sent, in a small file beside it, for the next run of the same command.

It is good only for the same beginning of the file, the same bytes before the place, and the same target and shape of
events: so a file that has grown is gone on with, and one that is another is sent from its start.
"""

from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct, json

from kixo.errors import BadArgument
from kixo.files import write_atomically
from kixo.send.ledger import Counts
from kixo.send.rows import Place

LOOKED_AT_BYTES = 64 * 1024


class Bookmark(Struct, frozen=True):
    """`purpose` stands for target and shape, `content` for the bytes of the file at both ends of what was sent."""

    purpose: str
    content: str
    offset: int
    number: int
    counts: Counts


class Bookmarks:
    """The bookmark of one file. `purpose` is whatever else has to be the same."""

    def __init__(self, path: Path, file: BinaryIO, purpose: object, whole: bool) -> None:
        self._path = path
        self._file = file
        self._purpose = blake2b(json.encode(purpose, order="sorted"), digest_size=16).hexdigest()
        self._whole = whole

    def find(self) -> tuple[Place, Counts]:
        """Where to go on: at the start, where there is no bookmark that is good for this file."""
        try:
            found = json.decode(self._path.read_bytes(), type=Bookmark)
        except (FileNotFoundError, msgspec.DecodeError):
            return Place(), Counts()
        except OSError as error:
            raise BadArgument(
                f"{self._path} cannot be read: {error.strerror}.", "Give --state another file."
            ) from error
        place = Place(found.offset, found.number)
        if found.purpose != self._purpose or found.content != self._content(place):
            return Place(), Counts()
        return place, found.counts

    def save(self, place: Place, counts: Counts) -> None:
        """Writes the bookmark, whole or not at all; raises `BadArgument`."""
        bookmark = Bookmark(self._purpose, self._content(place), place.offset, place.number, counts)
        try:
            write_atomically(self._path, json.encode(bookmark))
        except OSError as error:
            raise BadArgument(
                f"{self._path} cannot be written: {error.strerror}.", "Give --state a file that can."
            ) from error

    def remove(self) -> None:
        """Forgets."""
        self._path.unlink(missing_ok=True)

    def _content(self, place: Place) -> str:
        """What stands at the beginning of the file, and before the place."""
        end = self._size() if self._whole else place.offset
        digest = blake2b(digest_size=16)
        with Path(self._file.name).open("rb") as file:
            digest.update(file.read(min(LOOKED_AT_BYTES, end)))
            file.seek(max(0, end - LOOKED_AT_BYTES))
            digest.update(file.read(min(LOOKED_AT_BYTES, end)))
        return digest.hexdigest()

    def _size(self) -> int:
        return Path(self._file.name).stat().st_size
