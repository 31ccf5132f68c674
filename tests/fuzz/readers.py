"""Targets that read files: each file raises FormatError, or gives what its slow twin gives.

The same bytes must give the same in blocks of a few bytes, packed, and through a pipe.
"""

import atexit
import gzip
import io
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import vecstore
from fuzz import seeds, twins
from fuzz.mutation import mutate
from vecstore.formats import rows, text, word2vec
from vecstore.formats.compression import packing
from vecstore.formats.detect import open_source
from vecstore.formats.stream import ByteStream
from vecstore.vocabulary import read_keys, read_vocabulary

KEYS = [b"nice", "größe".encode(), b"", b"a b\tc", b"\xf0\x9f\x99\x82"]
_PIPE_BYTES = 1 << 16
_UNLIKE_HEADER = "expected a header of the lines after it"


class Target(NamedTuple):
    """`make` gives an input, half of them sound; `check` raises if anything is wrong with what happens to one."""

    make: Callable[[Random], bytes]
    check: Callable[[bytes], None]


class Outcome(NamedTuple):
    """What a reader made of a file: its records, or the message that refuses it."""

    records: twins.Records | None
    message: str = ""
    dim: int | None = None
    format: str = ""


def folder() -> Path:
    """Return a folder of this process, in memory where there is such a place."""
    path = _root() / str(os.getpid())
    path.mkdir(exist_ok=True)
    return path


@cache
def _root() -> Path:
    """Return a folder of this process and of those that it forks, which leave its removal to it."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="vecstore-fuzz-", dir=base)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


def written(data: bytes, name: str = "input") -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def read(path: Any, **options: Any) -> Outcome:
    dim, format = None, ""
    try:
        source = open_source(path, **options)
    except vecstore.FormatError as error:
        return Outcome(None, str(error))
    try:
        dim, format = source.dim, source.description.format
        records, count = [], 0
        for block in source.blocks():
            assert block.first == count
            assert len(block.data) == block.offsets[-1]
            assert block.vectors.dtype == np.float32
            assert block.vectors.shape == (len(block.positions), dim)
            assert len(block.offsets) == len(block) + 1
            count += len(block)
            for i, vector in enumerate(block.vectors):
                assert source.locate(block.first + i, int(block.positions[i]))
                key = block.data[block.offsets[i] : block.offsets[i + 1]].tobytes()
                records.append((key, vector.tobytes()))
        assert source.done >= 0
    except vecstore.FormatError as error:
        return Outcome(None, str(error), dim, format)
    finally:
        source.close()
    return Outcome(records, "", dim, format)


def read_pipe(data: bytes, **options: Any) -> Outcome:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        assert os.write(writing, data) == len(data)
        os.close(writing)
        return read(Path(f"/dev/fd/{reading}"), **options)
    finally:
        os.close(reading)


def expect_same(found: Outcome, expected: Outcome, how: str) -> None:
    assert found.records == expected.records, (
        f"{how}: {found.message or found} instead of {expected.message or expected}"
    )


def expect_twin(found: Outcome, twin: twins.Records | None) -> None:
    assert found.records == twin, f"{found.message or found.records} instead of {twin}"


def check_ways(data: bytes, path: Path, plain: Outcome, **options: Any) -> None:
    """Check that other ways to the same bytes give the same."""
    size = (16, 64, 257)[len(data) % 3]
    # No line of a text may be longer than a block.
    longest = 1 << 14 if packing(data) else max(map(len, data.split(b"\n"))) + 1
    with (
        mock.patch.object(text, "_BLOCK_BYTES", max(size, longest)),
        mock.patch.object(word2vec, "_BLOCK_BYTES", size),
        mock.patch.object(rows, "BLOCK_BYTES", size),
    ):
        expect_same(read(path, **options), plain, f"in blocks of {size} bytes")
    if not packing(data):
        expect_same(read(written(gzip.compress(data, 1), "packed"), **options), plain, "packed")
    if len(data) <= _PIPE_BYTES and packing(data) != "zip":
        expect_same(read_pipe(data, **options), plain, "through a pipe")


def check_word2vec(data: bytes) -> None:
    path = written(data)
    plain = read(path, format="word2vec")
    if packing(data) or "this is word2vec text" in plain.message:
        return
    if "unpack it first" not in plain.message:
        expect_twin(plain, twins.word2vec(data))
    check_ways(data, path, plain, format="word2vec")
    lenient = read(path, format="word2vec", count_mismatch="warn")
    if plain.records is not None:
        expect_same(lenient, plain, "with count_mismatch='warn'")


def check_text(data: bytes, *, header: bool) -> None:
    path, format = written(data), "word2vec-text" if header else "glove"
    plain = read(path, format=format)
    if packing(data):
        return
    if plain.dim is not None and _UNLIKE_HEADER not in plain.message:
        expect_twin(plain, twins.text(data, header=header, dim=plain.dim))
    check_ways(data, path, plain, format=format)
    lenient = read(path, format=format, count_mismatch="warn")
    if plain.records is not None:
        expect_same(lenient, plain, "with count_mismatch='warn'")


def check_npy(data: bytes) -> None:
    path, row_keys = written(data), written(b"\n".join(KEYS) + b"\n", "keys.txt")
    plain = read(path, format="npy", row_keys=row_keys)
    if plain.records is not None and not packing(data):
        expect_twin(plain, twins.npy(data, KEYS))
    check_ways(data, path, plain, format="npy", row_keys=row_keys)


def check_safetensors(data: bytes) -> None:
    path, row_keys = written(data), written(b"\n".join(KEYS) + b"\n", "keys.txt")
    plain = read(path, format="safetensors", row_keys=row_keys)
    if plain.records is not None and not packing(data):
        expect_twin(plain, twins.safetensors(data, KEYS))
    check_ways(data, path, plain, format="safetensors", row_keys=row_keys)


def check_model2vec(data: bytes) -> None:
    files = unzip(data)
    path = folder() / "model"
    path.mkdir(exist_ok=True)
    for name in ("model.safetensors", "tokenizer.json"):
        (path / name).write_bytes(files[name])
    plain = read(path)
    if plain.records is not None:
        twin = twins.model2vec(files["model.safetensors"], files["tokenizer.json"])
        if twin is not None:
            expect_twin(plain, twin)


def check_auto(data: bytes) -> None:
    path, row_keys = written(data), written(b"\n".join(KEYS) + b"\n", "keys.txt")
    plain = read(path, row_keys=row_keys)
    if plain.format:
        expect_same(read(path, format=plain.format, row_keys=row_keys), plain, f"as {plain.format}")
    check_ways(data, path, plain, row_keys=row_keys)


def check_stream(data: bytes) -> None:
    kind = packing(data)
    try:
        stream = ByteStream(written(data))
    except vecstore.FormatError:
        return
    try:
        found = bytearray()
        buffer = bytearray((1, 7, 4096)[len(data) % 3])
        while count := stream.fill(memoryview(buffer)):
            found += buffer[:count]
            buffer = bytearray(1 << 20) if len(found) > 1 << 16 else buffer
            assert len(found) <= stream.most
        assert stream.compression == kind
    except vecstore.FormatError:
        return
    finally:
        stream.close()
    if kind is None:
        assert found == data
    else:
        assert found == twins.unpack(kind, data)


def check_keys(data: bytes) -> None:
    for name in ("keys.txt", "keys.json"):
        path = written(data, name)
        try:
            keys = read_keys(path)
        except vecstore.VocabularyError:
            keys = None
        else:
            assert all(isinstance(key, str) for key in keys)
        if name == "keys.txt":
            assert keys == twins.key_lines(data)
        try:
            vocabulary = read_vocabulary(path)
        except vecstore.VocabularyError:
            continue
        assert len(vocabulary.keys) == len(vocabulary.rows)
        assert len(set(vocabulary.rows.tolist())) == len(vocabulary.rows)
        assert vocabulary.rows.min(initial=0) >= 0
        assert vocabulary.rows.max(initial=-1) < vocabulary.height or not len(vocabulary.rows)


def check_convert(data: bytes) -> None:
    """Check that a store that was made is sound and holds what the reader gave."""
    path, row_keys = written(data), written(b"\n".join(KEYS) + b"\n", "keys.txt")
    plain = read(path, row_keys=row_keys)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", vecstore.FormatWarning)
            vecstore.convert(path, folder() / "store", row_keys=row_keys, overwrite=True)
    except vecstore.FormatError:
        assert plain.records is None or any(not is_utf8(key) for key, _ in plain.records)
        return
    expected: dict[bytes, bytes] = {}
    for key, vector in plain.records or []:
        expected.setdefault(key, vector)
    assert vecstore.verify(folder() / "store") == []
    with vecstore.open(folder() / "store") as store:
        assert [key.encode() for key in store.keys] == list(expected)
        assert store.find(list(expected)).tolist() == list(range(len(expected)))
        assert [vector.tobytes() for vector in store.lookup(list(expected))] == list(expected.values())


def is_utf8(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def zipped(files: dict[str, bytes]) -> bytes:
    """Return some files as one input."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def damaged(make: Callable[[Random], bytes]) -> Callable[[Random], bytes]:
    def make_damaged(rng: Random) -> bytes:
        data = make(rng)
        return data if rng.random() < 0.1 else mutate(rng, data, make(rng))

    return make_damaged


def make_any(rng: Random) -> bytes:
    make = rng.choice([seeds.text, seeds.word2vec, seeds.npy, seeds.safetensors, make_stream, seeds.key_list])
    if rng.random() < 0.1:
        return rng.randbytes(rng.choice([1, 3, 20, 500]))
    return damaged(make)(rng)


def make_stream(rng: Random) -> bytes:
    return seeds.pack(rng, rng.choice([seeds.text, seeds.word2vec])(rng))


def make_model(rng: Random) -> bytes:
    files = {"model.safetensors": seeds.safetensors(rng), "tokenizer.json": seeds.tokenizer(rng)}
    if rng.random() < 0.9:
        name = rng.choice(list(files))
        files[name] = mutate(rng, files[name])
    return zipped(files)


def make_convertible(rng: Random) -> bytes:
    make = rng.choice([seeds.text, seeds.word2vec, seeds.npy, seeds.safetensors, make_stream])
    return make(rng) if rng.random() < 0.5 else damaged(make)(rng)


TARGETS = {
    "word2vec": Target(damaged(seeds.word2vec), check_word2vec),
    "text": Target(damaged(lambda rng: seeds.text(rng, header=True)), lambda data: check_text(data, header=True)),
    "glove": Target(damaged(lambda rng: seeds.text(rng, header=False)), lambda data: check_text(data, header=False)),
    "npy": Target(damaged(seeds.npy), check_npy),
    "safetensors": Target(damaged(seeds.safetensors), check_safetensors),
    "model2vec": Target(make_model, check_model2vec),
    "auto": Target(make_any, check_auto),
    "streams": Target(damaged(make_stream), check_stream),
    "keys": Target(damaged(seeds.key_list), check_keys),
    "convert": Target(make_convertible, check_convert),
}
