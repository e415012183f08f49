"""Kixo's Batch API: accept product-analytics events, keep them, and answer questions about them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kixo.client import AsyncClient as AsyncClient
    from kixo.client import Client as Client

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # The client is loaded when somebody asks for it: the server and the commands never do.
    if name in {"AsyncClient", "Client"}:
        from kixo import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
