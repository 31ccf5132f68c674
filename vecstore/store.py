"""VectorStore: a folder of mapped arrays, served as keys, rows and vectors."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecstore.gather import gather
from vecstore.index import KeyIndex
from vecstore.keys import Keys
from vecstore.layout import Metadata, StoreFiles, open_files
from vecstore.location import is_remote, local_folder
from vecstore.matrix import EmbeddingMatrix, Oov, align
from vecstore.progress import ProgressCallback
from vecstore.storage import StoredVectors
from vecstore.store_texts import StoreTexts

__all__ = ["VectorStore", "open_store"]

_Default = TypeVar("_Default")
_SHOWN = 10


def open_store(
    path: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    refresh: bool = False,
    progress: ProgressCallback | None = None,
) -> "VectorStore":
    """Open a store: map its files, read no vector.

    Takes about a millisecond whatever the store's size. Processes that open the same store share one copy of
    it in the page cache.

    A store at an address is copied the first time, once a machine, and verified by its checksums; processes that ask at
    once wait for the one that copies. From then on the copy is opened, without a request.

    Parameters
    ----------
    path : path or address
        A folder that `vecstore.convert` made, or where such a folder was uploaded: ``s3://...``, ``https://...`` or
        any other address that fsspec knows. ``file://...`` is a folder on this machine.
    cache : path, optional
        The folder for the copy. By default that which the environment variable ``VECSTORE_CACHE`` names, or else
        the user's cache folder. No effect without an address.
    refresh : bool, default False
        Whether to ask if another store is at the address by now, and to copy that. No effect without an address.
    progress : callable, optional
        Called with a `Progress` several times a second while a store is copied or another process is waited for.

    Raises
    ------
    FileNotFoundError
        Nothing is at `path`.
    StoreError
        `path` is not a store, is of a later format version, lacks a file, or its files do not fit together. Or what
        came from an address does not have the checksums that its metadata tell.
    RemoteError
        The address cannot be read.
    TargetError
        The copy cannot be written; the disk may be full.
    ValueError
        The address has a scheme that fsspec does not know.
    MissingPackageError
        A package that the address needs is not installed, such as those of vecstore[s3].

    Examples
    --------
    >>> store = vecstore.open("glove.vecstore")
    >>> store["nice"][:3]
    array([ 0.20189,  0.80606, -1.1281 ], dtype=float32)
    """
    folder = local_folder(path, cache=cache, refresh=refresh, progress=progress)
    if is_remote(path):
        return VectorStore(folder, open_files(folder), path, cache=folder.parent if cache else None)
    return VectorStore(folder, open_files(folder))


class VectorStore(StoreTexts):
    """v keys with a vector of width d each, mapped from disk and never changed.

    Made by `vecstore.open`. All methods may be called from many threads at once and after ``fork``; pickling
    a store pickles its path, and whoever unpickles it maps the files again. Of a store that was opened from an
    address this is pickled, so that another machine makes a copy of its own. As a context manager it is closed
    at the end; views of its arrays stay valid.

    Parameters
    ----------
    path : Path
        The store's folder, absolute.
    files : StoreFiles
        Its mapped arrays.
    address : str, optional
        What the folder is a copy of.
    cache : Path, optional
        The folder that was named for copies.
    """

    def __init__(self, path: Path, files: StoreFiles, address: str | None = None, cache: Path | None = None) -> None:
        self._path = path
        self._address = address
        self._cache = cache
        self._files: StoreFiles | None = files
        self._keys: KeyIndex | None = KeyIndex(files.keys, files.offsets, files.index, files.metadata.seed)

    @property
    def _open_files(self) -> StoreFiles:
        if self._files is None:
            raise ValueError(f"{self._path}: the store was closed")
        return self._files

    @property
    def path(self) -> Path:
        """The store's folder, absolute; of a store at an address that of the local copy."""
        return self._path

    @property
    def address(self) -> str | None:
        """The address that the store was opened from, such as ``s3://bucket/glove.vecstore``; None of a folder."""
        return self._address

    @property
    def metadata(self) -> Metadata:
        """What the store was made from, and what was dropped on the way."""
        return self._open_files.metadata

    @property
    def vectors(self) -> NDArray[Any]:
        """All vectors as they are stored: (v, d), a read-only view of the mapped file. Row i belongs to ``keys[i]``.

        ``metadata.dtype`` says what the numbers are: float32, float16, bfloat16 (as uint16, the upper half of a
        float32), or int8, whose rows are to be multiplied by `scales`. `gather` and all else give float32.
        """
        return self._open_files.vectors.array

    @property
    def stored_vectors(self) -> StoredVectors:
        """All vectors with their storage type: slices of rows are float32."""
        return self._open_files.vectors

    @property
    def scales(self) -> NDArray[np.float32] | None:
        """The scale of each row of a store of int8: (v,), a read-only view of the mapped file; or else None."""
        return self._open_files.vectors.scales

    @property
    def keys(self) -> KeyIndex:
        """All keys in row order: a sequence of v str, decoded from the mapped file on access."""
        if self._keys is None:
            raise ValueError(f"{self._path}: the store was closed")
        return self._keys

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(v, d): the number of keys and the width of the vectors."""
        return self.vectors.shape[0], self.vectors.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the vectors that are handed out: float32, however they are stored."""
        return self._open_files.vectors.dtype

    def __len__(self) -> int:
        return len(self.vectors)

    def __contains__(self, key: object) -> bool:
        return self.keys.row_of(key) >= 0

    @overload
    def __getitem__(self, keys: str | bytes) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, keys: Keys) -> NDArray[np.float32]: ...
    def __getitem__(self, keys: Any) -> NDArray[np.float32]:
        """Return the vector (d,) of one key, or the vectors (n, d) of a batch; float32 copies.

        Raises
        ------
        KeyError
            Keys are out of vocabulary; the error names them.
        TypeError
            `keys` is neither a key nor a batch of keys.

        Examples
        --------
        >>> store[["nice", "great"]].shape
        (2, 50)
        """
        row = self.keys.row_of(keys)
        if row >= 0:
            return self._open_files.vectors.row(row)
        if isinstance(keys, str | bytes):
            raise KeyError(keys)
        if not isinstance(keys, Iterable):
            raise TypeError(f"expected a key or a batch of keys, found {keys!r}; for rows use store.gather(rows)")
        if not hasattr(keys, "__len__"):
            keys = list(keys)
        rows = self.find(keys)
        absent = np.flatnonzero(rows < 0)
        if len(absent):
            raise KeyError(_name(keys, absent))
        return self.gather(rows)

    @overload
    def get(self, key: str | bytes) -> NDArray[np.float32] | None: ...
    @overload
    def get(self, key: str | bytes, default: _Default) -> NDArray[np.float32] | _Default: ...
    def get(self, key: str | bytes, default: Any = None) -> Any:
        """Return the vector (d,) of one key, a float32 copy, or `default` if it is out of vocabulary."""
        row = self.keys.find_one(key)
        return default if row < 0 else self._open_files.vectors.row(row)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the rows of `keys`.

        Parameters
        ----------
        keys : n keys
            A list or tuple of str, a NumPy array of str (object, ``U``, StringDType), anything that speaks
            the Arrow PyCapsule protocol (pyarrow, pandas, polars, datasets), or any iterable of str. Bytes
            are taken as UTF-8. A dictionary-encoded Arrow array looks each distinct key up once.

        Returns
        -------
        (n,) int64 array
            Rows of this store; -1 for a key that is out of vocabulary, and for a null.

        Raises
        ------
        TypeError
            `keys` is one str, or holds something that is not a key.

        Examples
        --------
        >>> store.find(["the", "nice", "qwertzuiop"])
        array([   0, 3082,   -1])
        """
        return self.keys.find(keys)

    def gather(
        self, rows: ArrayLike, *, out: NDArray[np.float32] | None = None, oov: float = 0.0
    ) -> NDArray[np.float32]:
        """Return the vectors at `rows`.

        Parameters
        ----------
        rows : (n,) integer array
            Rows of this store; -1 marks an out-of-vocabulary key.
        out : (n, d) float32 array, optional
            C-contiguous array to write into.
        oov : float, default 0.0
            Every component of an out-of-vocabulary vector.

        Returns
        -------
        (n, d) float32 array
            A copy, never a view of the file; `out` if given.

        Raises
        ------
        IndexError
            A row is below -1 or not below ``len(self)``.
        TypeError
            `rows` are not integers.
        ValueError
            `rows` is not 1-d, or `out` has the wrong shape, dtype or memory order.

        Examples
        --------
        >>> store.gather([3082, -1])[:, 0]
        array([0.20189, 0.     ], dtype=float32)
        """
        return gather(self._open_files.vectors, rows, out=out, oov=oov)

    def lookup(self, keys: Keys, *, out: NDArray[np.float32] | None = None, oov: float = 0.0) -> NDArray[np.float32]:
        """Return the vectors of `keys`: `find`, then `gather`.

        Takes what `find` takes, returns and raises what `gather` does: a copy (n, d), with `oov` in every
        component of a key that is out of vocabulary.
        """
        return self.gather(self.find(keys), out=out, oov=oov)

    def matrix(
        self,
        vocabulary: Any,
        *,
        oov: Oov = "zeros",
        seed: int = 0,
        out: NDArray[np.float32] | None = None,
        dtype: Any = None,
    ) -> EmbeddingMatrix:
        """Return the vectors of a vocabulary, each in the row that the vocabulary gives its key.

        Parameters
        ----------
        vocabulary
            A mapping key -> row, such as ``Tokenizer.word_index``: rows that no key has, such as row 0, are
            zeros. Or keys in row order, such as ``TextVectorization.get_vocabulary()``: a leading ``""`` is the
            padding row, zeros, and ``"[UNK]"`` in one of the first rows is out of vocabulary by meaning. Or a Keras
            `Tokenizer` (whose ``num_words`` limits the rows), `TextVectorization` or `StringLookup` itself.
        oov : {"zeros", "mean", "normal"}, (d,) array or callable, default "zeros"
            The vector of a key that is out of vocabulary. ``"mean"`` is the mean of the store's vectors;
            ``"normal"`` draws from a normal distribution with the store's mean and standard deviation in each
            component, the same vector for the same key and `seed` whatever the vocabulary around it; an array
            is used for every such key; a callable takes a list of n keys and returns their vectors (n, d).
        seed : int, default 0
            Of ``"normal"``; 0 <= seed < 2**64.
        out : (v, d) array, optional
            C-contiguous float array to write into.
        dtype : optional
            Of the result; float32 unless said. Any NumPy float type.

        Returns
        -------
        EmbeddingMatrix
            A copy of the rows, what was found, and what is missing.

        Raises
        ------
        VocabularyError
            Two keys share a row, or a row is negative or not an integer.
        ValueError
            `oov` or `out` has the wrong shape, or `oov` is an unknown word.

        Examples
        --------
        >>> store.matrix({"nice": 1, "great": 2, "qwertzuiop": 3})
        EmbeddingMatrix(4 x 50 float32: 2 of 3 keys found (66.7%); missing: 'qwertzuiop')
        """
        files = self._open_files
        return align(self.keys, files.vectors, files.moments, vocabulary, oov=oov, seed=seed, out=out, dtype=dtype)

    def to_gensim(self) -> Any:
        """Return the store as a gensim `KeyedVectors`, which shares mapped float32 vectors; needs gensim.

        Takes time and memory for all v keys, as gensim keeps them: a list of str and a dict, some 150 bytes a key.
        Vectors stored as float32 are not copied, and read-only: what changes them in place, such as
        `unit_normalize_all`, is an error. Of another storage type they are widened into memory, 4 bytes a number.

        Returns
        -------
        gensim.models.KeyedVectors

        Examples
        --------
        >>> [key for key, _ in store.to_gensim().most_similar("nice", topn=3)]
        ['good', 'perfect', 'fun']
        """
        from vecstore.gensim import to_keyed_vectors

        return to_keyed_vectors(self.keys, np.asarray(self._open_files.vectors))

    def close(self) -> None:
        """Let go of the mapped files; arrays that were handed out stay valid. Any later call is an error."""
        self._files = None
        self._keys = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._address is not None:
            return partial(open_store, cache=self._cache), (self._address,)
        return open_store, (self._path,)

    def __repr__(self) -> str:
        name = self._address or str(self._path)
        if self._files is None:
            return f"VectorStore({name!r}, closed)"
        stored = "" if self.metadata.dtype == self.dtype.name else f", stored as {self.metadata.dtype}"
        return f"VectorStore({name!r}: {len(self):,} x {self.dim} {self.dtype}{stored})"


def _name(keys: Any, places: NDArray[np.int64]) -> str:
    """Say which of `keys` stand at `places`."""
    entries = list(keys)
    plain = (getattr(entries[i], "as_py", lambda i=i: entries[i])() for i in places[:_SHOWN])
    shown = ", ".join(repr(str(key) if isinstance(key, str) else key) for key in plain)
    more = f" and {len(places) - _SHOWN:,} more" if len(places) > _SHOWN else ""
    return f"{len(places):,} of {len(entries):,} keys are out of vocabulary: {shown}{more}"
