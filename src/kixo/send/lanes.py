"""Several connections, each with a thread of its own, fed through one short queue."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue

from kixo.send.delivery import Batch, Courier, Stopped
from kixo.send.ledger import Refusal

POLL_S = 0.2


class Lanes:
    """`open_courier` makes the courier of a lane. The first error of any lane ends them all, and is raised by `put`."""

    def __init__(
        self,
        count: int,
        open_courier: Callable[[], Courier],
        settle: Callable[[Batch, list[Refusal]], None],
        stop: threading.Event,
    ) -> None:
        self._queue: Queue[Batch | None] = Queue(count)
        self._settle = settle
        self._stop = stop
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(open_courier,), daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def put(self, batch: Batch | None) -> None:
        """Gives a batch to the next lane that is free; raises what any lane has failed with."""
        while True:
            self._raise_error()
            with suppress(Full):
                self._queue.put(batch, timeout=POLL_S)
                return

    def finish(self) -> None:
        """Waits until all batches are settled; raises what any lane has failed with."""
        for _ in self._threads:
            self.put(None)
        for thread in self._threads:
            thread.join()
        self._raise_error()

    def stop(self) -> None:
        """Ends all lanes, whatever they are at."""
        self._stop.set()
        for thread in self._threads:
            while thread.is_alive():
                with suppress(Full):
                    self._queue.put_nowait(None)
                thread.join(POLL_S)

    def _raise_error(self) -> None:
        if self._errors:
            raise self._errors[0]

    def _run(self, open_courier: Callable[[], Courier]) -> None:
        try:
            courier = open_courier()
            try:
                while not self._stop.is_set() and (batch := self._queue.get()) is not None:
                    courier.deliver(batch, self._settle)
            finally:
                courier.close()
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: it is raised where somebody waits
            self._errors.append(error)
            self._stop.set()
