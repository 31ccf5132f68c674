"""load: a file of word vectors opened as a store, which is made the first time and kept.

The store is named after the source and what was asked of its conversion, so it is found again without reading the
source. It is fresh while the source has the size and the time of change that the store's metadata tell.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecstore.cache import chosen_cache, make_cache, store_name, user_cache, wait_while_busy
from vecstore.choices import CountMismatch, Duplicates, EncodingErrors, Format, Storage
from vecstore.convert import convert
from vecstore.errors import FormatError, StoreError
from vecstore.formats.names import STANDARD_INPUT, files_of, split_member
from vecstore.layout import METADATA
from vecstore.location import is_remote, local_path
from vecstore.progress import ProgressCallback
from vecstore.store import VectorStore, open_store

__all__ = ["load"]


def load(
    source: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    format: Format = "auto",
    dtype: Storage = "float32",
    limit: int | None = None,
    keys: Any = None,
    row_keys: str | os.PathLike[str] | None = None,
    duplicates: Duplicates = "first",
    encoding_errors: EncodingErrors = "strict",
    count_mismatch: CountMismatch = "error",
    progress: ProgressCallback | None = None,
) -> VectorStore:
    """Open a store, or a file of word vectors, which is converted the first time.

    The first call costs a conversion; every later one, in any process, about as much as `vecstore.open`. A source whose
    size or time of change is another than when it was converted is converted again. Processes that ask at once
    convert once; the others wait.

    Parameters
    ----------
    source : path or address
        A store, also at an address, as `vecstore.open` takes it; or a file on this machine, a member of an archive or a
        model2vec folder, as `vecstore.convert` takes it.
    cache : path, optional
        The folder for the store. By default that which the environment variable ``VECSTORE_CACHE`` names. If there
        is none, the store is ``NAME.vecstore`` beside the source; if that folder cannot be written to, it is in the
        user's cache folder. No effect if `source` is a store on this machine; the copy of one at an address is never
        beside anything.
    format, dtype, limit, keys, row_keys, duplicates, encoding_errors, count_mismatch
        As `vecstore.convert` takes them. Each choice of them has a store of its own.
    progress : callable, optional
        Called with a `Progress` several times a second while the source is converted or another process is
        waited for.

    Returns
    -------
    VectorStore
        If the source is gone, or cannot be found at the moment, the store that was made from it: nothing newer is there
        to be read, and a large file may be deleted once it is converted.

    Raises
    ------
    FileNotFoundError
        There is neither the source nor a store that was made from it.
    ValueError
        `source` is a store, and options say how to convert it.
    FormatError
        The source is damaged, cut short, not of its format, or a pipe, which cannot be read a second time.
    TargetError
        The store cannot be written, or a folder that is no store has its name.
    TypeError
        `source` is no path.
    StoreError
        `source` is a damaged store. A damaged one that was made here is made again.
    RemoteError, MissingPackageError
        As in `vecstore.open`.

    Examples
    --------
    >>> vecstore.load("glove.bin")["nice"][:3]
    array([ 0.20189,  0.80606, -1.1281 ], dtype=float32)
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"expected a path, found {type(source).__name__}; for vectors in memory: vecstore.convert")
    if keys is not None:
        from vecstore.selection import index_wanted

        keys = index_wanted(keys)
    given = {
        "format": format,
        "dtype": dtype,
        "limit": limit,
        "keys": keys,
        "row_keys": None if row_keys is None else os.path.realpath(row_keys),
        "duplicates": duplicates,
        "encoding_errors": encoding_errors,
        "count_mismatch": count_mismatch,
    }
    usual = convert.__kwdefaults__ or {}
    options = {name: value for name, value in given.items() if value is not None and value != usual[name]}
    if is_remote(source):
        _expect_none(source, options)
        return open_store(source, cache=cache, progress=progress)
    path = local_path(source)
    wanted = _Wanted(path, *_split(path), options)
    if _is_pipe(wanted.path):
        raise FormatError(
            f"{source}: expected a file, which can be compared with its store later, found a pipe or a device; "
            "make a store of it once: vecstore.convert(source, target)"
        )
    if (wanted.path / METADATA).is_file():
        _expect_none(source, options)
        return open_store(wanted.path)
    folder = chosen_cache(cache)
    if folder:
        target = folder / wanted.name(shared=True)
    else:
        target = wanted.path.parent / wanted.name(shared=False)
        store = wanted.open(target)
        if store is not None:
            return store
        if not os.access(wanted.path.parent, os.W_OK):
            target = user_cache() / wanted.name(shared=True)
    store = wanted.open(target)
    return wanted.make(target, progress or (lambda progress: None)) if store is None else store


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A source, where it is, and how it is to be converted."""

    source: Path
    path: Path
    member: str | None
    options: dict[str, Any]

    def name(self, *, shared: bool) -> str:
        """Return the name of the store: for people the file's, with a digest of all that this does not say.

        `shared` is a folder where sources of several folders meet.
        """
        name = self.path.name
        unsaid: dict[str, Any] = {option: self.options[option] for option in sorted(self.options)}
        if "keys" in unsaid:
            unsaid["keys"] = sorted(set(unsaid["keys"]))
        if self.member is not None:
            unsaid["member"] = self.member
            name += "-" + re.sub(r"[^\w.-]+", "_", self.member)
        if shared:
            unsaid["path"] = os.path.realpath(self.path)
        return store_name(name, unsaid)

    def open(self, target: Path) -> VectorStore | None:
        """Open the store at `target`, unless it is absent, damaged, or of another state of the source."""
        try:
            store = open_store(target)
        except (FileNotFoundError, StoreError):
            return None
        row_keys = self.options.get("row_keys")
        try:
            states = [file.stat() for file in files_of(self.source, None if row_keys is None else Path(row_keys))]
        except FileNotFoundError:
            return store
        made_from = store.metadata.source
        # A file of keys may lie beside a source that holds its keys itself, and is then no part of it.
        for files in (states, states[:1]):
            size, modified = sum(file.st_size for file in files), max(file.st_mtime_ns for file in files)
            if (made_from.size, made_from.modified) == (size, modified):
                return store
        store.close()
        return None

    def make(self, target: Path, progress: ProgressCallback) -> VectorStore:
        """Convert the source and open the store, or wait until another process has converted it."""
        from vecstore.staging import StagedFolder  # here, since most calls find their store

        self.path.stat()  # to say here that there is no such file
        make_cache(target.parent)

        def attempt() -> VectorStore:
            # Never published: whoever holds its partial folder has the turn, and looks again before converting.
            with StagedFolder(target.with_name(f"{target.name}.turn")):
                store = self.open(target)
                if store is None:
                    convert(self.source, target, overwrite=True, progress=progress, **self.options)
                    store = open_store(target)
                return store

        return wait_while_busy(attempt, progress)


def _split(source: Path) -> tuple[Path, str | None]:
    """Split an archive, its path made absolute, from its member; also when it is gone."""
    if source == STANDARD_INPUT:
        return source, None
    path, member = split_member(source)
    if member is None and "::" in str(source) and not os.path.exists(source):
        archive, _, member = str(source).partition("::")
        path = Path(archive)
    path = path.absolute()
    return (path.resolve() if path.name == ".." else path), member


def _expect_none(source: str | os.PathLike[str], options: dict[str, Any]) -> None:
    if options:
        raise ValueError(f"{source}: is a store already, on which {', '.join(options)} would have no effect")


def _is_pipe(path: Path) -> bool:
    return path == STANDARD_INPUT or (path.exists() and not path.is_file() and not path.is_dir())
