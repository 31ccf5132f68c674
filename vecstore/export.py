"""Store to file: in the formats that other programs read, whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from vecstore.arrays import sync_folder
from vecstore.errors import FormatError, StoreError, TargetError
from vecstore.formats.names import keys_path
from vecstore.keys import KeyBatch
from vecstore.progress import Progress, ProgressCallback
from vecstore.store import VectorStore, open_store

__all__ = ["ExportFormat", "export", "exported_files"]

ExportFormat = Literal["auto", "word2vec", "word2vec-text", "glove", "npy", "gensim"]
"""Names of the formats that can be written; "auto" goes by the target's suffix."""

_SUFFIXES: dict[str, ExportFormat] = {".bin": "word2vec", ".vec": "word2vec-text", ".npy": "npy", ".kv": "gensim"}


def export(
    store: VectorStore | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: ExportFormat = "auto",
    newlines: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Write a store as a file that other programs read.

    The file appears whole or not at all; where a format has several, the one that names `target` comes last. All
    keys are checked before anything is written. Memory does not grow with the store, but in "gensim".

    Parameters
    ----------
    store : VectorStore or path
    target : path
        The file to make.
    format : {"auto", "word2vec", "word2vec-text", "glove", "npy", "gensim"}, default "auto"
        "word2vec" is the binary (``.bin``); "word2vec-text" is text with a line ``count dim`` (``.vec``), "glove" text
        without it, with the numbers as gensim writes them; "npy" is a matrix (``.npy``) with the keys, one a line,
        in ``NAME.keys.txt`` beside it; "gensim" is what ``KeyedVectors.load`` reads (``.kv``), with the vectors in
        ``NAME.kv.vectors.npy`` beside it. "auto" goes by the suffixes named here.
    newlines : bool, default False
        Whether a newline follows each vector of a word2vec binary, as word2vec.c writes it.
    overwrite : bool, default False
        Whether to replace files that are there already.
    progress : callable, optional
        Called with a `Progress` several times a second.

    Returns
    -------
    Path
        The file, absolute.

    Raises
    ------
    FormatError
        The format cannot hold one of the keys; the message names it.
    TargetError
        A file exists already, or cannot be written; the disk may be full.
    ValueError
        The suffix of `target` does not say which format is meant, or `newlines` is not for it.

    Examples
    --------
    >>> vecstore.export(store, "glove.vec", overwrite=True).name
    'glove.vec'
    """
    path = Path(target).absolute()
    format = _resolve(path, format)
    if newlines and format != "word2vec":
        raise ValueError(f"newlines: expected them for a word2vec binary alone, found format {format!r}")
    opened = store if isinstance(store, VectorStore) else open_store(store)
    try:
        with _staged(exported_files(path, format), overwrite=overwrite) as partial:
            _write(opened, partial, format, newlines=newlines, progress=progress)
    except FormatError as error:
        raise FormatError(f"{opened.path}: {error}") from None
    return path


def _write(
    store: VectorStore, path: Path, format: ExportFormat, *, newlines: bool, progress: ProgressCallback | None
) -> None:
    # Here, since most processes only look up.
    from vecstore.formats.writers import write_npy, write_text, write_word2vec

    if format == "gensim":
        keyed = store.to_gensim()
        keyed.lifecycle_events = None  # would name the partial file, and the time
        keyed.save(str(path), separately=["vectors"])
        if progress:
            progress(Progress("writing", len(store), len(store), "keys"))
    elif format == "npy":
        write_npy(path, _keys(store), store.stored_vectors, progress=progress)
    elif format == "word2vec":
        write_word2vec(path, _keys(store), store.stored_vectors, newlines=newlines, progress=progress)
    else:
        write_text(path, _keys(store), store.stored_vectors, header=format == "word2vec-text", progress=progress)


def exported_files(target: Path, format: ExportFormat = "auto") -> list[Path]:
    """Return the files that an export to `target` makes, `target` first; raises ValueError as `export` does."""
    beside = {"npy": keys_path(target), "gensim": target.with_name(f"{target.name}.vectors.npy")}
    format = _resolve(target, format)
    return [target, beside[format]] if format in beside else [target]


def _resolve(target: Path, format: ExportFormat) -> ExportFormat:
    names = [name for name in get_args(ExportFormat) if name != "auto"]
    if format in names:
        return format
    if format != "auto":
        raise ValueError(f"format: expected one of auto, {', '.join(names)}, found {format!r}")
    if target.suffix not in _SUFFIXES:
        raise ValueError(
            f"{target}: expected a suffix that says the format ({', '.join(_SUFFIXES)}), found {target.suffix!r}; "
            f"name the format: format= (--format), one of {', '.join(names)}"
        )
    return _SUFFIXES[target.suffix]


def _keys(store: VectorStore) -> KeyBatch:
    """Return a store's keys without making a str of any."""
    try:
        return store.keys.batch
    except ValueError as error:
        raise StoreError(f"{store.path}: the keys are damaged: {error}; `vecstore verify` tells more") from None


@contextmanager
def _staged(files: list[Path], *, overwrite: bool) -> Iterator[Path]:
    """Give a path for the first of `files` in a new folder; in the end all that is in the folder takes its place."""
    import tempfile

    target = files[0]
    _check(files, overwrite=overwrite)
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise TargetError(f"{target}: cannot be written: {error.strerror}") from None
    try:
        try:
            yield folder / target.name
            made = sorted(folder.iterdir(), key=lambda file: file.name == target.name)
            for file in made:
                _sync(file)
        except OSError as error:
            if type(error) is not OSError or error.filename:
                raise
            # NumPy tells no errno of a file that it could not write to its end.
            what = error.strerror or f"the disk took a part of it alone ({error})"
            raise TargetError(f"{target}: cannot be written: {what}") from error
        _check([target.with_name(file.name) for file in made], overwrite=overwrite)
        _publish(made, target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(target.parent)


def _check(files: Iterable[Path], *, overwrite: bool) -> None:
    for file in files:
        if file.is_dir():
            raise TargetError(f"{file}: expected a file to write, found a folder")
        if os.path.lexists(file) and not overwrite:
            raise TargetError(f"{file}: exists already; to replace it: --overwrite (overwrite=True)")


def _sync(file: Path) -> None:
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())


def _publish(files: list[Path], folder: Path) -> None:
    """Give files their names in `folder`, in this order; take back those that are new there if it does not end."""
    new = [folder / file.name for file in files if not os.path.lexists(folder / file.name)]
    try:
        for file in files:
            file.replace(folder / file.name)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
