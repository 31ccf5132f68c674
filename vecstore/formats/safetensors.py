"""safetensors: named tensors, of which one is the matrix; its keys are in a file beside it.

The file is the length of the header in 8 bytes, little-endian, the header, and the tensors' numbers, little-endian and
in C order, one tensor after another without a gap up to the end of the file (https://github.com/huggingface/safetensors,
README, "Format"). The header is a JSON object: for each tensor its ``dtype``, ``shape`` and ``data_offsets``, the bytes
after the header at which it starts and stops; ``__metadata__`` may be text to text. Spaces may follow it.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vecstore.errors import FormatError
from vecstore.formats.rows import Matrix, RowsSource, check_numbers, check_size, take
from vecstore.formats.stream import ByteStream
from vecstore.vocabulary import distinct

__all__ = ["SafetensorsSource", "Tensor", "choose_tensor", "looks_like_safetensors", "read_header"]

# The reference reader takes 100 MB, which JSON turns into gigabytes; this is room for 40,000 tensors.
_HEADER_LIMIT = 1 << 22
_AXES_LIMIT = 64
_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
}
_NAMES = ("embeddings", "embedding.weight", "embeddings.weight")


class Tensor(NamedTuple):
    """One tensor; `start` and `stop` are bytes of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {self.shape}"

    def matrix(self, where: str) -> Matrix:
        """Return where its numbers are; FormatError, which starts with `where`, if they cannot be word vectors."""
        if self.dtype not in _DTYPES:
            raise FormatError(f"{where}: expected a tensor of {', '.join(_DTYPES)}, found {self}")
        dtype = np.dtype(_DTYPES[self.dtype])
        check_numbers(f"{where}: tensor {self.name!r}", self.shape, dtype)
        rows, dim = self.shape
        return Matrix(self.start, rows, dim, dtype, self.dtype == "BF16")


class SafetensorsSource(RowsSource):
    """Read one matrix of a safetensors file.

    Parameters
    ----------
    stream : ByteStream
        At its start; closed with the source.
    row_keys : Path
        The keys, as `vecstore.vocabulary.read_keys` reads them.
    tensor : str or None
        The name of the matrix; not needed if it is the only one, or called as models call their embeddings.

    Raises
    ------
    FormatError
        The header is not one, or announces more than the file can hold; no matrix is there, or several and none
        was named; or `row_keys` is missing or does not have one key for each row.
    """

    def __init__(self, stream: ByteStream, row_keys: Path, *, tensor: str | None) -> None:
        tensors, start = read_header(lambda count: take(stream, count), stream.most, stream.place)
        size = max((tensor.stop for tensor in tensors), default=start)
        check_size(stream, size)
        matrix = choose_tensor(tensors, tensor, stream.place).matrix(stream.place)
        super().__init__(stream, start, matrix, size, row_keys, "safetensors")


def looks_like_safetensors(head: bytes) -> bool:
    """Say whether a file that starts with `head` is safetensors, sound or not."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40


def read_header(read: Callable[[int], bytes], most: int, place: str) -> tuple[list[Tensor], int]:
    """Read the header of a file.

    Parameters
    ----------
    read : callable
        Takes a number of bytes and returns the next ones of the file, which is at its start.
    most : int
        No more bytes than this are in the file.
    place : str
        The file's name for messages.

    Returns
    -------
    tensors : list of Tensor
        In the file's order.
    start : int
        The byte of the file after the header.

    Raises
    ------
    FormatError
        The header is damaged or too long, or its tensors overlap, leave gaps, or do not fit their shapes.
    """
    length, limit = int.from_bytes(read(8), "little"), max(0, min(_HEADER_LIMIT, most - 8))
    text = read(length) if length <= limit else b""
    if len(text) < length:
        raise FormatError(
            f"{place}: byte 0: expected a safetensors header within {limit:,} bytes, found one of {length:,}; "
            "the file is damaged or cut short"
        )
    try:
        content = json.loads(text.decode(), object_pairs_hook=distinct)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{place}: byte 8: expected a safetensors header in JSON: {error!s:.200}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{place}: byte 8: expected a safetensors header, found a JSON {type(content).__name__}")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{place}: byte 8: expected __metadata__ to be text, found {metadata!r:.80}")
    start = 8 + length
    tensors = [_tensor(name, entry, start, place) for name, entry in content.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.stop))
    at = start
    for tensor in tensors:
        if tensor.start != at:
            raise FormatError(f"{place}: byte 8: tensor {tensor}: expected its start at {at:,}, found {tensor.start:,}")
        at = tensor.stop
    return tensors, start


def choose_tensor(tensors: list[Tensor], name: str | None, place: str) -> Tensor:
    """Return the tensor called `name`, or if that is None the only matrix, or the one called as embeddings are.

    Raises
    ------
    FormatError
        There is none, or several and none was named.
    """
    if name is not None:
        for tensor in tensors:
            if tensor.name == name:
                return tensor
        raise FormatError(f"{place}: expected a tensor {name!r}, found {_shown(tensors)}")
    matrices = {tensor.name: tensor for tensor in tensors if len(tensor.shape) == 2}
    if len(matrices) == 1:
        return next(iter(matrices.values()))
    for usual in _NAMES:
        if usual in matrices:
            return matrices[usual]
    if not matrices:
        raise FormatError(f"{place}: expected a matrix (rows, dim), found {_shown(tensors)}")
    raise FormatError(
        f"{place}: expected one matrix, found {_shown(list(matrices.values()))}; "
        f"name one, as in '{place}::{next(iter(matrices))}'"
    )


def _shown(tensors: list[Tensor]) -> str:
    return (
        ", ".join(map(str, tensors[:20])) + (f" and {len(tensors) - 20:,} more" if len(tensors) > 20 else "") or "none"
    )


def _tensor(name: str, entry: Any, start: int, place: str) -> Tensor:
    where = f"{place}: byte 8: tensor {name!r:.80}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: expected dtype, shape and data_offsets, found {entry!r:.200}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or not _are_sizes(shape) or len(shape) > _AXES_LIMIT:
        raise FormatError(f"{where}: expected a dtype and a shape, found {dtype!r:.80} and {shape!r:.80}")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{where}: expected data_offsets [start, stop], found {offsets!r:.80}")
    if dtype in _DTYPES:
        expected, found = math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize, offsets[1] - offsets[0]
        if found != expected:
            raise FormatError(f"{where}: expected {expected:,} bytes for {dtype} {shape}, found {found:,}")
    return Tensor(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
