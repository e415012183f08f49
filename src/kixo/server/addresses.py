"""Reserving an address before the processes that listen on it exist.

A reserved socket is bound and does not listen, so it takes no connection; the children bind the same address with
SO_REUSEPORT, each with a queue of its own. Because that option would let a second server share the port unnoticed,
the address is first bound without it.
"""

import errno
import socket

from kixo.errors import AddressInUse, BadSetting


def reserve(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A socket that holds the address; port 0 picks a free one. `flag` is what sets it.

    Raises `AddressInUse` or `BadSetting`.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
            chosen = trial.getsockname()[1]
        held = socket.socket(family, socket.SOCK_STREAM)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, chosen))
    except OSError as error:
        raise _explain(host, port, flag, error) from error
    return held


def _explain(host: str, port: int, flag: str, error: OSError) -> AddressInUse | BadSetting:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(f"Port {port} of {host} is in use.", f"Stop the other program or choose another {flag}.")
    if error.errno == errno.EACCES:
        return BadSetting(f"Port {port} of {host} needs more rights.", "Choose a port above 1023.")
    return BadSetting(f"The address {host}:{port} cannot be used: {error.strerror}.", "Correct --host and --port.")
