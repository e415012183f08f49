"""The floor: the same HTTP server and the same typed decode as ingest, with nothing checked, limited or stored.

No server on this stack can be faster, so `kixo bench` gives its figures relative to this one, from the same run.
`python -m kixo.bench.floor PORT` serves one process; several may share a port, as the real workers do.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server
from msgspec import json

from kixo.event import BatchRequest

HOST = "127.0.0.1"
HEADERS = [("content-type", "application/json")]
START_S_MAX = 20.0

_decode = json.Decoder(BatchRequest).decode


async def answer(_scope: Any, protocol: Any) -> None:
    """Reads a request, decodes it and says how many events it has."""
    batch = _decode(await protocol()).batch
    protocol.response_bytes(200, HEADERS, b'{"status":"ok","accepted":%d}' % len(batch))


async def serve(port: int) -> None:
    """Serves until SIGTERM, on a port that other processes may serve too."""
    server = Server(
        answer,
        HOST,
        port,
        interface=Interfaces.RSGI,
        websockets=False,
        log_enabled=False,
        backlog=1024,
        backpressure=10_000,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    await server.serve()


def wait_until_open(port: int, processes: list[subprocess.Popen[bytes]]) -> None:
    """Returns when somebody listens; raises `TimeoutError` or, where a process has ended, `ChildProcessError`."""
    stop = asyncio.Event()

    async def attempt() -> None:
        while not stop.is_set():
            if any(process.poll() is not None for process in processes):
                raise ChildProcessError("The floor server did not start.")
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                stop.set()

    asyncio.run(asyncio.wait_for(attempt(), START_S_MAX))


@contextmanager
def running(workers: int) -> Iterator[tuple[str, list[int]]]:
    """Runs the floor in `workers` processes; gives its URL and their process ids."""
    with ExitStack() as stack:
        # Bound but not listening: it keeps the port for us and takes no connection.
        place = stack.enter_context(socket.socket())
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind((HOST, 0))
        port = place.getsockname()[1]
        command = [sys.executable, "-m", "kixo.bench.floor", str(port)]
        processes = [stack.enter_context(subprocess.Popen(command, process_group=0)) for _ in range(workers)]
        for process in processes:
            stack.callback(process.terminate)
        wait_until_open(port, processes)
        yield f"http://{HOST}:{port}", [process.pid for process in processes]


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
