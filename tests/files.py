"""Makes word2vec binaries byte by byte, good and bad, and reads them back."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from vecstore.formats.detect import open_source

GZIP = {"plain": lambda data: data, "gzip": lambda data: gzip.compress(data, 1, mtime=0)}


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of some files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def zstd_bytes(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKED = {
    **GZIP,
    "zip": lambda data: zip_bytes({"vectors.txt": data}),
    "bz2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zstd": zstd_bytes,
}


def word2vec_bytes(
    keys: Sequence[bytes], vectors: ArrayLike, *, newlines: bool = False, header: bytes | None = None
) -> bytes:
    """A whole file; its header is the true one unless `header` says otherwise."""
    rows = np.asarray(vectors, "<f4")
    after = b"\n" if newlines else b""
    records = [key + b" " + row.tobytes() + after for key, row in zip(keys, rows, strict=True)]
    return (b"%d %d\n" % rows.shape if header is None else header) + b"".join(records)


def numbered(count: int, dim: int, seed: int = 0) -> tuple[list[bytes], NDArray[np.float32]]:
    """Keys "k0", "k1", ... and random vectors for them."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    return [b"k%d" % i for i in range(count)], vectors


def read_records(path: Path, **options: str) -> tuple[list[bytes], NDArray[np.float32]]:
    """Everything that a reader gives, in one piece."""
    source = open_source(path, **options)
    try:
        blocks = list(source.blocks())
    finally:
        source.close()
    keys = [
        block.data[low:high].tobytes()
        for block in blocks
        for low, high in zip(block.offsets[:-1], block.offsets[1:], strict=True)
    ]
    return keys, np.concatenate([np.empty((0, source.dim), np.float32), *(block.vectors for block in blocks)])


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
