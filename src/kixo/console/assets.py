"""What browsers load besides pages: the files that `make web` builds from `web/`, served from memory.

A file's address has a part of its SHA-256 in it, so it can be kept for ever: other content has another address. Names
are looked up as they are, so no path leads anywhere else. The built files are a part of the package, as those of the
browser SDK are.
"""

import gzip
import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from kixo.errors import NotFound

PREFIX = "/static/"
CACHE_CONTROL = "public, max-age=31536000, immutable"
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class Asset:
    """One file: its address, its media type, its bytes as they are and compressed."""

    path: str
    media_type: str
    content: bytes
    compressed: bytes


@dataclass(frozen=True)
class Assets:
    """Every file, by the name that templates use and by the path that browsers ask for."""

    by_name: Mapping[str, Asset]
    by_path: Mapping[str, Asset]

    def path(self, name: str) -> str:
        """The address of a file such as `base.css`; raises `KeyError`."""
        return self.by_name[name].path

    def answer(self, request: Request) -> Response:
        """The file that is asked for; raises `NotFound`."""
        asset = self.by_path.get(request.url.path)
        if asset is None:
            raise NotFound("There is no such file. Load the page again.")
        headers = {"cache-control": CACHE_CONTROL, "vary": "accept-encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(asset.content, media_type=asset.media_type, headers=headers)
        return Response(asset.compressed, media_type=asset.media_type, headers={**headers, "content-encoding": "gzip"})


def open_assets() -> Assets:
    """Reads every built file of the package."""
    folder = files("kixo.console") / "static"
    found = {file.name: _asset(file.name, file.read_bytes()) for file in folder.iterdir() if file.is_file()}
    return Assets(found, {asset.path: asset for asset in found.values()})


def _asset(name: str, content: bytes) -> Asset:
    stem, _, suffix = name.rpartition(".")
    path = f"{PREFIX}{stem}-{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"
    media_type = TYPES.get(f".{suffix}") or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Asset(path, media_type, content, gzip.compress(content, mtime=0))
