"""`python -m torture.flooder URL PROJECT KEY EVENTS`: sends requests as fast as they are answered, until SIGTERM.

A process of its own, so that what it does costs the clock of the one who measures nothing; with a low priority, since
a real one would not run on the server's machine. Prints the count of each status.
"""

import json
import os
import selectors
import signal
import socket
import sys
from collections import Counter
from urllib.parse import urlsplit

CONNECTIONS = 32
NICE = 10
RECEIVE_BYTES = 65_536


def main() -> None:
    """Floods until told to stop."""
    os.nice(NICE)
    url, project, key, events = sys.argv[1:]
    address = urlsplit(url)
    request = flood_request(project, key, int(events))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    statuses: Counter[str] = Counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(CONNECTIONS):
            _open(selector, (address.hostname or "", address.port or 80), request)
        while not stopped:
            for ready, _ in selector.select(0.1):
                _go_on(selector, ready.fileobj, request, statuses)
    sys.stdout.write(json.dumps(statuses) + "\n")


def flood_request(project: str, key: str, events: int) -> bytes:
    """A whole request with so many events, the same again and again."""
    event = {"event_type": "tap", "event_name": "Flood", "device_id": "d", "session_id": "s"}
    made = [{**event, "timestamp": "2026-04-08T12:00:00Z", "event_id": f"flood-{n}"} for n in range(events)]
    envelope = {"project_id": project, "api_key": key, "bundle_id": "com.example.flood", "platform": "web"}
    body = json.dumps({**envelope, "batch": made}).encode()
    return b"POST /v1/batch HTTP/1.1\r\nHost: kixo\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _open(selector: selectors.BaseSelector, address: tuple[str, int], request: bytes) -> None:
    connection = socket.create_connection(address)
    selector.register(connection, selectors.EVENT_READ)
    connection.sendall(request)


def _go_on(selector: selectors.BaseSelector, connection: object, request: bytes, statuses: Counter[str]) -> None:
    assert isinstance(connection, socket.socket)
    try:
        # An answer is small and comes in one piece.
        answer = connection.recv(RECEIVE_BYTES)
        if answer:
            statuses[answer[9:12].decode("latin-1")] += 1
            connection.sendall(request)
            return
        address = connection.getpeername()
    except OSError:
        statuses["broken"] += 1
        return
    selector.unregister(connection)
    connection.close()
    _open(selector, address, request)


if __name__ == "__main__":
    main()
