"""Arrays between pages that nobody may touch, and the calls of every kernel on them: ``python -m fuzz.guarded``.

An array ends where a forbidden page begins, or begins where one ends, so that a kernel that reads or writes one byte
outside dies there. Arrays that a kernel only reads cannot be written to. The results must be those on usual arrays.
"""

import argparse
import ctypes
import faulthandler
import mmap
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

import vecstore.kernels
from fuzz import seeds
from fuzz.mutation import mutate
from vecstore.index import new_memo, slots_for
from vecstore.kernels.counting import count_keys
from vecstore.kernels.csv import find_records
from vecstore.kernels.cutting import cut_texts
from vecstore.kernels.gathering import gather_rows, gather_rows_bfloat16, gather_rows_float16, gather_rows_int8
from vecstore.kernels.ints import read_ints
from vecstore.kernels.lanes import LANES
from vecstore.kernels.lookup import count_taken, find_row, find_rows, hash_keys, insert_rows
from vecstore.kernels.machine import Kernel, view
from vecstore.kernels.narrowing import (
    holds_bfloat16,
    holds_float16,
    holds_int8,
    measure,
    narrow_bfloat16,
    narrow_float16,
    narrow_int8,
)
from vecstore.kernels.packing import measure_codes, pack_codes, pack_keys, pack_texts
from vecstore.kernels.padding import keep_ids, pad_ids
from vecstore.kernels.paging import ask_for_rows, count_absent
from vecstore.kernels.pooling import pool_rows, pool_rows_bfloat16, pool_rows_float16, pool_rows_int8
from vecstore.kernels.recalling import find_tokens
from vecstore.kernels.records import cut_records, survey
from vecstore.kernels.sampling import draw_normal
from vecstore.kernels.text import POWERS, find_lines, parse_lines
from vecstore.kernels.writing import NUMBER_BYTES, find_key_with, write_lines, write_records
from vecstore.kernels.writing import POWERS as WRITING_POWERS
from vecstore.tokenizer import FILTERS, tables

_NONE, _READ, _READ_WRITE = 0, mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE
_PADDING = 8  # bytes that the kernels of text may read after the last newline


class Guarded:
    """A copy of an array between two forbidden pages; at the end of its own pages, or at their start."""

    def __init__(self, array: np.ndarray, *, at_end: bool, writable: bool) -> None:
        pages = -(-array.nbytes // mmap.PAGESIZE)
        self._map = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
        start = mmap.PAGESIZE + (pages * mmap.PAGESIZE - array.nbytes if at_end else 0)
        self.array: np.ndarray = np.frombuffer(self._map, array.dtype, array.size, start).reshape(array.shape)
        self.array[...] = array
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._size = pages * mmap.PAGESIZE
        self._protect(0, mmap.PAGESIZE, _NONE)
        self._protect(mmap.PAGESIZE + self._size, mmap.PAGESIZE, _NONE)
        if not writable:
            self._protect(mmap.PAGESIZE, self._size, _READ)

    def _protect(self, start: int, size: int, access: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if size and libc.mprotect(ctypes.c_void_p(self._address + start), ctypes.c_size_t(size), access):
            raise OSError(ctypes.get_errno(), "mprotect")


class Call(NamedTuple):
    """A call of a kernel, and which of its arguments it writes to."""

    kernel: Callable[..., Any]
    args: tuple[Any, ...]
    written: tuple[int, ...]


def packed(keys: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, keys)]).astype(np.int64)
    return np.frombuffer(b"".join(keys), np.uint8), offsets


def some_keys(rng: Random) -> list[bytes]:
    return [
        rng.randbytes(rng.choice([0, 1, 3, 4, 7, 8, 9, 15, 31, 32, 33, 70])) for _ in range(rng.choice([0, 1, 5, 300]))
    ]


def some_int64(rng: Random, count: int, near: int) -> np.ndarray:
    values = [
        rng.choice([rng.randint(-2, near + 2), rng.randint(0, max(near, 0)), rng.randint(-(2**63), 2**63 - 1)])
        for _ in range(count)
    ]
    return np.array(values, np.int64)


def batch(rng: Random, keys: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data, offsets = packed(
        [rng.choice(keys) if keys and rng.random() < 0.8 else rng.randbytes(5) for _ in range(rng.choice([0, 1, 300]))]
    )
    return data, offsets[:-1], offsets[1:]


def table(rng: Random) -> tuple[list[bytes], np.ndarray, np.ndarray, np.ndarray]:
    """Return keys and a table of them, damaged or not: slots, data, offsets."""
    keys = list(dict.fromkeys(some_keys(rng)))
    data, offsets = packed(keys)
    slots = np.zeros(slots_for(len(keys)) if rng.random() < 0.8 else 1, np.uint64)
    insert_rows(data, offsets, 0, 0, min(len(keys), len(slots) - 1), slots, np.empty(len(keys), np.int64))
    offsets = offsets.copy()
    for _ in range(rng.choice([0, 0, 1, 5, 400])):
        if rng.random() < 0.5:
            offsets[rng.randrange(len(offsets))] = some_int64(rng, 1, len(data))[0]
        else:
            i = rng.randrange(len(slots))
            row = rng.choice([rng.getrandbits(32), len(keys), len(keys) + 1, 2**32 - 1, 1])
            slots[i] = int(slots[i]) >> 32 << 32 | row if rng.random() < 0.7 else rng.getrandbits(64)
    return keys, slots, data, offsets


def call_hash_keys(rng: Random) -> Call:
    data, starts, stops = batch(rng, some_keys(rng))
    n = len(starts)
    return Call(
        hash_keys, (data, starts, stops, rng.getrandbits(64), rng.randint(0, n), n, np.zeros(n, np.uint64)), (6,)
    )


def call_find_rows(rng: Random) -> Call:
    keys, *arrays = table(rng)
    data, starts, stops = batch(rng, keys)
    n = len(starts)
    return Call(find_rows, (data, starts, stops, *arrays, 0, rng.randint(0, n), n, np.zeros(n, np.int64)), (9,))


def call_find_row(rng: Random) -> Call:
    keys, *arrays = table(rng)
    key = rng.choice(keys) if keys and rng.random() < 0.8 else rng.randbytes(9)
    return Call(lambda key, *rest: find_row.bind(*rest)(key), (key, *arrays, 0), ())


def call_insert_rows(rng: Random) -> Call:
    keys = some_keys(rng)
    data, offsets = packed(keys)
    slots = np.zeros(rng.choice([slots_for(len(keys)), 8, 1]), np.uint64)
    for _ in range(rng.choice([0, 0, 5])):
        slots[rng.randrange(len(slots))] = rng.getrandbits(64)
    return Call(insert_rows, (data, offsets, 0, 0, len(keys), slots, np.zeros(len(keys), np.int64)), (5, 6))


def call_count_taken(rng: Random) -> Call:
    return Call(count_taken, (np.frombuffer(rng.randbytes(8 * rng.randrange(70)), np.uint64),), ())


def call_gather_rows(rng: Random) -> Call:
    v, n, d = rng.randint(0, 9), rng.choice([0, 1, 50]), rng.choice([0, 1, 3, 20, 300])
    rows, out = some_int64(rng, n, v), np.zeros((n, d), np.float32)
    return Call(gather_rows, (seeds.matrix(rng, v, d), rows, 1.5, rng.randrange(2), rng.randint(0, n), n, out), (6,))


def call_count_absent(rng: Random) -> Call:
    vectors = np.ones((rng.randint(1, 9), 300), np.float32)
    rows = np.array([rng.randrange(-1, len(vectors)) for _ in range(rng.choice([0, 1, 50]))], np.int64)
    step = rng.choice([1, 7])

    def count(vectors: np.ndarray, rows: np.ndarray) -> int:
        return count_absent(view(vectors).address, vectors.strides[0], rows, step, mmap.PAGESIZE)

    return Call(count, (vectors, rows), ())


def call_ask_for_rows(rng: Random) -> Call:
    vectors = np.ones((rng.randint(1, 99), 300), np.float32)
    rows = np.array([row for row in range(len(vectors)) if rng.random() < 0.3], np.int64)

    def ask(vectors: np.ndarray, rows: np.ndarray) -> None:
        ask_for_rows(view(vectors).address, vectors.strides[0], rows, mmap.PAGESIZE, 0, len(rows))

    return Call(ask, (vectors, rows), ())


def gather_narrow(rng: Random, kernel: Kernel, kind: type, *, scaled: bool = False) -> Call:
    v, n, d = rng.randint(0, 9), rng.choice([0, 1, 50]), rng.choice([0, 1, 3, 20, 70, 2100])
    kept: list[np.ndarray] = [np.frombuffer(rng.randbytes(v * d * np.dtype(kind).itemsize), kind).reshape(v, d)]
    kept += [np.frombuffer(rng.randbytes(4 * v), np.float32)] if scaled else []
    rows, out = some_int64(rng, n, v), np.zeros((n, d), np.float32)
    return Call(kernel, (*kept, rows, 1.5, rng.randrange(2), rng.randint(0, n), n, out), (len(kept) + 5,))


def call_gather_rows_bfloat16(rng: Random) -> Call:
    return gather_narrow(rng, gather_rows_bfloat16, np.uint16)


def call_gather_rows_float16(rng: Random) -> Call:
    return gather_narrow(rng, gather_rows_float16, np.uint16)


def call_gather_rows_int8(rng: Random) -> Call:
    return gather_narrow(rng, gather_rows_int8, np.int8, scaled=True)


def pool(rng: Random, kernel: Kernel, dtype: type, *, scaled: bool = False) -> Call:
    v, n, d = rng.randint(0, 9), rng.choice([0, 1, 7]), rng.choice([0, 1, 3, 20, 300])
    vectors = np.frombuffer(rng.randbytes(v * d * np.dtype(dtype).itemsize), dtype).reshape(v, d)
    kept = (vectors, np.ones(v, np.float32)) if scaled else (vectors,)
    offsets = np.cumsum([0, *(rng.choice([0, 1, 5, 40]) for _ in range(n))]).astype(np.int64)
    rows = some_int64(rng, int(offsets[-1]) + rng.choice([0, 0, 3]), v)
    weights = rng.choice([np.ones(v, np.float32), np.ones(0, np.float32)])
    written = np.zeros(max(d, LANES)), np.zeros(n, np.int64), np.zeros((n, d), np.float32)
    args = (*kept, weights, rows, offsets, rng.randrange(4), rng.randrange(2), *written)
    places = len(kept) + 1, *range(len(args) - 3, len(args))  # of rows, and of what comes last
    return Call(kernel, args, places)


def call_pool_rows(rng: Random) -> Call:
    return pool(rng, pool_rows, np.float32)


def call_pool_rows_bfloat16(rng: Random) -> Call:
    return pool(rng, pool_rows_bfloat16, np.uint16)


def call_pool_rows_float16(rng: Random) -> Call:
    return pool(rng, pool_rows_float16, np.uint16)


def call_pool_rows_int8(rng: Random) -> Call:
    return pool(rng, pool_rows_int8, np.int8, scaled=True)


def some_bits(rng: Random) -> np.ndarray:
    """Return numbers (n, d) as uint32: any, or such as fewer bits hold."""
    n, d = rng.choice([0, 1, 2, 9]), rng.choice([0, 1, 3, 20, 70])
    bits = np.frombuffer(rng.randbytes(4 * n * d), np.uint32).reshape(n, d)
    return rng.choice(
        [bits, bits & np.uint32(0xBFFF0000), (bits.astype(np.int8).astype(np.float32) / 8).view(np.uint32)]
    )


def call_holds_bfloat16(rng: Random) -> Call:
    return Call(holds_bfloat16, (some_bits(rng),), ())


def call_holds_float16(rng: Random) -> Call:
    return Call(holds_float16, (some_bits(rng),), ())


def call_holds_int8(rng: Random) -> Call:
    return Call(holds_int8, (some_bits(rng),), ())


def call_narrow_bfloat16(rng: Random) -> Call:
    bits = some_bits(rng)
    return Call(narrow_bfloat16, (bits, np.zeros(bits.shape, np.uint16)), (1,))


def call_narrow_float16(rng: Random) -> Call:
    bits = some_bits(rng)
    return Call(narrow_float16, (bits, np.zeros(bits.shape, np.uint16)), (1,))


def call_narrow_int8(rng: Random) -> Call:
    bits = some_bits(rng)
    out = np.zeros(bits.shape, np.int8), np.zeros(len(bits), np.float32)
    return Call(narrow_int8, (bits, rng.randrange(2), *out), (2, 3))


def call_measure(rng: Random) -> Call:
    vectors = some_bits(rng).view(np.float32)
    return Call(measure, (vectors, np.roll(vectors, 1), np.zeros(3)), (2,))


def call_draw_normal(rng: Random) -> Call:
    n, d = rng.choice([0, 1, 9]), rng.choice([0, 1, 2, 5])
    hashes = np.frombuffer(rng.randbytes(8 * n), np.uint64)
    return Call(draw_normal, (hashes, np.ones(d), np.ones(d), 0, n, np.zeros((n, d), np.float32)), (5,))


def call_survey(rng: Random) -> Call:
    vectors = seeds.matrix(rng, rng.randrange(9), rng.choice([1, 3, 20]))
    d = vectors.shape[1]
    counts = np.zeros(5, np.int64)
    return Call(survey, (vectors, vectors.view(np.uint32), np.zeros(d), np.zeros(d), counts), (2, 3, 4))


def call_pack_keys(rng: Random) -> Call:
    data, starts, stops = batch(rng, some_keys(rng))
    order = np.array(rng.sample(range(len(starts)), len(starts)), np.int64)
    size = int((stops - starts).sum())
    args = (data, starts[order], stops[order], np.zeros(size, np.uint8), np.zeros(len(starts) + 1, np.int64))
    return Call(pack_keys, args, (3, 4))


def some_texts(rng: Random) -> tuple[Any, ...]:
    return tuple(key if rng.random() < 0.5 else key.decode("latin-1") for key in some_keys(rng))


def call_pack_texts(rng: Random) -> Call:
    texts: list[Any] = [*some_texts(rng)]
    size = sum(len(text if isinstance(text, bytes) else text.encode()) for text in texts)
    if texts and rng.random() < 0.3:
        texts[rng.randrange(len(texts))] = rng.choice([None, 1, "\ud800"])
    room = rng.choice([size, size // 2, 0])
    is_list = rng.random() < 0.5
    n = len(texts) + (is_list and rng.random() < 0.1)  # as if the list had lost an item
    keys = texts if is_list else tuple(texts)
    return Call(pack_texts, (keys, is_list, np.zeros(n + 1, np.int64), np.zeros(room, np.uint8)), (2, 3))


def some_codes(rng: Random, *, sound: bool) -> np.ndarray:
    codes = np.zeros((rng.choice([0, 1, 50]), rng.choice([1, 3, 20])), np.uint32)
    for i in range(codes.size):
        code = rng.choice([0, 65, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF])
        codes.flat[i] = code if sound or rng.random() < 0.99 else rng.choice([0xD800, 0xDFFF, 0x110000, 2**32 - 1])
    return codes


def call_measure_codes(rng: Random) -> Call:
    codes = some_codes(rng, sound=False)
    return Call(measure_codes, (codes, np.zeros(len(codes) + 1, np.int64)), (1,))


def call_pack_codes(rng: Random) -> Call:
    codes = some_codes(rng, sound=True)
    offsets = np.zeros(len(codes) + 1, np.int64)
    measure_codes(codes, offsets)
    return Call(pack_codes, (codes, np.zeros(offsets[-1], np.uint8)), (1,))


def call_read_ints(rng: Random) -> Call:
    values = [rng.choice([0, -1, rng.getrandbits(62), -(2**63), 2**63 - 1]) for _ in range(rng.choice([0, 1, 5, 300]))]
    if values and rng.random() < 0.3:
        values[rng.randrange(len(values))] = rng.choice([None, True, False, 2**63, 1.0])
    return Call(read_ints, (tuple(values), True, False, np.zeros(len(values), np.int64)), (3,))


def call_cut_records(rng: Random) -> Call:
    block = mutate(rng, seeds.word2vec(rng).partition(b"\n")[2])
    width = 4 * rng.choice([1, 2, 3, 5, 20])
    start = rng.choice([0, 0, rng.randint(0, len(block))])
    stop = rng.choice([len(block), len(block), rng.randint(start, len(block))])
    limit = rng.choice([1, 3, (stop - start) // (width + 1) + 1])
    return Call(
        cut_records,
        (
            np.frombuffer(block, np.uint8),
            start,
            stop,
            width,
            limit,
            rng.randrange(2),
            np.zeros(len(block), np.uint8),
            np.zeros(limit + 1, np.int64),
            np.zeros(limit * width, np.uint8),
            np.zeros(limit, np.int64),
            np.zeros(2, np.int64),
        ),
        (6, 7, 8, 9, 10),
    )


def some_lines(rng: Random) -> bytes:
    text = seeds.text(rng, header=False)
    text = text if rng.random() < 0.2 else mutate(rng, text)
    return text.rstrip(b"\n") + rng.choice([b"", b"9", b".", b"-", b" -.", b"e", b"1e", b"1e+", b"\r", b" \r"]) + b"\n"


def call_find_lines(rng: Random) -> Call:
    text = some_lines(rng)
    block = np.frombuffer(text + rng.choice([bytes(_PADDING), b"\n" * _PADDING, b"1" * _PADDING]), np.uint8)
    start = rng.choice([0, 0, rng.randint(0, len(text))])
    return Call(find_lines, (block, start, len(text), np.zeros(rng.choice([0, 1, text.count(b"\n")]), np.int64)), (3,))


def call_parse_lines(rng: Random) -> Call:
    text = some_lines(rng)
    block = np.frombuffer(text + rng.choice([bytes(_PADDING), b" " * _PADDING, b"1" * _PADDING]), np.uint8)
    ends = np.flatnonzero(block[: len(text)] == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    n, dim = len(ends), rng.choice([1, 2, 3, 5, 20])
    start = rng.randint(0, n)
    outputs = (np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.uint8), np.zeros((n, dim), np.float32))
    return Call(parse_lines, (block, starts, ends, start, n, POWERS, *outputs), (6, 7, 8, 9))


def call_write_lines(rng: Random) -> Call:
    keys = some_keys(rng)
    data, offsets = packed(keys)
    vectors = np.frombuffer(rng.randbytes(4 * len(keys) * 3), np.float32).reshape(len(keys), 3)
    if rng.random() < 0.3:
        vectors = np.full_like(
            vectors, rng.choice([-1.17549435e-38, -3.4028235e38, 123456.78, -999999.94, 1e-45, -0.00012345678])
        )
    start = rng.randint(0, len(keys))
    size = int(offsets[-1] - offsets[start]) + (len(keys) - start) * (NUMBER_BYTES * 3 + 1)
    args = (data, offsets[:-1], offsets[1:], vectors, vectors.view(np.uint32), WRITING_POWERS, start, len(keys))
    return Call(write_lines, (*args, np.zeros(size, np.uint8)), (8,))


def call_write_records(rng: Random) -> Call:
    keys = some_keys(rng)
    data, offsets = packed(keys)
    width, space, newline = 12, rng.randrange(2), rng.randrange(2)
    rows = np.frombuffer(rng.randbytes(len(keys) * width), np.uint8)
    out = np.zeros(len(data) + len(keys) * (width + space + newline), np.uint8)
    return Call(write_records, (data, offsets[:-1], offsets[1:], rows, width, space, newline, 0, len(keys), out), (9,))


def call_find_key_with(rng: Random) -> Call:
    data, offsets = packed(some_keys(rng))
    return Call(find_key_with, (data, offsets[:-1], offsets[1:], rng.randrange(256), 300, 0), ())


def call_cut_texts(rng: Random) -> Call:
    texts = [rng.choice(["a b", "ΣİÄß é", "日本 語", "🙂", ""]).encode() + rng.randbytes(rng.choice([0, 0, 1, 3]))]
    texts = [
        rng.choice([text, text[: rng.randint(0, len(text))], b"A, b!" * rng.choice([9, 11, 40])]) for text in texts * 9
    ]
    data, offsets = packed(texts)
    start = rng.randint(0, len(texts))
    n, size = len(texts) - start, int(offsets[-1] - offsets[start])
    bounds = (np.zeros((size + n) // 2 + 2, np.int64) for _ in range(2))
    outputs = np.zeros(size, np.uint8), *bounds, np.zeros(n, np.int64)
    lookups = tables(rng.choice([FILTERS, "é日"]), rng.random() < 0.5, rng.choice(" 🙂"))
    return Call(cut_texts, (data, offsets[:-1], offsets[1:], *lookups, start, len(texts), *outputs), (9, 10, 11, 12))


def call_find_records(rng: Random) -> Call:
    pieces = [b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"ab", b"\xff"]
    data = b"".join(rng.choice(pieces) for _ in range(rng.randrange(60)))
    block = np.frombuffer(data, np.uint8)
    ends = np.zeros(data.count(b"\n") + data.count(b"\r") + 1, np.int64)
    return Call(find_records, (block, ord(","), rng.randrange(2), ends), (3,))


def call_find_tokens(rng: Random) -> Call:
    keys, *arrays = table(rng)
    data, starts, stops = batch(rng, keys)
    memo = new_memo()[: rng.choice([1, 2, 1024])].copy()
    return Call(find_tokens, (data, starts, stops, *arrays, 0, memo, np.zeros(len(starts), np.int64)), (7, 8))


def call_count_keys(rng: Random) -> Call:
    data, starts, stops = batch(rng, some_keys(rng))
    n, room = len(starts), rng.choice([1, 4, 512])
    bounds = np.array([0, *sorted(rng.randint(0, n) for _ in range(rng.choice([0, 1, 9]))), n], np.int64)
    size = rng.choice([0, 9, len(data)])
    offsets, tallies = np.zeros(room + 1, np.int64), np.zeros((room, 4), np.int64)
    memo = new_memo()[: rng.choice([1, 2, 1024])].copy()
    table = (0, np.zeros(slots_for(room), np.uint64), np.zeros(size, np.uint8), offsets, tallies, memo)
    written = (7, 8, 9, 10, 11, 12)
    return Call(count_keys, (data, starts, stops, bounds, 3, 0, *table, np.zeros(1, np.int64)), written)


def call_keep_ids(rng: Random) -> Call:
    n, keys = rng.choice([0, 1, 50]), rng.randint(0, 9)
    rows = np.array([rng.randrange(-1, keys) for _ in range(n)], np.int64)
    bounds = np.array([0, *sorted(rng.randint(0, n) for _ in range(rng.choice([0, 1, 9]))), n], np.int64)
    ids_of = np.array([rng.randrange(-1, 9) for _ in range(keys + 1)], np.int32)
    outputs = np.zeros(n, np.int32), np.zeros(len(bounds), np.int64)
    return Call(keep_ids, (rows, bounds, ids_of, rng.choice([0, 1, 3, 99]), rng.randrange(2), *outputs), (5, 6))


def call_pad_ids(rng: Random) -> Call:
    lengths = [rng.randint(0, 5) for _ in range(rng.choice([0, 1, 9]))]
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    out = np.zeros((len(lengths), max([0, *lengths]) + rng.randrange(3)), np.int32)
    args = (np.arange(offsets[-1], dtype=np.int32), offsets, -7, rng.randrange(2), 0, len(lengths))
    return Call(pad_ids, (*args, out), (6,))


CALLS: list[Callable[[Random], Call]] = [
    call_hash_keys,
    call_find_rows,
    call_find_row,
    call_insert_rows,
    call_count_taken,
    call_cut_texts,
    call_find_records,
    call_find_tokens,
    call_count_keys,
    call_keep_ids,
    call_pad_ids,
    call_gather_rows,
    call_count_absent,
    call_ask_for_rows,
    call_gather_rows_bfloat16,
    call_gather_rows_float16,
    call_gather_rows_int8,
    call_pool_rows,
    call_pool_rows_bfloat16,
    call_pool_rows_float16,
    call_pool_rows_int8,
    call_holds_bfloat16,
    call_holds_float16,
    call_holds_int8,
    call_narrow_bfloat16,
    call_narrow_float16,
    call_narrow_int8,
    call_measure,
    call_draw_normal,
    call_survey,
    call_pack_keys,
    call_pack_texts,
    call_measure_codes,
    call_pack_codes,
    call_read_ints,
    call_cut_records,
    call_find_lines,
    call_parse_lines,
    call_write_lines,
    call_write_records,
    call_find_key_with,
]


def kernels() -> dict[str, Kernel]:
    """Return every kernel that there is."""
    folder = Path(vecstore.kernels.__file__).parent
    modules = [
        import_module(f"vecstore.kernels.{path.stem}") for path in folder.glob("*.py") if path.stem != "__init__"
    ]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Kernel)]
    return {kernel.function.__name__: kernel for kernel in found}


def compare(call: Call, *, at_end: bool) -> None:
    """Run a call on guarded and on usual arrays."""
    usual = [np.ascontiguousarray(arg).copy() if isinstance(arg, np.ndarray) else arg for arg in call.args]
    guarded = [
        Guarded(arg, at_end=at_end, writable=i in call.written) if isinstance(arg, np.ndarray) else None
        for i, arg in enumerate(usual)
    ]
    found = call.kernel(*(arg if guard is None else guard.array for arg, guard in zip(usual, guarded, strict=True)))
    assert found == call.kernel(*usual)
    for i in call.written:
        np.testing.assert_array_equal(_bytes(guarded[i].array), _bytes(usual[i]))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(array.tobytes(), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz.guarded")
    parser.add_argument("--count", type=int, default=100, help="calls of each kernel")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faulthandler.enable()
    for make in CALLS:
        for i in range(options.count):
            for at_end in (True, False):
                print(f"{make.__name__} {options.seed} {i} {at_end=}", flush=True)
                compare(make(Random(f"{make.__name__} {options.seed} {i}")), at_end=at_end)
    print("sound")


if __name__ == "__main__":
    sys.exit(main())
