"""The card of a running server, `run/server.json`: by it other programs and processes find its addresses."""

from msgspec import DecodeError, Struct, ValidationError, json

from kixo.errors import BadArgument
from kixo.files import write_atomically
from kixo.layout import Layout
from kixo.settings import Settings


class ServerCard(Struct, frozen=True):
    """What a running node tells of itself: the process id of its supervisor, its addresses, its workers.

    `url` is that of the public port, and `console_url` that of the private one where the console is on it; each is
    empty where the node has none. `private_url` is there on every node.
    """

    pid: int
    url: str
    console_url: str
    workers: int
    private_url: str = ""


def write_server_card(layout: Layout, card: ServerCard) -> None:
    """Puts the card in its place; raises `OSError`."""
    write_atomically(layout.server_card, json.encode(card))


def read_server_card(layout: Layout) -> ServerCard | None:
    """The card of the server that runs, or of one that was killed; None where there is none."""
    try:
        return json.decode(layout.server_card.read_bytes(), type=ServerCard)
    except (OSError, DecodeError, ValidationError):
        return None


def address_url(host: str, port: int) -> str:
    """The URL of an address; an address that means every interface is shown as this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def public_url(settings: Settings) -> str:
    """Where clients reach the public port: as set, as the running server says, or as it would be started."""
    card = read_server_card(Layout(settings.data_dir))
    return settings.public_url or (card and card.url) or address_url(settings.host, settings.port)


def console_url(settings: Settings) -> str:
    """Where browsers reach the console: as set, as the running server says, or as it would be started.

    Raises `BadArgument` where nobody can know yet.
    """
    card = read_server_card(Layout(settings.data_dir))
    if found := settings.console_url or (card and card.console_url):
        return found
    if settings.console_port == 0:
        raise BadArgument("No server runs, and console_port is 0, so its address is not known.", "Start the server.")
    return address_url(settings.console_host, settings.console_port)
