"""A lake on S3-compatible object storage. Any number of processes on any machines may write it.

What is put is there whole or not at all, and durable when the server has answered; a name is created by a conditional
put (`If-None-Match: *`), which fails where another was faster. Nothing is ever torn, so there is nothing to mend. An
object bears the time of its upload and no other, so nothing can be marked as needed: see `kixo.lake.sweep`.

Requests that fail are repeated by the library, with growing waits, for `RETRY_S_MAX`. A conditional put whose answer
was lost may meet itself then: see `LakeTable.commit`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from msgspec import json

from kixo.errors import BadSetting
from kixo.lake.ranges import TAIL_BYTES, RangedFile
from kixo.lake.report import Report
from kixo.lake.s3_access import S3Access
from kixo.lake.store import Sink, StoredFile
from kixo.places import S3Place

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from obstore.store import S3Store

LOG_FOLDER = "_delta_log"
RETRY_S_MAX = 30.0
RETRIES_MAX = 8
# What is larger waits in a file on its way, and goes in parts.
MEMORY_BYTES_MAX = 16 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Bucket:
    """A bucket opened: its client, and how others are to reach it."""

    name: str
    store: "S3Store"
    access: S3Access


class ObjectSink:
    """A file that is written here and uploaded when it is whole."""

    def __init__(self) -> None:
        self.target = SpooledTemporaryFile(MEMORY_BYTES_MAX)  # noqa: SIM115 - closed by `ObjectLake.write`
        self.size_bytes = 0

    def sync(self) -> None:
        """Nothing: it is durable as a whole or not at all."""


class ObjectLake:
    """The lake, or a folder of it, under a prefix of a bucket (no slash at its ends)."""

    has_many_writers = True

    def __init__(self, bucket: Bucket, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket.name}/{self._prefix}".rstrip("/")

    @property
    def argument(self) -> str:
        """The settings that mean it, as JSON."""
        access = self._bucket.access
        settings = {"lake": self.url, "s3_endpoint": access.endpoint, "s3_region": access.region}
        return json.encode(settings).decode()

    def inside(self, folder: str) -> "ObjectLake":
        """A folder in it."""
        return ObjectLake(self._bucket, self._key(folder))

    def exists(self) -> bool:
        """Whether an object is in it."""
        return self._any("")

    def make(self) -> None:
        """Nothing: there are no folders."""

    def read(self, path: str) -> bytes:
        """The whole object."""
        return bytes(self._get(path))

    def create(self, path: str, data: bytes) -> None:
        """A conditional put."""
        self._put(path, data, "create")

    def replace(self, path: str, data: bytes) -> None:
        """A put."""
        self._put(path, data, "overwrite")

    def list(self, folder: str = "") -> Iterator[StoredFile]:
        """The objects in a folder, or in all; a request for each thousand."""
        import obstore

        cut = len(self._prefix) + 1 if self._prefix else 0
        with _spoken(self.url):
            for part in obstore.list(self._bucket.store, self._key(folder) or None):
                for found in part:
                    yield StoredFile(found["path"][cut:], found["size"], found["last_modified"].timestamp())

    def delete(self, paths: Iterable[str]) -> None:
        """Deletes up to a thousand with each request."""
        import obstore

        keys = [self._key(path) for path in paths]
        if keys:
            with _spoken(self.url):
                obstore.delete(self._bucket.store, keys)

    @contextmanager
    def write(self, path: str) -> Iterator[Sink]:
        """Uploads at the end of the block; in parts, if it is large."""
        import obstore

        sink = ObjectSink()
        with sink.target as file:
            yield sink
            sink.size_bytes = file.tell()
            file.seek(0)
            with _spoken(self.url):
                obstore.put(self._bucket.store, self._key(path), file, chunk_size=PART_BYTES)

    def source(self, path: str) -> Any:
        """A file that is read in ranges."""
        size, tail = self.end(path, TAIL_BYTES)
        return RangedFile(lambda start, length: self.range(path, start, length), size, tail)

    def end(self, path: str, length: int) -> tuple[int, bytes]:
        """The size of an object and its last `length` bytes, by one request. Raises `FileNotFoundError`."""
        import obstore

        with _spoken(self.url):
            found = obstore.get(self._bucket.store, self._key(path), options={"range": {"suffix": length}})
            return found.meta["size"], bytes(found.bytes())

    def range(self, path: str, start: int, length: int) -> bytes:
        """Some bytes of an object."""
        import obstore

        with _spoken(self.url):
            return bytes(obstore.get_range(self._bucket.store, self._key(path), start=start, length=length))

    def whole(self, path: str) -> Any:
        """Its bytes, fetched by one request."""
        import pyarrow as pa

        return pa.BufferReader(self._get(path))

    def retire(self, paths: Iterable[str], now_s: float) -> None:
        """Nothing: objects bear no such mark."""

    def is_table(self) -> bool:
        """Whether it has a table's log, with something in it."""
        return self._any(LOG_FOLDER)

    def open_delta(self, version: int | None = None) -> "DeltaTable":
        """The table under the prefix."""
        from deltalake import DeltaTable

        return DeltaTable(self.url, version=version, storage_options=self._bucket.access.delta_options())

    def address(self, uri: str) -> str:
        """The `s3://` URL."""
        return unquote(uri) if uri.startswith("s3://") else f"{self.url}/{unquote(uri)}"

    def inner(self, address: str) -> str:
        """The path in this store of a file that `address` named."""
        return address.removeprefix(f"{self.url}/")

    def settle(self, paths: Iterable[str]) -> None:
        """Nothing: what was put is durable."""

    def mend(self, report: Report) -> None:
        """Nothing: what is put is there whole."""

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, path) if part)

    def _any(self, folder: str) -> bool:
        import obstore

        with _spoken(self.url):
            return any(obstore.list(self._bucket.store, self._key(folder) or None, chunk_size=1))

    def _get(self, path: str) -> Any:
        import obstore

        with _spoken(self.url):
            return obstore.get(self._bucket.store, self._key(path)).bytes()

    def _put(self, path: str, data: bytes, mode: Any) -> None:
        import obstore

        with _spoken(self.url):
            obstore.put(self._bucket.store, self._key(path), data, mode=mode, use_multipart=False)


def open_objects(place: S3Place, access: S3Access) -> ObjectLake:
    """The lake at a place, which is not looked for yet. Raises `BadSetting` where the library is missing."""
    try:
        from obstore.store import S3Store
    except ImportError:
        raise BadSetting(
            f"The lake is s3://{place.bucket}, and the library for S3 is not installed.",
            "Install it: pip install 'kixo[distributed]'.",
        ) from None
    store = S3Store(
        place.bucket,
        config=access.client_options(),
        client_options={"allow_http": access.is_plain, "timeout": timedelta(seconds=RETRY_S_MAX)},
        retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_S_MAX)},
    )
    return ObjectLake(Bucket(place.bucket, store, access), place.prefix)


@contextmanager
def _spoken(url: str) -> Iterator[None]:
    """Errors of the library as the system's own, in a sentence; it names requests and never credentials."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(f"{url}: {_sentence(error)}") from None
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url}: {_sentence(error)}") from None
    except BaseError as error:
        raise OSError(f"{url}: {_sentence(error)}") from None


def _sentence(error: Exception) -> str:
    return " ".join(str(error).partition("\n\nDebug source")[0].split())[:500]
