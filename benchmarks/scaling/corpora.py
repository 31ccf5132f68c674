"""The texts that are measured on: drawn as words are used, and the programs of this Python as something real."""

import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import vecstore
from benchmarks.scaling.arithmetic import zipf_shares
from vecstore.demo import glove_6b_50d
from vecstore.keys import KeyBatch


def words(count: int) -> list[str]:
    """Return `count` distinct keys that the tokenizer leaves whole: GloVe's in its order, then two of them in one."""
    tokens, _ = glove_6b_50d()
    whole = [
        token
        for token, cut in zip(tokens, vecstore.Tokenizer().tokenize(tokens).lists(), strict=True)
        if cut == [token]
    ]
    keys = dict.fromkeys(whole[:count])
    rng = np.random.default_rng(0)
    frequent = np.array([token for token in whole[:50_000] if token.isascii()], object)
    while len(keys) < count:
        first, second = rng.choice(frequent, (2, count))
        keys.update(dict.fromkeys(first + second))
    return list(keys)[:count]


def zipf_rows(keys: int, tokens: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw the ranks of tokens."""
    drawn = np.random.default_rng(seed).random(tokens)
    return np.minimum(np.searchsorted(np.cumsum(zipf_shares(keys)), drawn), keys - 1)


def zipf_texts(keys: list[str], texts: int, length: int, seed: int = 0) -> pa.Array:
    """Return texts of `length` tokens each, drawn from `keys`."""
    batch = KeyBatch.of([f"{key} " for key in keys])
    data, offsets = batch.take(zipf_rows(len(keys), texts * length, seed)).packed()
    bounds = np.ascontiguousarray(offsets[::length])
    return pa.LargeStringArray.from_buffers(texts, pa.py_buffer(bounds), pa.py_buffer(data))


def programs(most_bytes: int) -> Iterator[str]:
    """Yield the Python files of the standard library and the installed packages, in a shuffled order."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "purelib")}
    paths = sorted({path for folder in folders for path in Path(folder).rglob("*.py")})
    random.Random(0).shuffle(paths)
    left = most_bytes
    for path in paths:
        data = path.read_bytes()
        left -= len(data)
        if left < 0:
            return
        yield data.decode("utf-8", "replace")
