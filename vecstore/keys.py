"""Batches of keys in the one layout that kernels read.

A `KeyBatch` is n strings as UTF-8 bytes end to end with the place of each. It is made from whatever people
keep their words in: lists, NumPy and Arrow arrays, pandas and polars columns. Where the container gives its
bytes away (Arrow) they are used as they are; those of str are copied from where Python has them.

What cannot be in a vocabulary is a null and is found nowhere: `None`, NaN, a null of Arrow, pandas or polars,
and a str with a lone surrogate, which has no UTF-8.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecstore.kernels.packing import measure_codes, pack_codes, pack_keys, pack_texts

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KeyBatch", "Keys", "frozen", "is_utf8"]

Keys = Sequence[str] | Iterable[str] | NDArray[Any] | Any
"""Keys of a call: str or UTF-8 bytes in a list, a NumPy array, anything that speaks Arrow, or any iterable."""


def frozen(array: ArrayLike, dtype: Any = None) -> NDArray[Any]:
    """Return `array` as a read-only, contiguous, aligned array; a view where it already is all but read-only."""
    if (
        not isinstance(array, np.ndarray)
        or (dtype is not None and array.dtype != dtype)
        or not (array.flags.c_contiguous and array.flags.aligned)
    ):
        array = np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])
    view = array.view()
    view.setflags(write=False)
    return view


def is_utf8(data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> bool:
    """Say whether each ``data[offsets[i]:offsets[i + 1]]`` is UTF-8; `offsets` ascend from 0 to ``len(data)``."""
    if not len(data) or int(data.max()) < 0x80:
        return True
    try:
        data.tobytes().decode()
    except UnicodeDecodeError:
        return False
    # All bytes together are UTF-8, so a key is not only if it starts within a character.
    starts = offsets[:-1][np.diff(offsets) > 0]
    return not bool(np.any(data[starts] & 0xC0 == 0x80))


@dataclass(frozen=True, slots=True, eq=False)
class KeyBatch:
    """n keys as UTF-8 bytes.

    Attributes
    ----------
    data : (b,) uint8 array
        The bytes of the distinct entries, in any order, with or without gaps.
    starts, stops : (m,) int64 arrays
        Entry i is ``data[starts[i]:stops[i]]``.
    codes : (n,) int64 array or None
        The entry of each key; -1 marks a null. None means that key i is entry i, and n = m.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    codes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.starts) if self.codes is None else len(self.codes)

    @classmethod
    def of(cls, keys: Keys) -> "KeyBatch":
        """Return `keys` as a batch.

        Parameters
        ----------
        keys : iterable of str or bytes
            A list or tuple; a 1-d NumPy array of dtype object, ``U``, ``S`` or StringDType; an object with
            ``__arrow_c_array__`` or ``__arrow_c_stream__`` (pyarrow, pandas, polars, datasets) of a string,
            binary or dictionary type; any other iterable. Bytes are taken as UTF-8.

        Raises
        ------
        TypeError
            `keys` is one str or bytes, or holds something that is neither a key nor a null.
        """
        if isinstance(keys, cls):
            return keys
        if isinstance(keys, str | bytes):
            raise TypeError(f"expected a batch of keys, found one {type(keys).__name__}: {keys!r}; put it into a list")
        if hasattr(keys, "__arrow_c_array__") or hasattr(keys, "__arrow_c_stream__"):
            return _from_arrow(keys)
        if isinstance(keys, np.ndarray):
            return _from_numpy(keys)
        if not isinstance(keys, Iterable):
            raise TypeError(f"expected a batch of keys, found {type(keys).__name__}: {keys!r}")
        return _from_list(keys if isinstance(keys, list | tuple) else list(keys))

    @classmethod
    def from_offsets(cls, data: NDArray[np.uint8], offsets: NDArray[np.int64]) -> "KeyBatch":
        """Return the batch whose key i is ``data[offsets[i]:offsets[i + 1]]``, Arrow's layout; a view."""
        data, offsets = frozen(data, np.uint8), frozen(offsets, np.int64)
        if len(offsets) > 1 and (offsets[0] < 0 or offsets[-1] > len(data) or bool(np.any(offsets[1:] < offsets[:-1]))):
            raise ValueError(f"expected offsets that ascend within {len(data):,} bytes")
        return cls(data, offsets[:-1], offsets[1:])

    def take(self, places: NDArray[np.int64]) -> "KeyBatch":
        """Return the keys at `places` (m,), in their order; their bytes are shared."""
        if self.codes is not None:
            return KeyBatch(self.data, self.starts, self.stops, frozen(self.codes[places]))
        return KeyBatch(self.data, frozen(self.starts[places]), frozen(self.stops[places]))

    def without_nulls(self) -> "KeyBatch":
        """Return the keys that are not null, in their order."""
        if self.codes is None or self.codes.min(initial=0) >= 0:
            return self
        return KeyBatch(self.data, self.starts, self.stops, frozen(self.codes[self.codes >= 0]))

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the keys end to end, in their order: data (b,) uint8 and offsets (n + 1,) int64; a copy.

        Raises
        ------
        ValueError
            A key is null.
        """
        starts, stops = self.starts, self.stops
        if self.codes is not None:
            if self.codes.min(initial=0) < 0:
                raise ValueError(f"key {int(self.codes.argmin())}: expected a key, found a null")
            starts, stops = starts[self.codes], stops[self.codes]
        data = np.empty(int((stops - starts).sum()), np.uint8)
        offsets = np.empty(len(self) + 1, np.int64)
        pack_keys(frozen(self.data), frozen(starts), frozen(stops), data, offsets)
        return data, offsets

    def strings(self) -> list[str]:
        """Return each key as a str.

        Raises
        ------
        ValueError
            A key is null, or (UnicodeDecodeError) no UTF-8.
        """
        data, offsets = self.packed()
        raw = data.tobytes()
        # All decoded together and then cut by str: 50 ns a key, decoded one by one 130.
        for separator in _SEPARATORS if len(self) else b"":
            if separator not in raw:
                return np.insert(data, offsets[1:-1], separator).tobytes().decode().split(chr(separator))
        return [str(raw[start:stop], "utf-8") for start, stop in pairwise(offsets.tolist())]


_SEPARATORS = b" \n\0"  # one of which no key holds, as a rule
_LIKELY_BYTES = 16  # of a key; more cost a second look at all
_NO_BYTES = frozen([], np.uint8)
_NOWHERE = frozen([], np.int64)


def _from_list(keys: Sequence[Any]) -> KeyBatch:
    if not keys:
        return KeyBatch(_NO_BYTES, _NOWHERE, _NOWHERE)
    kept = keys if type(keys) in (list, tuple) else tuple(keys)
    offsets = np.empty(len(kept) + 1, np.int64)
    data = np.empty(_LIKELY_BYTES * len(kept), np.uint8)
    while pack_texts(kept, type(kept) is list, offsets, data) == len(offsets) - 1:
        if offsets[-1] <= len(data):
            return KeyBatch(data[: offsets[-1]], offsets[:-1], offsets[1:])
        data = np.empty(int(offsets[-1]), np.uint8)
    return _from_mixed(tuple(kept))


def _from_mixed(keys: Sequence[Any]) -> KeyBatch:
    """Take keys one at a time: some are null, or unencodable, or no keys."""
    entries = [_encode(key, i) for i, key in enumerate(keys)]
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum([len(entry or b"") for entry in entries], out=offsets[1:])
    data = np.frombuffer(b"".join(entry or b"" for entry in entries), np.uint8)
    batch = KeyBatch.from_offsets(data, offsets)
    return _without(batch, np.array([entry is None for entry in entries]))


def _encode(key: Any, i: int) -> bytes | None:
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError:
            return None
    if isinstance(key, bytes):
        return key
    if key is None or _is_nan(key):
        return None
    raise TypeError(f"key {i}: expected str, bytes or None, found {type(key).__name__}: {key!r}")


def _is_nan(key: Any) -> bool:
    """Say whether a key is NaN or pandas' NA, which is recognised by name so that pandas need not be imported."""
    return (isinstance(key, float | np.floating) and bool(key != key)) or type(key).__name__ == "NAType"


def _without(batch: KeyBatch, nulls: NDArray[np.bool_]) -> KeyBatch:
    """Return `batch` with the keys at `nulls` (n,) marked as nulls."""
    if not nulls.any():
        return batch
    codes = np.arange(len(batch)) if batch.codes is None else batch.codes
    return KeyBatch(batch.data, batch.starts, batch.stops, frozen(np.where(nulls, -1, codes), np.int64))


def _from_numpy(keys: NDArray[Any]) -> KeyBatch:
    if keys.ndim != 1:
        raise TypeError(f"expected a 1-d array of keys, found shape {keys.shape}")
    if keys.dtype.kind == "T":
        import pyarrow as pa

        try:
            return _from_arrow(pa.array(keys))
        except (UnicodeError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return _from_list(keys.tolist())  # a lone surrogate, or a null object that Arrow does not know
    if keys.dtype.kind == "U" and type(keys) is np.ndarray and keys.nbytes:
        codes = np.require(keys, keys.dtype.newbyteorder("="), ["C_CONTIGUOUS", "ALIGNED"])
        codes = codes.view(np.uint32).reshape(len(keys), -1)
        offsets = np.empty(len(keys) + 1, np.int64)
        if measure_codes(codes, offsets) == len(keys):
            data = np.empty(int(offsets[-1]), np.uint8)
            pack_codes(codes, data)
            return KeyBatch(data, offsets[:-1], offsets[1:])
    if keys.dtype.kind in "OSU":
        return _from_list(keys.tolist())
    raise TypeError(f"expected an array of str, bytes or objects, found dtype {keys.dtype}")


def _from_arrow(keys: Any) -> KeyBatch:
    # Imported here: a process that looks up lists alone saves the 40 ms.
    import pyarrow as pa

    try:
        array = keys if isinstance(keys, pa.Array | pa.ChunkedArray) else _import_arrow(keys)
    except (UnicodeError, pa.ArrowInvalid, pa.ArrowTypeError):
        return _from_list(list(keys))  # a column of objects; one at a time tells nulls from errors
    if isinstance(array, pa.ChunkedArray):
        if not array.num_chunks:
            array = pa.chunked_array([pa.nulls(0, getattr(array.type, "value_type", array.type))])
        elif pa.types.is_dictionary(array.type):
            array = array.unify_dictionaries()
        elif _is_text(array.type):
            array = array.cast(pa.large_binary())  # the 32-bit offsets of one array end at 2 GiB
        array = array.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        entries = array.dictionary
        views = pa.types.is_string_view(entries.type) or pa.types.is_binary_view(entries.type)
        if len(entries) <= len(array) or views:  # which Arrow cannot decode
            return _from_dictionary(array)
        array = array.dictionary_decode()  # a few rows of a column with many entries
    if pa.types.is_null(array.type):
        return KeyBatch(_NO_BYTES, _NOWHERE, _NOWHERE, frozen(np.full(len(array), -1), np.int64))
    if not _is_text(array.type):
        raise TypeError(f"expected an Arrow array of strings, found {array.type}")
    array = array.cast(pa.large_binary())
    _, offsets, data = array.buffers()
    first = array.offset
    batch = KeyBatch.from_offsets(
        _NO_BYTES if data is None else np.frombuffer(data, np.uint8),
        np.zeros(1, np.int64) if not len(array) else np.frombuffer(offsets, np.int64)[first : first + len(array) + 1],
    )
    return _without(batch, array.is_null().to_numpy(zero_copy_only=False)) if array.null_count else batch


def _import_arrow(keys: Any) -> "pa.Array | pa.ChunkedArray":
    import pyarrow as pa

    return pa.array(keys) if hasattr(keys, "__arrow_c_array__") else pa.chunked_array(keys)


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    texts = (types.is_string, types.is_large_string, types.is_string_view)
    return any(accepts(kind) for accepts in (*texts, types.is_binary, types.is_large_binary, types.is_binary_view))


def _from_dictionary(array: "pa.DictionaryArray") -> KeyBatch:
    """Keep the dictionary as the entries, so that each distinct key is looked up once."""
    entries = _from_arrow(array.dictionary)
    nulls = array.indices.is_null().to_numpy(zero_copy_only=False)
    codes = array.indices.fill_null(0).to_numpy().astype(np.int64)  # signed, before it takes a -1
    codes[nulls] = -1
    if entries.codes is not None:
        codes = np.append(entries.codes, -1)[codes]  # code -1 reads the -1 at the end
    return KeyBatch(entries.data, entries.starts, entries.stops, frozen(codes))
