"""`kixo console`: entering the console, and ending every session of it."""

from kixo.cli.options import Json, takes_settings
from kixo.output import print_json, print_line
from kixo.registry import open_registry
from kixo.registry.login import create_login_token, renew_session_secret
from kixo.server_card import console_url
from kixo.settings import Settings


@takes_settings("console_host", "console_port", "console_url", "login_token_s")
def login_link(settings: Settings, *, json: Json = False) -> None:
    """Makes a link that opens the console, once."""
    address = console_url(settings)
    with open_registry(settings) as registry:
        link = f"{address}/login?token={create_login_token(registry, settings.login_token_s)}"
    if json:
        print_json({"url": link, "seconds": settings.login_token_s})
        return
    print_line(link)


@takes_settings()
def sign_out(settings: Settings) -> None:
    """Ends every session of the console, and every link that was not used."""
    with open_registry(settings) as registry:
        renew_session_secret(registry)
    print_line("Every session of the console has ended. 'kixo console login-link' opens a new one.")
