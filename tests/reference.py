"""The slow, obvious twin of everything fast."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_P1 = 0x9E3779B185EBCA87
_P2 = 0xC2B2AE3D27D4EB4F
_P3 = 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63
_P5 = 0x27D4EB2F165667C5
_MASK = 2**64 - 1

MAX_PROBE = 1024


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes, seed: int = 0) -> int:
    """XXH64, step by step as its specification words it."""
    at = 0
    if len(data) >= 32:
        lanes = [(seed + _P1 + _P2) & _MASK, (seed + _P2) & _MASK, seed, (seed - _P1) & _MASK]
        while at + 32 <= len(data):
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], int.from_bytes(data[at : at + 8], "little"))
                at += 8
        value = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            value = ((value ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        value = (seed + _P5) & _MASK
    value = (value + len(data)) & _MASK
    while at + 8 <= len(data):
        value = (_rotate(value ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= len(data):
        word = int.from_bytes(data[at : at + 4], "little")
        value = (_rotate(value ^ word * _P1 & _MASK, 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        value = _rotate(value ^ byte * _P5 & _MASK, 11) * _P1 & _MASK
    value = (value ^ value >> 33) * _P2 & _MASK
    value = (value ^ value >> 29) * _P3 & _MASK
    return value ^ value >> 32


def encode(key: Any) -> bytes | None:
    """Return a key's UTF-8; None for what no vocabulary can hold."""
    if isinstance(key, bytes):
        return key
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError:
            return None
    assert key is None or key != key
    return None


def entries(batch: Any) -> list[bytes | None]:
    """Return the keys of a `KeyBatch` one at a time."""
    codes = range(len(batch)) if batch.codes is None else batch.codes.tolist()
    return [None if code < 0 else batch.data[batch.starts[code] : batch.stops[code]].tobytes() for code in codes]


def pack(keys: Iterable[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return keys end to end as data (b,) and offsets (v + 1,)."""
    keys = list(keys)
    offsets = np.array([sum(map(len, keys[:i])) for i in range(len(keys) + 1)], np.int64)
    return np.array(list(b"".join(keys)), np.uint8), offsets


def fill_slots(keys: Sequence[bytes], size: int, seed: int = 0) -> NDArray[np.uint64]:
    """Return the table of distinct `keys`, entered in their order."""
    slots = [0] * size
    for row, key in enumerate(keys):
        value = xxh64(key, seed)
        place = next(i % size for i in range(value, value + MAX_PROBE) if not slots[i % size])
        slots[place] = value >> 32 << 32 | row + 1
    return np.array(slots, np.uint64)


def find(vocabulary: Iterable[Any], keys: Iterable[Any]) -> NDArray[np.int64]:
    rows = {encode(key): row for row, key in enumerate(vocabulary)}
    rows[None] = -1
    return np.array([rows.get(encode(key), -1) for key in keys], np.int64)


def gather(vectors: NDArray[Any], rows: Iterable[int], oov: float = 0.0) -> NDArray[Any]:
    rows = list(rows)
    out = np.empty((len(rows), vectors.shape[1]), vectors.dtype)
    for i, row in enumerate(rows):
        out[i] = vectors[row] if 0 <= row < len(vectors) else oov
    return out


def align(
    known: Mapping[str, NDArray[np.float32]], vocabulary: Mapping[str, int], fill: Callable[[str], Any]
) -> NDArray[np.float32]:
    """Return the matrix of `vocabulary` (key -> row) over `known` (key -> vector), other keys by `fill`."""
    d = len(next(iter(known.values())))
    matrix = np.zeros((max(vocabulary.values(), default=-1) + 1, d), np.float32)
    for key, row in vocabulary.items():
        matrix[row] = known[key] if key in known else fill(key)
    return matrix


def normal(key: bytes, seed: int, mean: Sequence[float], deviation: Sequence[float]) -> list[float]:
    """Draw a key's vector: SplitMix64 from its hash, two uniforms for two components (Box and Muller)."""

    def uniform() -> float:
        nonlocal state
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK
        return ((z ^ z >> 31) // 2**11 + 1) / 2**53

    state = xxh64(key, seed)
    numbers: list[float] = []
    while len(numbers) < len(mean):
        radius, angle = math.sqrt(-2 * math.log(uniform())), 2 * math.pi * uniform()
        numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return [m + s * x for m, s, x in zip(mean, deviation, numbers, strict=False)]


def parse_text(text: bytes, *, dim: int, header: bool) -> list[tuple[bytes, NDArray[np.float32]]] | None:
    """Return each record's key and numbers; None if a line is none."""
    number = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
    records = []
    numbers_in_key = min(16, max(dim - 2, 3))
    for line in text.removesuffix(b"\n").split(b"\n")[1 if header else 0 :]:
        match = re.fullmatch(rb"(.*?)((?:[ \t]+[^ \t]+){%d})" % dim, line.removesuffix(b"\r").rstrip(b" \t"), re.DOTALL)
        if not match or not all(number.fullmatch(field) for field in re.split(rb"[ \t]+", match[2])[1:]):
            return None
        if sum(bool(number.fullmatch(field)) for field in re.split(rb"[ \t]+", match[1])[1:]) > numbers_in_key:
            return None
        with np.errstate(over="ignore"):
            records.append(
                (match[1], np.array([np.float32(field.decode()) for field in re.split(rb"[ \t]+", match[2])[1:]]))
            )
    return records


def widen(name: str, numbers: NDArray[Any], scales: Any = None) -> NDArray[np.float32]:
    """Return stored numbers (n, d) as float32; a signalling NaN of float16 becomes a quiet one or stays."""
    if name == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    if name == "int8":
        return numbers.astype(np.float32) * np.asarray(scales, np.float32)[:, None]
    return numbers.astype(np.float32)


def narrow_float16(bits: int) -> int:
    """Return the bits of a float32 as those of the nearest float16; a NaN is made quiet."""
    sign, magnitude = bits >> 31, bits & 0x7FFFFFFF
    if magnitude > 0x7F800000:
        return sign << 15 | 0x7E00 | magnitude >> 13 & 0x3FF
    with np.errstate(over="ignore", under="ignore"):
        return int(np.uint32(bits).view(np.float32).astype(np.float16).view(np.uint16))


def narrow_bfloat16(bits: int) -> int:
    """Return the bits of a float32 as those of the nearest bfloat16, ties to even; a NaN that is cut is made quiet."""
    upper, lower = bits >> 16, bits & 0xFFFF
    if bits & 0x7FFFFFFF > 0x7F800000:
        return upper | 0x40 if lower else upper
    # The numbers of one sign are in the order of their bits, and lie evenly between two bfloat16.
    return upper + (lower > 0x8000 or (lower == 0x8000 and upper % 2 == 1))


def int8_row(row: NDArray[np.float32], scale: np.float32) -> NDArray[np.int8]:
    """Return a row of finite numbers divided by a scale, the nearest integers from -127 to 127."""
    if scale == 0:
        return np.zeros(len(row), np.int8)
    with np.errstate(over="ignore"):
        return np.rint(np.clip(row / scale, -127, 127)).astype(np.int8)


def int8_scales(row: NDArray[np.float32]) -> list[np.float32]:
    """Return the scales that may hold a row of finite numbers exactly, in the order in which they are tried."""
    largest, scales = np.abs(row).max(initial=np.float32(0)), []
    nearest = np.float32(largest / np.float32(127))
    if nearest:
        scales.append(np.float32(2.0 ** max(math.ceil(math.log2(nearest)), -126)))
    for integer in range(127, 0, -1):
        nearest = np.float32(largest / np.float32(integer))
        scales += [nearest, np.nextafter(nearest, np.float32(np.inf)), np.nextafter(nearest, np.float32(-1))]
    return [scale for scale in scales if 0 < scale < np.inf] if largest else [np.float32(0)]


def narrow_int8(row: NDArray[np.float32], *, exact: bool) -> tuple[NDArray[np.int8], np.float32, bool]:
    """Return the integers and the scale of a row of finite numbers, and whether they give back each of its bits."""
    with np.errstate(over="ignore", under="ignore"):
        for scale in int8_scales(row) if exact else []:
            numbers = int8_row(row, scale)
            if widen("int8", numbers[None], [scale])[0].tobytes() == row.tobytes():
                return numbers, scale, True
        scale = np.float32(np.abs(row).max(initial=np.float32(0)) / np.float32(127))
        if np.isinf(scale * np.float32(127)):
            scale = np.nextafter(scale, np.float32(0))
    return int8_row(row, scale), scale, False


def pool(
    vectors: NDArray[np.float32],
    rows: Sequence[int],
    offsets: Sequence[int],
    pooling: str,
    *,
    weights: NDArray[np.float32] | None = None,
    normalize: bool = False,
) -> tuple[NDArray[np.float32], list[int]]:
    """Return a vector for each document ``rows[offsets[i]:offsets[i + 1]]``, and how many of its rows are known."""
    out, counts = np.zeros((len(offsets) - 1, vectors.shape[1]), np.float32), []
    for i in range(len(offsets) - 1):
        known = [row for row in rows[offsets[i] : offsets[i + 1]] if 0 <= row < len(vectors)]
        counts.append(len(known))
        if not known:
            continue
        total = np.zeros(vectors.shape[1])
        if pooling == "max":
            total = vectors[known].max(axis=0).astype(np.float64)
        else:
            for row in known[:1] if pooling == "first" else known:
                total = total + (1.0 if weights is None else float(weights[row])) * vectors[row].astype(np.float64)
        length = np.sqrt(np.cumsum(total**2)[-1])
        if normalize:
            total = total / (length if length > 0 else 1.0)
        elif pooling == "mean":
            total = total / len(known)
        out[i] = total
    return out, counts


def cut(text: str, filters: str, lower: bool, split: str) -> list[str]:
    """Cut a text as Keras's `text_to_word_sequence` does."""
    text = text.lower() if lower else text
    for character in dict.fromkeys(filters):
        # A filter that is in `split` would be replaced in what was put in another's place.
        text = text.replace(character, "\ud800")
    return [word for word in text.replace("\ud800", split).split(split) if word]


def tally(documents: Iterable[Sequence[Any]]) -> dict[Any, list[int]]:
    """Return how often each token occurs, in how many documents, and in which first, by first appearance."""
    tallies: dict[Any, list[int]] = {}
    for i, document in enumerate(documents):
        for token in document:
            tallies.setdefault(token, [0, 0, i])[0] += 1
        for token in set(document):
            tallies[token][1] += 1
    return tallies


def pad(sequences: Sequence[Sequence[int]], length: int, padding: str, truncating: str, value: int) -> list[list[int]]:
    """Return sequences as rows of one length, as Keras's `pad_sequences` does."""
    cut_ones = [list(ids[-length:] if truncating == "pre" else ids[:length]) if length else [] for ids in sequences]
    fills = [[value] * (length - len(ids)) for ids in cut_ones]
    return [fill + ids if padding == "pre" else ids + fill for ids, fill in zip(cut_ones, fills, strict=True)]


def csv_record_ends(data: bytes, delimiter: str, is_last: bool) -> list[int] | None:
    """Return where each record of CSV ends, empty lines being none; None if a quote stays open at the end."""
    ends, start, field, i = [], 0, "", 0
    text = data.decode("latin-1")
    while i < len(text):
        if field.startswith('"') and field.count('"') % 2:  # within quotes
            field += text[i]
            i += 1
        elif text[i] in "\r\n":
            if text[i] == "\r" and i + 1 == len(text) and not is_last:
                return ends
            stop = i + (2 if text[i : i + 2] == "\r\n" else 1)
            if i > start:
                ends.append(stop)
            start, field, i = stop, "", stop
        else:
            closed = field.startswith('"') and text[i] != '"'
            field = "" if text[i] == delimiter else "closed" if closed else field + text[i]
            i += 1
    if is_last and field.startswith('"') and field.count('"') % 2:
        return None
    return [*ends, len(text)] if is_last and len(text) > start else ends
