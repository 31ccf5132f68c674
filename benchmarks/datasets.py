"""The files that benchmarks run on: real GloVe vectors, and a file of GoogleNews's exact shape.

GoogleNews itself (3,000,000 x 300, 3.64 GB) is in no package registry. `googlenews` writes a file like it: keys
made of GloVe's tokens, their capitalised forms and phrases joined by ``_``; vectors of normal numbers rounded to
bfloat16, as GoogleNews's published values are.

    python benchmarks/datasets.py googlenews FILE    # writes the large file, in about 20 seconds
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from vecstore.demo import glove_6b_50d
from vecstore.formats.writers import write_text

GOOGLENEWS_SHAPE = (3_000_000, 300)
_CHUNK = 20_000
_DIGITS = 9


def googlenews_keys(count: int = GOOGLENEWS_SHAPE[0], seed: int = 0) -> list[str]:
    """Return `count` distinct keys: GloVe's tokens, their capitalised forms, and phrases of two or three."""
    tokens, _ = glove_6b_50d()
    keys = dict.fromkeys(["</s>", *tokens])
    keys.update(dict.fromkeys(token.capitalize() for token in tokens))
    rng = np.random.default_rng(seed)
    frequent = np.array(tokens[:50_000], dtype=object)
    while len(keys) < count:
        first, second, third = frequent[rng.zipf(1.2, (3, count // 2)) % len(frequent)]
        keys.update(dict.fromkeys(f"{a}_{b}" for a, b in zip(first, second, strict=True)))
        keys.update(dict.fromkeys(f"{a.capitalize()}_{b}_{c}" for a, b, c in zip(first, second, third, strict=True)))
    return list(keys)[:count]


def numbered_keys(numbers: ArrayLike) -> pa.Array:
    """Return "w000000042" for 42 and so on, as an Arrow array."""
    rest = np.asarray(numbers, np.uint32)
    digits = np.empty((len(rest), _DIGITS + 1), np.uint8)
    digits[:, 0] = ord("w")
    for place in range(_DIGITS, 0, -1):
        rest, last = np.divmod(rest, np.uint32(10))
        digits[:, place] = last + np.uint8(ord("0"))
    offsets = np.arange(0, digits.size + 1, _DIGITS + 1, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(digits), pa.py_buffer(offsets), pa.py_buffer(digits))


def bfloat16_normals(rows: int, dim: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (rows, dim) normal float32 numbers whose lower 16 bits are zero."""
    bits = (rng.standard_normal((rows, dim), dtype=np.float32) * np.float32(0.2)).view(np.uint32)
    bits += np.uint32(0x8000)
    bits &= np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def googlenews(path: Path, shape: tuple[int, int] = GOOGLENEWS_SHAPE, seed: int = 0) -> Path:
    """Write a word2vec binary of GoogleNews's shape, without newlines between records."""
    keys = [key.encode() for key in googlenews_keys(shape[0], seed)]
    rng = np.random.default_rng(seed)
    with path.open("wb", buffering=0) as file:
        file.write(b"%d %d\n" % shape)
        for start in range(0, shape[0], _CHUNK):
            chunk = keys[start : start + _CHUNK]
            file.write(b"".join(_records(chunk, bfloat16_normals(len(chunk), shape[1], rng))))
    return path


def text(path: Path, shape: tuple[int, int], seed: int = 0) -> tuple[list[str], NDArray[np.float32]]:
    """Write a text as GloVe is published: a line a key, numbers of five decimals; return its keys and vectors."""
    keys = glove_6b_50d()[0][: shape[0]]
    vectors = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(0.3)
    vectors = np.round(vectors.astype(np.float64), 5).astype(np.float32)
    write_text(path, keys, vectors, header=False)
    return keys, vectors


def _records(keys: list[bytes], vectors: NDArray[np.float32]) -> Iterator[bytes | memoryview]:
    data, width = memoryview(vectors).cast("B"), vectors.shape[1] * 4
    for i, key in enumerate(keys):
        yield key
        yield b" "
        yield data[i * width : (i + 1) * width]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "googlenews":
        sys.exit(__doc__)
    print(googlenews(Path(sys.argv[2])))
