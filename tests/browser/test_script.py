"""The browser SDK as a file: how the public port serves it, that it is small, and what its sources give."""

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import brotli
import httpx
import pytest

from kixo import __version__
from kixo.http.browser import PATHS, open_scripts, script_answer

ROOT = Path(__file__).parent.parent.parent
BUILT = ROOT / "src" / "kixo" / "http" / "sdk"
SOURCES = ROOT / "sdk" / "web"
GZIPPED_BYTES_MAX = 8000


@pytest.mark.parametrize("path", PATHS)
def test_it_is_served_to_every_origin_as_javascript(client: httpx.Client, path: str) -> None:
    answer = client.get(path, headers={"Accept-Encoding": "identity", "Origin": "https://shop.example"})
    assert (answer.status_code, answer.content) == (200, (BUILT / path[1:]).read_bytes())
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip;q=0.5, br;q=0", "gzip"),
        ("GZIP", "gzip"),
        ("deflate", None),
        ("br;q=0.0", None),
        ("", None),
    ],
)
def test_it_is_compressed_as_the_browser_accepts(client: httpx.Client, accepted: str, coding: str | None) -> None:
    with client.stream("GET", "/kixo.js", headers={"Accept-Encoding": accepted}) as answer:
        sent = b"".join(answer.iter_raw())
    inflate = {"br": brotli.decompress, "gzip": gzip.decompress, None: bytes}[coding]
    assert answer.headers.get("content-encoding") == coding
    assert inflate(sent) == (BUILT / "kixo.js").read_bytes()


def test_a_browser_that_has_it_is_told_so(client: httpx.Client) -> None:
    etag = client.get("/kixo.js").headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = client.get("/kixo.js", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert answer.headers["cache-control"] == "public, max-age=3600"
    assert client.get("/kixo.js", headers={"If-None-Match": '"other"'}).status_code == 200


def test_each_encoding_and_each_file_has_an_etag_of_its_own() -> None:
    answers = [representation for script in open_scripts().values() for representation in script.values()]
    assert len({representation.etag for representation in answers}) == len(answers) == 6


def test_its_head_is_that_of_a_get_without_the_body(client: httpx.Client) -> None:
    whole, head = client.get("/kixo.js"), client.head("/kixo.js")
    assert (head.status_code, head.content) == (200, b"")
    assert {**head.headers, "date": ""} == {**whole.headers, "date": ""}


def test_other_methods_are_told_those_it_takes(client: httpx.Client) -> None:
    answer = client.post("/kixo.js", content=b"{}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_it_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    size = len(gzip.compress((BUILT / "kixo.js").read_bytes(), 9, mtime=0))
    with capsys.disabled():
        print(f"\nkixo.js: {size} bytes gzipped, {GZIPPED_BYTES_MAX} allowed")
    assert size <= GZIPPED_BYTES_MAX


def test_it_is_what_the_sources_give() -> None:
    if shutil.which("node") is None or not (SOURCES / "node_modules").is_dir():
        if os.environ.get("CI"):
            pytest.fail("CI has to have Node.js, and to run `make webcheck` before the tests.")
        pytest.skip("Run `make web` to compare the built SDK with its sources; it needs Node.js.")
    done = subprocess.run(["node", "build.mjs", "--check"], cwd=SOURCES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_says_the_version_of_the_server() -> None:
    assert json.loads((SOURCES / "package.json").read_text("utf-8"))["version"] == __version__
    for path in PATHS:
        assert (BUILT / path[1:]).read_text("utf-8").startswith(f"/*! Kixo {__version__}, ")


def test_no_file_of_it_names_a_registry() -> None:
    assert "://" not in (SOURCES / "package-lock.json").read_text("utf-8")
    assert "omit-lockfile-registry-resolved=true" in (SOURCES / ".npmrc").read_text("utf-8").splitlines()


def test_an_answer_is_ready_before_it_is_asked_for() -> None:
    script = open_scripts()["/kixo.js"]
    assert script_answer(script, {"accept-encoding": "br"}) is script["br"].whole
