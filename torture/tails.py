"""A damaged log: cut at every byte, and every byte changed, one at a time, through the real reader, writer and loader.

Every variant is a partition of one log, so that one run of the loader takes them all. A writer then opens each, as
after a crash, and appends one more event. What the ledger has received of a partition has to be exactly the whole
frames that are left and that one event: never less, never a wrong event, and never a silent one.
"""

import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

from kixo.bench.traffic import Credential
from kixo.log import segment
from kixo.log.folder import ensure_log
from kixo.settings import Settings
from kixo.timestamp import now_us
from torture import lake, oracle
from torture.account import Account
from torture.event import Source
from torture.recovery import Told, append, load_all, open_writer, plain_token
from torture.trial import Orders
from torture.verdict import Verdict

# Frames of one, three and two events: small, so that there are few bytes to try.
BATCHES = (("0-1-i",), ("0-2-f", "0-3-i", "0-4-f"), ("0-5-f", "0-6-i"))
SHORT_STRIDE = 23
CREDENTIAL = Credential("kx_proj_torture", "kx_key_torture")
PARTITIONS_MAX = 500


class Variant(NamedTuple):
    """A damaged segment: what was done, its bytes, and how many events of it have to be read all the same."""

    name: str
    data: bytes
    events: int
    reported: bool


def damage_log(orders: Orders) -> Verdict:
    """Every cut and every changed byte of a small segment; in the short form every few bytes."""
    began_s, dice = time.monotonic(), Random(f"{orders.seed}/tails")
    source = Source(orders.seed, now_us())
    original = _segment(orders.folder / "original", source)
    variants = _variants(original, SHORT_STRIDE if orders.short else 1, dice)
    broken: list[str] = []
    lost = doubled = wrong = 0
    for start in range(0, len(variants), PARTITIONS_MAX):
        some = variants[start : start + PARTITIONS_MAX]
        folder = orders.folder / f"tails-{start}"
        broken += _load(folder, some, start, source)
        found = oracle.reconcile(folder / "lake", _account(some, start, source), source)
        lost, doubled, wrong = lost + len(found.lost), doubled + len(found.doubled), wrong + len(found.foreign)
        broken += found.altered
    faults = Counter(variant.name.split()[0] for variant in variants)
    return Verdict(
        attack="tails",
        seed=orders.seed,
        seconds=round(time.monotonic() - began_s, 1),
        faults=dict(faults),
        acknowledged=len(variants),
        lost=lost,
        doubled=doubled,
        foreign=wrong,
        broken=broken,
        figures={"bytes of the segment": len(original)},
    )


def _segment(folder: Path, source: Source) -> bytes:
    ensure_log(folder)
    with closing(open_writer(folder, 0, Told())) as writer:
        for tokens in BATCHES:
            append(writer, tokens, CREDENTIAL, source)
    return next((folder / "0").glob("*.log")).read_bytes()


def _variants(original: bytes, stride: int, dice: Random) -> list[Variant]:
    ends = _ends(original)
    cuts = [_cut(original, place, ends) for place in range(dice.randrange(stride), len(original), stride)]
    flips = [_flip(original, place, ends, dice) for place in range(dice.randrange(stride), len(original), stride)]
    return [*cuts, *flips]


def _cut(original: bytes, place: int, ends: list[tuple[int, int]]) -> Variant:
    events = sum(count for end, count in ends if end <= place)
    whole = place in {0, segment.HEADER_BYTES, *(end for end, _ in ends)}
    return Variant(f"cut at {place}", original[:place], events, not whole or place == 0)


def _flip(original: bytes, place: int, ends: list[tuple[int, int]], dice: Random) -> Variant:
    changed = bytearray(original)
    changed[place] ^= dice.randint(1, 255)
    hit = next((end for end, _ in ends if place < end), 0) if place >= segment.HEADER_BYTES else 0
    events = sum(count for end, count in ends if end != hit)
    return Variant(f"changed at {place}", bytes(changed), events, True)


def _ends(original: bytes) -> list[tuple[int, int]]:
    """Where each frame ends, and how many events it has."""
    ends = [end for _, end in segment.scan(original, segment.HEADER_BYTES)]
    return [(end, len(tokens)) for end, tokens in zip(ends, BATCHES, strict=True)]


def _load(folder: Path, variants: list[Variant], start: int, source: Source) -> list[str]:
    """Writes the variants as partitions, opens and appends to each, loads all; what is wrong, in sentences."""
    told = {number: Told() for number in range(len(variants))}
    log = folder / "log"
    ensure_log(log)
    for number, variant in enumerate(variants):
        path = log / str(number) / segment.file_name(0)
        path.parent.mkdir()
        path.write_bytes(variant.data)
        with closing(open_writer(log, number, told[number])) as writer:
            append(writer, (plain_token(start + number, source),), CREDENTIAL, source)
    said = Told()
    load_all(Settings(data_dir=folder), said)
    for text in said.infos:
        told[int(text.split(" of ")[1].split("/")[0])].infos.append(text)
    return [*said.errors, *_faults(folder, variants, told)]


def _faults(folder: Path, variants: list[Variant], told: dict[int, Told]) -> list[str]:
    received: Counter[int] = Counter()
    for row in lake.rows(folder / "lake" / "loads", ("log_partition", "received")):
        received[row["log_partition"]] += row["received"]
    wrong = [
        f"{variant.name}: {received[number]} events were read where {variant.events + 1} had to be."
        for number, variant in enumerate(variants)
        if received[number] != variant.events + 1
    ]
    silent = [
        f"{variant.name}: nothing was reported."
        for number, variant in enumerate(variants)
        if variant.reported and not told[number].infos
    ]
    return wrong + silent


def _account(variants: list[Variant], start: int, source: Source) -> Account:
    """What must be in the tables: the event that was appended to each partition. The others may be, once."""
    account = Account()
    account.note_sent([token for tokens in BATCHES for token in tokens])
    tokens = [plain_token(start + number, source) for number in range(len(variants))]
    account.note_sent(tokens)
    account.accepted.update(tokens)
    return account
