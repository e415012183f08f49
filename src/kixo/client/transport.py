"""HTTP/1.1 over one kept connection, with the standard library alone.

Certificates are verified, and redirects are not followed. Proxies are those of the environment (`HTTPS_PROXY`,
`HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) or, where the environment names none, of macOS and Windows.
"""

import base64
import http.client
import io
import os
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from kixo import __version__
from kixo.client.surroundings import Answer, StaleConnection

# An answer names at most 100 rejected events.
ANSWER_BYTES_MAX = 1024 * 1024
# How much longer than for one part of an answer we wait for all of it: one that comes byte by byte would have no end.
PARTS_PER_ANSWER = 3
AGENT = f"kixo-python/{__version__}"


class HttpTransport:
    """One connection, opened when it is needed and again after every failure."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = urlsplit(url)
        self._timeout_s = timeout_s
        self._proxy = proxy_of(self._url)
        self._connection: http.client.HTTPConnection | None = None
        self._used = False
        self._process = os.getpid()

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends one request; raises `OSError`, and `StaleConnection` where a kept connection had been closed."""
        connection = self._connection
        try:
            if connection is None:
                connection = self._connection = self._open()
            answer = self._exchange(connection, body, headers)
        except (OSError, http.client.HTTPException) as error:
            used = self._used
            self.close()
            if used and isinstance(error, ConnectionError):
                raise StaleConnection("The server had closed the connection.") from error
            if isinstance(error, OSError):
                raise
            raise ConnectionError(f"The answer is not HTTP: {error!r}") from error
        self._used = True
        return answer

    def close(self) -> None:
        """Closes the connection; in a child of the process that opened it, the child's share alone."""
        connection, self._connection = self._connection, None
        if connection is not None and os.getpid() == self._process:
            connection.close()
        elif connection is not None and connection.sock is not None:
            # The thread that was reading is not here, but what it had locked is, and closing would wait for it.
            os.close(connection.sock.detach())
        self._used = False

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes, headers: Mapping[str, str]) -> Answer:
        # A former answer has left the socket with what remained of its time.
        if connection.sock is not None:
            connection.sock.settimeout(self._timeout_s)
        try:
            connection.request("POST", self._target(), body, {**self._headers(), **headers})
        except (BrokenPipeError, ConnectionResetError):
            # Some servers answer and hang up before they have read all; their answer is there to be read.
            if connection.sock is None:
                raise
        ends_s = time.monotonic() + PARTS_PER_ANSWER * self._timeout_s
        connection.response_class = lambda sock, *rest, **more: _response_within(sock, ends_s, *rest, **more)  # type: ignore[assignment]
        response = connection.getresponse()
        data = response.read(ANSWER_BYTES_MAX)
        if not response.isclosed() or status_is_interim(response.status):
            self.close()  # There is more than we want to know, or the answer itself is still to come.
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def _open(self) -> http.client.HTTPConnection:
        first = self._proxy or self._url
        address = first.hostname or "", first.port or (443 if first.scheme == "https" else 80)
        if self._url.scheme != "https":
            connection = http.client.HTTPConnection(*address, timeout=self._timeout_s)
        else:
            connection = http.client.HTTPSConnection(
                *address, timeout=self._timeout_s, context=ssl.create_default_context()
            )
            if self._proxy is not None:
                connection.set_tunnel(self._url.hostname or "", self._url.port or 443, login_of(self._proxy))
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _target(self) -> str:
        """What the request line names: the path, or for a proxy that reads requests the whole address."""
        return self._url.geturl() if self._proxy is not None and self._url.scheme == "http" else self._url.path

    def _headers(self) -> dict[str, str]:
        login = login_of(self._proxy) if self._proxy is not None and self._url.scheme == "http" else {}
        return {"User-Agent": AGENT, **login}


def _response_within(sock: socket.socket, ends_s: float, *rest: Any, **more: Any) -> http.client.HTTPResponse:
    """A response that is read from the socket until a time of the monotonic clock, and then raises `TimeoutError`."""
    response = http.client.HTTPResponse(sock, *rest, **more)
    response.fp = io.BufferedReader(_Ending(response.fp.detach(), sock, ends_s))
    return response


class _Ending(io.RawIOBase):
    """The bytes of `file`, which reads from the socket, until its time is over."""

    def __init__(self, file: io.RawIOBase, sock: socket.socket, ends_s: float) -> None:
        self._file = file
        self._socket = sock
        self._part_s = sock.gettimeout() or 0.0
        self._ends_s = ends_s

    def readable(self) -> bool:
        """They are to be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Reads what is there, waiting for it no longer than for a part, nor beyond the end."""
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer took too long as a whole")
        self._socket.settimeout(min(self._part_s, left_s))
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Lets go of the socket."""
        self._file.close()
        super().close()


def status_is_interim(status: int) -> bool:
    """Whether another answer follows, which must not be taken for that to the next request (RFC 9110, 15.2)."""
    return 100 <= status < 200


def proxy_of(url: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for an address; None where it names none."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.netloc):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def login_of(proxy: SplitResult) -> dict[str, str]:
    """The header with which we log in at a proxy, if it wants that."""
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}
