"""Reading a whole store to find damage that opening it cannot see."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vecstore.arrays import checksum
from vecstore.errors import StoreError
from vecstore.index import KeyIndex
from vecstore.kernels.lookup import count_taken
from vecstore.keys import KeyBatch, is_utf8
from vecstore.layout import (
    FILES,
    METADATA,
    Metadata,
    StoreFiles,
    metadata_is_intact,
    open_files,
    parse_metadata,
    read_metadata,
)
from vecstore.location import is_remote, local_folder, local_path
from vecstore.progress import Progress, ProgressCallback

__all__ = ["Problem", "verify"]

_CHUNK = 1 << 18


class Problem(NamedTuple):
    """One thing that is wrong with a store: the file's name, and what was expected and found."""

    file: str
    description: str

    def __str__(self) -> str:
        return f"{self.file}: {self.description}"


def verify(path: str | os.PathLike[str], *, progress: ProgressCallback | None = None) -> list[Problem]:
    """Read every byte of a store and say what is wrong with it.

    Checks each file's size and checksum, that the files fit one another, that keys are UTF-8 in ascending
    offsets, and that the index leads from each key to its row and nowhere else.

    Parameters
    ----------
    path : path or address
        The store's folder. Of a store at an address the local copy is read, as `vecstore.open` makes it; a
        damaged one is made again once its folder is deleted.
    progress : callable, optional
        Called with a `Progress` several times a second.

    Returns
    -------
    list of Problem
        Empty for a sound store.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    StoreError, RemoteError, TargetError, ValueError, MissingPackageError
        There is no local copy yet of a store at an address, and `vecstore.open` raises this.

    Examples
    --------
    >>> vecstore.verify("glove.vecstore")
    []
    """
    folder = local_folder(path, progress=progress) if is_remote(path) else local_path(path)
    try:
        data = read_metadata(folder)
        metadata = parse_metadata(data, folder)
    except StoreError as error:
        return [Problem(METADATA, str(error).removeprefix(f"{folder}: "))]
    problems = [] if metadata_is_intact(data) else [Problem(METADATA, "its checksum is wrong")]
    problems += _check_bytes(folder, metadata, progress or (lambda progress: None))
    try:
        files = open_files(folder)
    except StoreError as error:
        file, _, description = str(error).removeprefix(f"{folder}: ").partition(": ")
        return problems or [Problem(file, description) if file in FILES else Problem(METADATA, str(error))]
    return problems + list(_check_order(files))


def _check_bytes(folder: Path, metadata: Metadata, progress: ProgressCallback) -> Iterator[Problem]:
    total = sum(file["size"] for file in metadata.files.values())
    done = 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        progress(Progress("verifying", done, total))

    for name, expected in metadata.files.items():
        try:
            size = (folder / name).stat().st_size
            found = checksum(folder / name, read) if size == expected["size"] else ""
        except (FileNotFoundError, IsADirectoryError):
            yield Problem(name, "is missing")
            continue
        if size != expected["size"]:
            yield Problem(name, f"expected {expected['size']:,} bytes, found {size:,}")
        elif found != expected["crc32"]:
            yield Problem(name, f"its checksum is wrong: expected {expected['crc32']}, found {found}")


def _check_order(files: StoreFiles) -> Iterator[Problem]:
    offsets, data = files.offsets, files.keys
    v = len(offsets) - 1
    parts = (offsets[start : start + _CHUNK + 1] for start in range(0, max(v, 1), _CHUNK))
    # Compared, not subtracted: a difference may wrap around.
    ascending = all(bool(np.all(part[1:] >= part[:-1])) for part in parts)
    if offsets[0] != 0 or offsets[-1] != len(data) or not ascending:
        yield Problem("offsets.npy", f"expected offsets that ascend from 0 to {len(data):,}, the bytes of all keys")
        return
    index = KeyIndex(data, offsets, files.index, files.metadata.seed)
    for start in range(0, v, _CHUNK):
        stop = min(start + _CHUNK, v)
        if not is_utf8(data[offsets[start] : offsets[stop]], offsets[start : stop + 1] - offsets[start]):
            yield Problem("keys.npy", f"expected keys in UTF-8; those of rows {start:,} to {stop:,} are not")
            break
    for start in range(0, v, _CHUNK):
        stop = min(start + _CHUNK, v)
        found = index.find_batch(KeyBatch.from_offsets(data, offsets[start : stop + 1]))
        wrong = np.flatnonzero(found != np.arange(start, stop))
        if len(wrong):
            row = start + int(wrong[0])
            yield Problem("index.npy", f"expected the key of row {row:,} to lead to it, found row {found[wrong[0]]:,}")
            break
    taken = int(count_taken(files.index))
    if taken != v:
        yield Problem("index.npy", f"expected {v:,} slots taken, found {taken:,}")
