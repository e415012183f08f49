"""What the typed decode alone costs: the part of the work that no server on this stack can leave out."""

import time
from itertools import islice

from msgspec import json

from kixo.bench.traffic import Credential, Ring, Shape
from kixo.event import BatchRequest
from kixo.timestamp import now_us

SECONDS = 0.5
BODIES = 64


def decode_cpu_us(shape: Shape, seed: int, seconds: float = SECONDS) -> float:
    """CPU-µs per event to decode batches of this shape into `BatchRequest`, over `seconds` of CPU time."""
    bodies = [body for body in _bodies(shape, seed) if body]
    decode = json.Decoder(BatchRequest).decode
    events = 0
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        for body in bodies:
            decode(body)
        events += len(bodies) * shape.batch
    return (time.thread_time() - began) / events * 1e6


def _bodies(shape: Shape, seed: int) -> list[bytes]:
    credential = Credential("kx_proj_decode", "kx_key_decode")
    ring = Ring(shape, [credential], "localhost", seed, now_us)
    return [bytes(request.data).partition(b"\r\n\r\n")[2] for request in islice(ring.requests(), BODIES)]
