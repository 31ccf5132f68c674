r"""NumPy's ``.npy``: a matrix alone, whose keys are in a file beside it.

The file is ``\x93NUMPY``, two bytes of version, the length of the header (2 bytes little-endian in version 1, 4 in
2 and 3), the header, and the numbers (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). The
header is the text of a Python dict of ``descr``, ``fortran_order`` and ``shape``; it is matched, never evaluated.
Arrays of Python objects are pickles, and are refused.
"""

import re
from pathlib import Path

import numpy as np

from vecstore.errors import FormatError
from vecstore.formats.rows import Matrix, RowsSource, check_numbers, take
from vecstore.formats.stream import ByteStream

__all__ = ["NpySource"]

_MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_HEADER_LIMIT = 10_000  # NumPy's own
_FIELD = rb"""['"](descr|fortran_order|shape)['"] *: *('[^']*'|"[^"]*"|\[[^\]]*\]|True|False|\([0-9L, ]*\)) *"""
_HEADER = re.compile(rb"\{ *%b, *%b, *%b,? *\}[ \n]*" % (_FIELD, _FIELD, _FIELD))
_NUMBERS = re.compile(r"[<>=|][biuf][0-9]{1,2}")
_SHAPE = re.compile(
    r"\( *(0|[1-9][0-9]{0,18})L? *, *(0|[1-9][0-9]{0,18})L? *,? *\)"
)  # Python 2 wrote some numbers with an L


class NpySource(RowsSource):
    """Read a matrix in NumPy's format.

    Parameters
    ----------
    stream : ByteStream
        At its start; closed with the source.
    row_keys : Path
        The keys, as `vecstore.vocabulary.read_keys` reads them.

    Raises
    ------
    FormatError
        The header is not one, announces no matrix of real numbers in C order, or more than the file can hold; or
        `row_keys` is missing or does not have one key for each row.
    """

    def __init__(self, stream: ByteStream, row_keys: Path) -> None:
        matrix = _read_header(stream)
        super().__init__(stream, matrix.start, matrix, matrix.stop, row_keys, "npy")


def _read_header(stream: ByteStream) -> Matrix:
    """Read the header, which leaves the stream at the first number."""
    where = f"{stream.place}: byte 0"
    magic = take(stream, len(_MAGIC) + 2)
    width = _LENGTHS.get(magic[len(_MAGIC) :])
    if not magic.startswith(_MAGIC) or width is None:
        raise FormatError(f"{where}: expected a .npy file of version 1, 2 or 3, found {magic!r}")
    length = int.from_bytes(take(stream, width), "little")
    if length > _HEADER_LIMIT:
        raise FormatError(f"{where}: expected a .npy header of at most {_HEADER_LIMIT:,} bytes, found {length:,}")
    text = take(stream, length)
    match = _HEADER.fullmatch(text)
    fields = dict(zip(match.groups()[::2], match.groups()[1::2], strict=True)) if match and len(text) == length else {}
    if len(fields) < 3:
        raise FormatError(f"{where}: expected a .npy header, found {text!r:.200}; the file is damaged")
    descr, shape = (fields[name].decode("latin-1").strip("'\"") for name in (b"descr", b"shape"))
    if "O" in descr:
        raise FormatError(
            f"{where}: expected numbers, found Python objects: a pickle, which may run code when loaded and is never "
            "read here; write the matrix again: np.save(path, array.astype('float32'))"
        )
    sides = _SHAPE.fullmatch(shape)
    if not sides:
        raise FormatError(f"{where}: expected a matrix (rows, dim), found shape {shape}")
    rows, dim = map(int, sides.groups())
    dtype = _dtype(where, descr)
    check_numbers(where, (rows, dim), dtype)
    if fields[b"fortran_order"] != b"False":
        raise FormatError(
            f"{where}: expected the rows one after another, found the columns (Fortran order); "
            "write the matrix again: np.save(path, np.ascontiguousarray(array))"
        )
    return Matrix(len(magic) + width + length, rows, dim, dtype)


def _dtype(where: str, descr: str) -> "np.dtype[np.generic]":
    try:
        if _NUMBERS.fullmatch(descr):
            return np.dtype(descr)
    except TypeError:
        pass
    raise FormatError(f"{where}: expected real numbers, found dtype {descr:.80}")
