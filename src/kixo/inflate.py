"""Content encodings, each inflated piece by piece up to a cap: a bomb costs no more memory than the cap."""

import zlib
from collections.abc import Callable, Generator, Iterator

import brotli
import zstandard

from kixo.errors import BodyTooLarge, InvalidJSON, UnsupportedEncoding

PIECE_BYTES = 64 * 1024
GZIP_MEMBERS_MAX = 64
ENCODINGS = ("gzip", "deflate", "br", "zstd")


def inflate(body: bytes, encoding: str, bytes_max: int) -> bytes:
    """The body without its `Content-Encoding`; at most `bytes_max` bytes.

    Raises `UnsupportedEncoding`, `BodyTooLarge`, and `InvalidJSON` where the data is damaged or cut.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    pieces = _INFLATERS.get(name)
    if pieces is None:
        message = f"`Content-Encoding: {encoding[:64]}` is not supported. Use one of {', '.join(ENCODINGS)}, or none."
        raise UnsupportedEncoding(message, quoted=encoding[:64])
    try:
        return _join(pieces(body), bytes_max)
    except (zlib.error, brotli.error, zstandard.ZstdError, EOFError) as error:
        message = f"The body is not valid {name}: {error}. Send it whole."
        raise InvalidJSON(message, position=0) from error


def _join(pieces: Iterator[bytes], bytes_max: int) -> bytes:
    kept: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > bytes_max:
            raise too_large(bytes_max, None)
        kept.append(piece)
    return b"".join(kept)


def too_large(limit: int, actual: int | None) -> BodyTooLarge:
    """The error for a body over the cap; `actual` in bytes where it is known."""
    measured = f"is {actual} bytes" if actual is not None else "is too large"
    error = BodyTooLarge(f"The body {measured}, {limit} bytes are allowed. Split the batch.", limit=limit)
    if actual is not None:
        error.members["actual"] = actual
    return error


def _gzip(body: bytes) -> Iterator[bytes]:
    """One or more gzip members, few enough that copying what follows each stays cheap."""
    for _ in range(GZIP_MEMBERS_MAX):
        body = yield from _zlib(body, 16 + zlib.MAX_WBITS)
        if not body:
            return
    raise EOFError(f"it has more than {GZIP_MEMBERS_MAX} members")


def _deflate(body: bytes) -> Iterator[bytes]:
    """With the zlib wrapper, as the standard says, or without it, as some clients send it."""
    wrapped = len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
    yield from _zlib(body, zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


def _zlib(body: bytes, window: int) -> Generator[bytes, None, bytes]:
    """The pieces of one stream; returns what follows it."""
    stream = zlib.decompressobj(window)
    for start in range(0, len(body), PIECE_BYTES):
        tail = body[start : start + PIECE_BYTES]
        while tail and not stream.eof:
            yield stream.decompress(tail, PIECE_BYTES)
            tail = stream.unconsumed_tail
        if stream.eof:
            return stream.unused_data + body[start + PIECE_BYTES :]
    yield stream.flush()
    if not stream.eof:
        raise EOFError("it is cut short")
    return b""


def _brotli(body: bytes) -> Iterator[bytes]:
    stream = brotli.Decompressor()
    yield stream.process(body, output_buffer_limit=PIECE_BYTES)
    while not stream.is_finished():
        piece = stream.process(b"", output_buffer_limit=PIECE_BYTES)
        if not piece:
            raise EOFError("it is cut short")
        yield piece


def _zstd(body: bytes) -> Iterator[bytes]:
    # The window is bounded too: a frame may ask for gigabytes before its first byte. Data that is cut short ends
    # quietly here, and shows as JSON that is cut short.
    inflater = zstandard.ZstdDecompressor(max_window_size=1 << 23)
    with inflater.stream_reader(body, read_across_frames=True) as reader:
        while piece := reader.read(PIECE_BYTES):
            yield piece


_INFLATERS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
