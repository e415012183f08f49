"""Under which names the private port answers.

A page elsewhere can point its own name at this machine (DNS rebinding); the browser then takes what the port answers
for that page's own. Such a request names the page's host, so a name that nobody gave the port is refused. An address
made of numbers cannot be pointed anywhere: it is taken where the port is open to all interfaces.
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from kixo.settings import Settings

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s\[\]:@/?#]+))(?::[0-9]{1,5})?", re.ASCII)
WILDCARDS = {"0.0.0.0", "::"}
# HTTP/1.0, as the standard of the interface writes it and as the server does.
OLD = {"1.0", "1"}


def is_known_host(request: Request, settings: Settings) -> bool:
    """Whether the request's `Host` is a name of ours; HTTP/1.0 may have none, as only programs send it, no browser."""
    hosts = request.headers.getlist("host")
    # The server shows a header that is not there as an empty one.
    if hosts in ([], [""]):
        return request.scope["http_version"] in OLD
    if len(hosts) != 1:
        return False
    name = _name_of(hosts[0])
    return name in _names(settings) or _is_loopback(name) or (_is_open(settings) and _is_address(name))


def _names(settings: Settings) -> set[str]:
    given = {name.strip().lower() for name in settings.console_names.split(",")}
    return ({"localhost", settings.console_host.lower(), _name_of(urlsplit(settings.console_url).netloc)} | given) - {
        "",
        *WILDCARDS,
    }


def _name_of(host: str) -> str:
    """The name without its port, or what cannot be a name as it is."""
    found = _HOST.fullmatch(host)
    return host if found is None else (found[1] or found[2]).lower()


def _is_open(settings: Settings) -> bool:
    return settings.console_host in WILDCARDS


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ip_address(name).is_loopback
