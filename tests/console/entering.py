"""Ways into a console, without and with a browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from kixo.registry import open_registry
from kixo.registry.login import create_login_token
from kixo.settings import Settings
from tests.conftest import PATIENCE_S, Server

TOKEN = re.compile(r'name="csrf-token" content="([0-9a-f]+)"')


def login_link(server: Server) -> str:
    """A link that opens the console of a server, once; as `kixo console login-link` makes it, but faster."""
    with open_registry(Settings(data_dir=server.folder)) as registry:
        return f"{server.console_url}/login?token={create_login_token(registry, 60)}"


@contextmanager
def logged_in(server: Server) -> Iterator[httpx.Client]:
    """A client with a session. What it sends looks as if a page of the console had sent it."""
    headers = {"Origin": server.console_url, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=server.console_url, timeout=PATIENCE_S, headers=headers) as client:
        answer = client.get(login_link(server))
        assert answer.status_code == 303
        yield client


def csrf_token(client: httpx.Client) -> str:
    """The token that pages of this session carry."""
    found = TOKEN.search(client.get("/", follow_redirects=True).text)
    assert found is not None
    return found[1]
