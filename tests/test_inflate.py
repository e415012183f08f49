"""Content encodings: what goes in comes out, capped, and whatever is damaged is one kind of error."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from kixo.errors import BodyTooLarge, InvalidJSON, UnsupportedEncoding
from kixo.inflate import ENCODINGS, GZIP_MEMBERS_MAX, inflate

MIB = 1024 * 1024
CAP = 10 * MIB


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(body) + stream.flush()


def in_two_frames(deflate: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda body: deflate(body[: len(body) // 2]) + deflate(b"") + deflate(body[len(body) // 2 :])


WRITERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("gzip", in_two_frames(gzip.compress)),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", lambda body: bytes(brotli.compress(body, quality=1))),
    ("br", lambda body: bytes(brotli.compress(body, quality=9, lgwin=24))),
    ("zstd", zstandard.compress),
    ("zstd", in_two_frames(zstandard.compress)),
    ("identity", bytes),
    ("", bytes),
]


@pytest.mark.parametrize(("encoding", "deflate"), WRITERS)
@given(body=st.binary(max_size=2000), repeat=st.integers(1, 500))
def test_what_was_compressed_comes_out_again(
    encoding: str, deflate: Callable[[bytes], bytes], body: bytes, repeat: int
) -> None:
    assert inflate(deflate(body * repeat), encoding, CAP) == body * repeat
    assert inflate(deflate(body), f" {encoding.upper()} ", CAP) == body


@pytest.mark.parametrize(("encoding", "deflate"), WRITERS[:-2])
def test_the_cap_is_exact(encoding: str, deflate: Callable[[bytes], bytes]) -> None:
    body = b"x" * 300_000
    assert inflate(deflate(body), encoding, len(body)) == body
    with pytest.raises(BodyTooLarge) as raised:
        inflate(deflate(body), encoding, len(body) - 1)
    assert raised.value.members == {"limit": len(body) - 1}


@pytest.mark.parametrize(("encoding", "deflate"), WRITERS[:-2])
def test_a_bomb_costs_no_more_memory_than_the_cap(encoding: str, deflate: Callable[[bytes], bytes]) -> None:
    bomb = deflate(bytes(100 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            inflate(bomb, encoding, CAP)
        assert tracemalloc.get_traced_memory()[1] < CAP + 2 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(body=st.binary(max_size=300))
def test_whatever_comes_it_is_inflated_or_one_of_two_errors(encoding: str, body: bytes) -> None:
    try:
        inflate(body, encoding, 100_000)
    except (InvalidJSON, BodyTooLarge) as error:
        assert error.message


@pytest.mark.parametrize(("encoding", "deflate"), [pair for pair in WRITERS[:-2] if pair[0] != "zstd"])
def test_data_that_is_cut_anywhere_is_refused(encoding: str, deflate: Callable[[bytes], bytes]) -> None:
    whole = deflate(b'{"a":"' + bytes(range(256)) * 20 + b'"}')
    for size in range(0, len(whole), 7):
        if encoding.endswith("gzip") and size and is_whole(whole[:size]):
            continue
        with pytest.raises(InvalidJSON):
            inflate(whole[:size], encoding, CAP)


def is_whole(data: bytes) -> bool:
    try:
        gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return True


def test_zstd_that_is_cut_gives_no_more_than_there_was() -> None:
    body = b'{"a":"' + bytes(range(256)) * 20 + b'"}'
    whole = zstandard.compress(body)
    for size in range(len(whole)):
        assert body.startswith(inflate(whole[:size], "zstd", CAP))


def test_a_frame_cannot_ask_for_a_huge_window() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    with pytest.raises(InvalidJSON, match="too much memory"):
        inflate(zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(64 * MIB)), "zstd", CAP)


def test_gzip_has_a_bounded_number_of_members() -> None:
    assert inflate(gzip.compress(b"x") * GZIP_MEMBERS_MAX, "gzip", CAP) == b"x" * GZIP_MEMBERS_MAX
    with pytest.raises(InvalidJSON, match="more than 64 members"):
        inflate(gzip.compress(b"") * 100_000, "gzip", CAP)


@pytest.mark.parametrize("encoding", ["compress", "gzip, br", "gzip gzip", "lzma", "*", "x" * 1000])
def test_an_encoding_that_nobody_knows_is_named_in_the_error(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding) as raised:
        inflate(b"", encoding, CAP)
    assert encoding[:64] in raised.value.message
    assert len(raised.value.message) < 300
