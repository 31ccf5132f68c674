"""What a store is on disk. This docstring is the specification of format versions 1 and 2.

A store is a folder with six or seven files. All but one are standard NumPy arrays (`.npy` version 1.0, C order,
little endian), which any `.npy` reader maps as they are; the last describes them. v is the number of keys, d
the width of the vectors.

``vectors.npy``   (v, d), of the storage type, below. Row i is the vector of key i. Rows keep the order of the source.
``scales.npy``    (v,) float32. In stores of int8 alone: the scale of each row.
``keys.npy``      (b,) uint8. The UTF-8 bytes of all keys, end to end, nothing between them.
``offsets.npy``   (v + 1,) int64, ascending from 0 to b. Key i is ``keys[offsets[i]:offsets[i + 1]]``. Keys are
                  distinct; one may be empty; one may hold any byte, newline, space and NUL included.
``index.npy``     (s,) uint64, s a power of two greater than v. The hashed index, below.
``moments.npy``   (2, d) float64. Mean and standard deviation of each component, as it is read from the store, over
                  the rows whose components are all finite; zeros if there is none.
``metadata.json`` UTF-8 JSON, below.

The storage types
-----------------
Vectors are float32 to whoever reads them. How ``vectors.npy`` keeps them is the metadata's ``dtype``:

``float32``   <f4. As they are. The one type of format version 1.
``float16``   <f2. IEEE 754's binary16. A NaN's payload is the upper bits of the float32's.
``bfloat16``  <u2. The upper 16 bits of the float32, whose lower 16 bits are zero.
``int8``      |i1, from -127 to 127. The float32 is ``float32(number) * scales[row]``, one float32 multiplication.

A writer rounds what a type does not hold to the nearest number, ties to even; a NaN stays one, and no finite number
becomes infinite. The scale of a row is the largest of its magnitudes divided by 127, in float32, or any other with
which each number of the row comes back bit for bit; 0 for a row of zeros.

The index
---------
An open-addressing table with linear probing. A slot is 0 when empty. Otherwise its lower 32 bits are a row
plus 1, and its upper 32 bits are the tag of that row's key: the upper 32 bits of the key's hash. The hash is
XXH64 of the key's UTF-8 bytes with the seed given in the metadata. To find a key with hash h, look at slots
``h mod s``, ``(h + 1) mod s`` and so on: an empty slot means that the key is absent, a slot with the key's tag
names a row whose key must still be compared byte for byte. No key lies 1024 slots or more from its first
slot, so a reader may stop there. Rows are below 2**32 - 1.

A reader must not trust what it takes from the files: a row that is not below v, or an offset outside
``keys``, belongs to a damaged store and matches no key.

The metadata
------------
``format``    "vecstore"
``version``   1 if ``dtype`` is "float32", or else 2: the lowest that has all that the store uses. A reader refuses a
              version that it does not know, and a store of version 1 with another ``dtype``.
``writer``    the program that wrote the store
``rows``, ``dim``, ``dtype``   v, d and the storage type ("float32", "float16", "bfloat16" or "int8")
``hash``      {"name": "xxh64", "seed": integer}
``source``    {"name": file name, "size": bytes, "format": str, "compression": str or null,
              "modified": nanoseconds since 1970, or null or absent}
``dropped``   what the source held and the store does not: records that were "duplicates" of another one, "undecodable"
              or "unwanted" (absent: 0)
``unusual``   rows, as they are read from the store, that a user may want to know of:
              {"nan": rows with a NaN, "infinite": rows with an infinity and no NaN, "zero": all-zero rows, "huge":
              finite rows with a number beyond 1e15 (absent: not counted)}
``files``     per array file {"size": bytes, "crc32": 8 hexadecimal digits}
``checksum``  last: the CRC-32 of every byte of metadata.json before ``"checksum"``

How it appears
--------------
A store is written under a hidden name beside its own, each file synced, then the folder, and renamed; the
folder around it is synced last. It is never changed afterwards: replacing a store exchanges two folders, and
who has mapped the old one keeps it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from vecstore.arrays import map_array, open_regular
from vecstore.errors import StoreError
from vecstore.storage import STORAGE_TYPES, StorageType, StoredVectors

__all__ = [
    "ARRAYS",
    "FILES",
    "MAX_ROWS",
    "METADATA",
    "METADATA_LIMIT",
    "SCALES",
    "Metadata",
    "Source",
    "StoreFiles",
    "arrays_of",
    "is_whole",
    "metadata_is_intact",
    "open_files",
    "parse_metadata",
    "read_metadata",
]

MAX_ROWS = 2**32 - 2
ARRAYS = ("vectors.npy", "keys.npy", "offsets.npy", "index.npy", "moments.npy")
"""The arrays of every store."""
SCALES = "scales.npy"
METADATA = "metadata.json"
METADATA_LIMIT = 1 << 20
"""The bytes that ``metadata.json`` may have."""
_VERSION = max(storage.version for storage in STORAGE_TYPES.values())


def arrays_of(storage: StorageType) -> tuple[str, ...]:
    """Return the names of the arrays of a store of some type."""
    return (*ARRAYS, SCALES) if storage.scaled else ARRAYS


FILES = frozenset({METADATA}.union(*map(arrays_of, STORAGE_TYPES.values())))
"""The names of all files that a store may have."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a store was made from.

    Attributes
    ----------
    name : str
        The file's name without folders.
    size : int
        Its size in bytes; of a source in memory, the bytes of its vectors.
    format, compression : str, str or None
        What it was, and how it was packed.
    modified : int or None
        When it was changed last, in nanoseconds since 1970; None if that is not known.
    """

    name: str
    size: int
    format: str
    compression: str | None = None
    modified: int | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """The contents of ``metadata.json``; the module docstring says what each field means."""

    version: int
    writer: str
    rows: int
    dim: int
    dtype: str
    hash: dict[str, Any]
    source: Source
    dropped: dict[str, int]
    unusual: dict[str, int]
    files: dict[str, dict[str, Any]]

    @property
    def seed(self) -> int:
        """The seed of the hash."""
        return int(self.hash["seed"])

    @property
    def storage(self) -> StorageType:
        """How the vectors are kept."""
        return STORAGE_TYPES[self.dtype]

    def render(self) -> bytes:
        """Return the bytes of ``metadata.json``."""
        fields = {"format": "vecstore", **asdict(self)}
        text = json.dumps(fields, indent=2, ensure_ascii=False)
        head = (text.removesuffix("\n}") + ",\n  ").encode()
        return head + _closing(head)

    def write(self, folder: Path) -> None:
        """Write ``metadata.json`` into `folder` and sync it to disk."""
        path = folder / METADATA
        try:
            with path.open("xb") as file:
                file.write(self.render())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def _closing(head: bytes) -> bytes:
    """Return what ends ``metadata.json`` after `head`."""
    return f'"checksum": "{isal_zlib.crc32(head):08x}"\n}}\n'.encode()


def metadata_is_intact(data: bytes) -> bool:
    """Say whether the bytes of ``metadata.json`` agree with their own checksum."""
    head = data[: data.rfind(b'"checksum"')]
    return data == head + _closing(head)


@dataclass(frozen=True, slots=True, eq=False)
class StoreFiles:
    """The mapped arrays of a store, read-only, and its metadata."""

    metadata: Metadata
    vectors: StoredVectors
    keys: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    index: NDArray[np.uint64]
    moments: NDArray[np.float64]


def open_files(path: Path) -> StoreFiles:
    """Map the files of a store and check that they fit one another; O(1), reads no vector.

    All are of one store, also while another takes its place.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    StoreError
        `path` is not a store, is of a later format version, lacks a file, or one of its files has the wrong
        dtype, shape or length.
    """
    while True:
        folder = _identify(path)
        try:
            files = _map_files(path)
        except StoreError:
            if _identify(path) == folder:
                raise
            continue  # it was replaced, and removed, between two files
        if _identify(path) == folder:
            return files


def is_whole(path: Path) -> bool:
    """Say whether `open_files` opens the store at `path`; O(1)."""
    try:
        open_files(path)
    except (FileNotFoundError, StoreError):
        return False
    return True


def _identify(path: Path) -> tuple[int, int, int] | None:
    """Return what tells the folder at `path` from one that takes its place."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns  # a number of a removed folder is soon used again


def _map_files(path: Path) -> StoreFiles:
    metadata = parse_metadata(read_metadata(path), path)
    arrays = {name.removesuffix(".npy"): map_array(path / name) for name in arrays_of(metadata.storage)}
    vectors = StoredVectors(metadata.storage, arrays.pop("vectors"), arrays.pop("scales", None))
    files = StoreFiles(metadata, vectors, **arrays)
    v, d = metadata.rows, metadata.dim
    _check(path, "vectors.npy", vectors.array, metadata.storage.dtype.str, (v, d))
    if vectors.scales is not None:
        _check(path, SCALES, vectors.scales, "<f4", (v,))
    _check(path, "keys.npy", files.keys, "|u1", (files.keys.size,))
    _check(path, "offsets.npy", files.offsets, "<i8", (v + 1,))
    _check(path, "index.npy", files.index, "<u8", (files.index.size,))
    _check(path, "moments.npy", files.moments, "<f8", (2, d))
    if files.offsets[0] != 0 or files.offsets[-1] != files.keys.size:
        raise StoreError(
            f"{path}: offsets.npy: expected offsets that ascend from 0 to {files.keys.size:,}, the bytes of "
            f"all keys, found {files.offsets[0]:,} to {files.offsets[-1]:,}; the files are not of one store"
        )
    slots = files.index.size
    if slots <= v or slots & (slots - 1):
        raise StoreError(f"{path}: index.npy: expected a power of two above {v:,} slots, found {slots:,}")
    return files


def _check(path: Path, name: str, array: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> None:
    if array.dtype.str != dtype or array.shape != shape:
        raise StoreError(
            f"{path}: {name}: expected {np.dtype(dtype)} of shape {shape}, "
            f"found {array.dtype} of shape {array.shape}; the files are not of one store: convert the source again"
        )


def read_metadata(path: Path) -> bytes:
    """Read ``metadata.json`` of the store at `path` as it is, and at most one byte more than it may have.

    Raises
    ------
    FileNotFoundError
        Nothing is there.
    StoreError
        `path` is not a store.
    """
    try:
        with open_regular(path / METADATA) as stream:
            return stream.read(METADATA_LIMIT + 1)
    except FileNotFoundError:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such store") from None
        raise StoreError(f"{path}: not a store: it holds no {METADATA}") from None
    except IsADirectoryError:
        raise StoreError(f"{path}: not a store: its {METADATA} is a folder") from None
    except NotADirectoryError:
        raise StoreError(f"{path}: not a store but a file; make one with: vecstore convert {path} STORE") from None


def parse_metadata(data: bytes, store: Path | str) -> Metadata:
    """Return what the bytes of ``metadata.json`` say; `store` is the path or address that errors name.

    Raises
    ------
    StoreError
        They are damaged, of no store, or of a later format version.
    """
    file = f"{store}/{METADATA}"
    if len(data) > METADATA_LIMIT:
        raise StoreError(f"{file}: expected at most {METADATA_LIMIT:,} bytes")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file}: expected JSON: {error}") from None
    if not isinstance(fields, dict) or fields.get("format") != "vecstore":
        raise StoreError(f'{file}: not a store: expected "format": "vecstore"')
    version = fields.get("version")
    if type(version) is not int or version < 1:
        raise StoreError(f"{file}: expected a format version, found {version!r}")
    if version > _VERSION:
        raise StoreError(
            f"{store}: format version {version} is newer than this vecstore reads ({_VERSION}); upgrade vecstore"
        )
    return _parse(file, fields)


def _parse(file: str, fields: dict[str, Any]) -> Metadata:
    """Build the metadata from JSON that may be damaged."""

    def take(mapping: Any, name: str, kind: type) -> Any:
        value = mapping.get(name) if isinstance(mapping, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise StoreError(f"{file}: expected {name!r} to be of type {kind.__name__}, found {value!r:.80}")
        return value

    def take_size(mapping: Any, name: str, limit: int = 2**63 - 1) -> int:
        value: int = take(mapping, name, int)
        if not 0 <= value <= limit:
            raise StoreError(f"{file}: expected 0 <= {name!r} <= {limit}, found {value}")
        return value

    def take_counts(name: str) -> dict[str, int]:
        counts: dict[str, int] = take(fields, name, dict)
        return {key: take_size(counts, key) for key in counts}

    hashing = take(fields, "hash", dict)
    if hashing.get("name") != "xxh64":
        raise StoreError(f"{file}: expected the hash xxh64, found {hashing.get('name')!r:.80}")
    source = take(fields, "source", dict)
    compression = None if source.get("compression") is None else take(source, "compression", str)
    modified = None if source.get("modified") is None else take(source, "modified", int)
    files = take(fields, "files", dict)
    known = {name: storage for name, storage in STORAGE_TYPES.items() if storage.version <= fields["version"]}
    dtype = take(fields, "dtype", str)
    if dtype not in known:
        raise StoreError(
            f"{file}: expected dtype {', '.join(known)} in format version {fields['version']}, found {dtype!r:.80}"
        )
    return Metadata(
        version=fields["version"],
        writer=take(fields, "writer", str),
        rows=take_size(fields, "rows", MAX_ROWS),
        dim=take_size(fields, "dim"),
        dtype=dtype,
        hash={"name": "xxh64", "seed": take_size(hashing, "seed", 2**64 - 1)},
        source=Source(
            take(source, "name", str), take_size(source, "size"), take(source, "format", str), compression, modified
        ),
        dropped=take_counts("dropped"),
        unusual=take_counts("unusual"),
        files={
            name: {"size": take_size(files.get(name), "size"), "crc32": take(files.get(name), "crc32", str)}
            for name in arrays_of(known[dtype])
        },
    )
