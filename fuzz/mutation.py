"""Changes that leave most of a body JSON: a mutation byte by byte would seldom come past the parser."""

import re
from random import Random

from kixo.event import BatchRequest, Event

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|[\[\]{}:,]')
NAMES = (*BatchRequest.__struct_fields__, *Event.__struct_fields__)
VALUES = (
    *(
        b"null",
        b"true",
        b"0",
        b"-0",
        b"1e999",
        b"9" * 40,
        b"{}",
        b"[]",
        b'""',
        b'"kx_key_xyz789"',
        b'"ios"',
        b'"staging"',
    ),
    *(rb'"\ud83d"', rb'"\u0000"', rb'"\ud83d\ude00"', rb'"kx\u005fkey_xyz789"', rb'"{\"a\":\"kx_key_xyz789\"}"'),
    *(b'"2026-04-08T12:00:00Z"', b'"2026-W15-3"', b'"0001-01-01T00+23:59"', b'"9999-12-31t23:59:60z"', b'"1e5"'),
    *(b"[" * 120 + b"]" * 120, b'{"a":' * 100 + b"1" + b"}" * 100, b'"' + b"x" * 300 + b'"', b'{"[{":"]}\\""}'),
    *(b'{"a":"' + b"[" * size + b'"}' for size in (200, 9_000, 70_000)),
    *(b'"' + name.encode() + b'"' for name in NAMES),
)


def mutate(data: bytes, length_max: int, dice: Random) -> bytes:
    """The input with one to three of its tokens replaced, left out, doubled, exchanged or written with escapes."""
    for _ in range(dice.randint(1, 3)):
        tokens = [found.span() for found in _TOKEN.finditer(data, 1)]
        if not tokens:
            return data
        start, end = dice.choice(tokens)
        data = data[:start] + _changed(data, data[start:end], tokens, dice) + data[end:]
    return data[:length_max]


def _changed(data: bytes, token: bytes, tokens: list[tuple[int, int]], dice: Random) -> bytes:
    choice = dice.randrange(6)
    if choice == 0:
        return b""
    if choice == 1:
        start, end = dice.choice(tokens)
        return data[start:end]
    if choice == 2:
        first, last = sorted(dice.sample(tokens, 2)) if len(tokens) > 1 else (tokens[0], tokens[0])
        return token + b"," + data[first[0] : last[1]]
    if choice == 3 and len(token) > 2:
        place = dice.randrange(1, len(token) - 1)
        return token[:place] + b"\\u%04x" % token[place] + token[place + 1 :]
    return dice.choice(VALUES)
