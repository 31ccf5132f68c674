"""Damage: bytes flipped, cut out, put in, doubled, and put together from two files."""

import re
from random import Random

_PIECES = [b"\n", b" ", b"\t", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"-", b".", b"e", b"1", b"nan", b"inf", b"\r\n"]
_PIECES += [
    b"0 ",
    b"1e",
    b"{",
    b"[",
    b'"',
    b"\\",
    b",",
    b":",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x93NUMPY",
    b"\\ud800",
    b"null",
]
_NUMBERS = [
    0,
    1,
    2,
    3,
    5,
    6,
    127,
    255,
    256,
    4096,
    65535,
    65536,
    2**20,
    2**31 - 1,
    2**31,
    2**32,
    2**62,
    2**63 - 1,
    2**63,
    10**18,
    10**19,
]
_LENGTHS = [2, 8, 9, 17, 64, 100, 1000, 4095, 4096, 4097, 5000]


def mutate(rng: Random, data: bytes, other: bytes = b"") -> bytes:
    """Return `data` with a few pieces of damage; `other` is a file to take parts from."""
    result = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        _damage(rng, result, other or data)
    return bytes(result)


def _damage(rng: Random, data: bytearray, other: bytes) -> None:
    # Headers decide most, so that half of all damage falls on the first bytes.
    size = len(data) if rng.random() < 0.5 else min(len(data), 100)
    at = rng.randint(0, size)
    length = rng.choice([1, 1, 2, 4, 8, rng.randint(0, 40), rng.randint(0, len(data))])
    choice = rng.randrange(12)
    if choice == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif choice == 1 and data:
        data[at % len(data)] = rng.choice([0, 1, 9, 10, 13, 32, 48, 57, 127, 128, 255, rng.randrange(256)])
    elif choice == 2:
        del data[at : at + length]
    elif choice == 3:
        del data[rng.randint(0, len(data)) :]
    elif choice == 4:
        data[at:at] = data[at : at + length]
    elif choice == 5:
        data[at:at] = rng.choice(_PIECES)
    elif choice == 6:
        data[at : at + rng.choice([0, 1])] = rng.choice(_PIECES)[:1] * rng.choice(_LENGTHS)
    elif choice in (7, 8):
        _change_number(rng, data)
    elif choice == 9:
        data[at : at + length] = rng.randbytes(length)
    elif choice == 10:
        start = rng.randint(0, len(other))
        data[at : at + rng.choice([0, length])] = other[start : start + length]
    else:
        value = rng.choice(_NUMBERS) + rng.choice([-1, 0, 0, 1])
        width = rng.choice([2, 4, 8])
        data[at : at + width] = (value % 256**width).to_bytes(width, "little")


def _change_number(rng: Random, data: bytearray) -> None:
    found = list(re.finditer(rb"[0-9]{1,20}", data[:4096]))
    if not found:
        return
    match = found[0] if rng.random() < 0.3 else rng.choice(found)
    value = int(match[0]) + rng.choice([-1, 1]) if rng.random() < 0.5 else rng.choice(_NUMBERS)
    data[match.start() : match.end()] = b"%d" % value
