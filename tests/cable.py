"""The way to a service, which a test can cut, and on which it can let nothing through."""

import socket
import threading
from contextlib import suppress
from typing import Self

CHUNK_BYTES = 64 * 1024


class Cable:
    """A port of loopback that leads to another. Closed at the end of a `with`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._flowing.set()

    def cut(self) -> None:
        """Ends all connections, and refuses new ones."""
        _end(self._listener)
        while self._sockets:
            _end(self._sockets.pop())

    def mend(self) -> None:
        """Takes new connections again, at the same port."""
        self._listener = self._listen(self.port)

    def stall(self) -> None:
        """Lets nothing through, as where packets are lost or the other side is paused."""
        self._flowing.clear()

    def flow(self) -> None:
        """Lets all through, also what was sent meanwhile."""
        self._flowing.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._flowing.wait()
                sink.sendall(data)
        _end(source)
        _end(sink)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
