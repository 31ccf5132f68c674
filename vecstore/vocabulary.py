"""Vocabulary: distinct keys with a row each, read from whatever a model keeps its words in.

Keras is recognised by the methods of its objects, so nothing here imports it.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.errors import VocabularyError
from vecstore.kernels.ints import read_ints
from vecstore.keys import KeyBatch, frozen

__all__ = ["Vocabulary", "distinct", "plain", "read_keys", "read_vocabulary", "write_vocabulary"]

_FILE_LIMIT = 1 << 28  # bytes: four times those of GoogleNews's keys
_PADDING = ""
_UNKNOWN = "[UNK]"


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The keys of a model and the rows of its embedding matrix.

    Attributes
    ----------
    keys : list of k str or bytes
        Without padding and without the model's own names for unknown words.
    batch : KeyBatch
        The same keys, as they are found.
    rows : (k,) int64 array
        The row of each key.
    height : int
        Number of rows. Rows that no key has are zeros.
    unknown : dict of str to list of int
        The model's names for unknown words, and their rows: out of vocabulary by meaning, counted as no key.
    """

    keys: list[Any]
    batch: KeyBatch
    rows: NDArray[np.int64]
    height: int
    unknown: dict[str, list[int]]

    @classmethod
    def of(cls, vocabulary: Any) -> "Vocabulary":
        """Return a mapping, a sequence, or a Keras object as a vocabulary.

        Parameters
        ----------
        vocabulary
            What `VectorStore.matrix` takes.

        Raises
        ------
        VocabularyError
            Two keys share a row, or a row is negative or not an integer, or a key is null.
        TypeError
            `vocabulary` is none of the above.
        """
        if isinstance(vocabulary, cls):
            return vocabulary
        if isinstance(vocabulary, Mapping):
            return _from_mapping(vocabulary, padding=_PADDING, unknown=_UNKNOWN)
        if hasattr(vocabulary, "get_vocabulary"):
            return _from_layer(vocabulary)
        if hasattr(vocabulary, "word_index"):
            return _from_tokenizer(vocabulary)
        return _from_sequence(_as_list(vocabulary), _PADDING, _UNKNOWN)

    @classmethod
    def of_mapping(cls, rows: Mapping[str, int]) -> "Vocabulary":
        """Return every key of a mapping with its row: none is padding, none a name of unknown words.

        Raises
        ------
        VocabularyError
            Two keys share a row, or a row is negative or not an integer, or a key is null.
        """
        return _from_mapping(rows)


def _from_mapping(
    mapping: Mapping[str, int],
    *,
    padding: str | None = None,
    unknown: str | None = None,
    limit: int | None = None,
) -> Vocabulary:
    """Read keys with their rows; `padding` may have row 0, and `unknown` the row after it (or row 0)."""
    if not isinstance(mapping, Mapping):
        raise VocabularyError(f"expected a mapping from key to row, found {type(mapping).__name__}")
    if limit is not None and not isinstance(limit, int):
        raise VocabularyError(f"expected num_words to be a number, found {limit!r}")
    if unknown is not None and not isinstance(unknown, str):
        raise VocabularyError(f"expected oov_token to be text, found {unknown!r}")
    keys = list(mapping)
    batch = _check_keys(keys, "a mapping from key to row")
    rows = _check_rows(keys, tuple(mapping.values()))
    if limit:  # Keras takes 0 for no limit
        kept = np.flatnonzero(rows < limit)
        keys, batch, rows = [keys[i] for i in kept.tolist()], batch.take(kept), rows[kept]
    height = int(rows.max(initial=-1)) + 1
    special: dict[str, list[int]] = {}
    left_out = []
    if padding is not None and mapping.get(padding) == 0:
        left_out.append(keys.index(padding))
    if unknown is not None and unknown in mapping and unknown in keys:
        i = keys.index(unknown)
        if rows[i] == np.delete(rows, left_out).min():  # before every key
            special[unknown] = [int(rows[i])]
            left_out.append(i)
    if left_out:
        kept = np.delete(np.arange(len(keys)), left_out)
        keys, batch, rows = [keys[i] for i in kept.tolist()], batch.take(kept), rows[kept]
    return Vocabulary(keys, batch, frozen(rows), height, special)


def _check_keys(keys: list[Any], expected: str) -> KeyBatch:
    """Return keys as a batch, if each is str or bytes."""
    try:
        batch = KeyBatch.of(keys)
    except TypeError:
        batch = None
    if batch is None or batch.codes is not None:  # nulls, or str without UTF-8, which no store has
        for i, key in enumerate(keys):
            if not isinstance(key, str | bytes):
                raise VocabularyError(f"expected {expected}, found {type(key).__name__} {key!r} for key {i}")
    assert batch is not None
    return batch


def plain(keys: list[Any]) -> list[Any]:
    """Return keys as plain str, of which Keras gives `numpy.str_`."""
    if set(map(type, keys)) <= {str}:
        return keys
    return [str(key) if isinstance(key, str) else key for key in keys]


def _check_rows(keys: list[Any], values: tuple[Any, ...]) -> NDArray[np.int64]:
    rows = np.empty(len(values), np.int64)
    read = read_ints(values, True, False, rows)
    if read < len(values) and not _is_int(values[read]):
        found = f"{type(values[read]).__name__} {values[read]!r}"
        raise VocabularyError(f"expected an integer row for key {keys[read]!r}, found {found}")
    extremes = [read] if read < len(values) else [rows.argmin(), rows.argmax()] if len(rows) else []
    for i in extremes:
        if values[i] < 0:
            raise VocabularyError(f"expected a row of 0 or more for key {keys[i]!r}, found {values[i]}")
        if values[i] >= 2**62:
            raise VocabularyError(f"expected a row below 2**62 for key {keys[i]!r}, found {values[i]}")
    order = np.argsort(rows, kind="stable")
    shared = np.flatnonzero(np.diff(rows[order]) == 0)
    if len(shared):
        first, second = order[shared[0]], order[shared[0] + 1]
        raise VocabularyError(f"keys {keys[first]!r} and {keys[second]!r} share row {rows[first]}")
    return rows


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _from_sequence(keys: list[Any], padding: str | None, unknown: str | None) -> Vocabulary:
    """Read keys in row order; `padding` may stand in row 0, and `unknown` in the rows after it."""
    batch = _check_keys(keys, "keys in row order")
    keys = plain(keys)
    start = 1 if keys and keys[0] == padding else 0
    stop = start
    while stop < len(keys) and keys[stop] == unknown:
        stop += 1
    special = {str(unknown): list(range(start, stop))} if stop > start else {}
    rows = frozen(np.arange(stop, len(keys)), np.int64)
    return Vocabulary(keys[stop:], batch.take(rows) if stop else batch, rows, len(keys), special)


def _from_layer(layer: Any) -> Vocabulary:
    """Read a Keras `TextVectorization` or `StringLookup`, whose special names may be its own."""
    lookup = getattr(layer, "_lookup_layer", layer)
    padding = getattr(lookup, "mask_token", _PADDING)
    unknown = getattr(lookup, "oov_token", _UNKNOWN)
    return _from_sequence(_as_list(layer.get_vocabulary()), padding, unknown)


def _from_tokenizer(tokenizer: Any) -> Vocabulary:
    """Read a Keras `Tokenizer`, which gives no row of `num_words` or above to any text."""
    return _from_mapping(tokenizer.word_index, unknown=tokenizer.oov_token, limit=tokenizer.num_words)


def _as_list(keys: Any) -> list[Any]:
    if isinstance(keys, str | bytes):
        raise TypeError(f"expected a vocabulary, found one {type(keys).__name__}: {keys!r}")
    unordered = isinstance(keys, Set) and not isinstance(keys, KeysView)
    if unordered or getattr(keys, "ndim", 1) == 0 or not isinstance(keys, Iterable):
        raise TypeError(
            f"expected a mapping key -> row, keys in row order or a Keras object, found {type(keys).__name__}"
        )
    for method in ("to_pylist", "to_list", "tolist"):  # pyarrow; pandas and polars; NumPy
        if hasattr(keys, method):
            return list(getattr(keys, method)())
    return list(keys)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary from a file.

    Parameters
    ----------
    path : Path
        A ``.json`` file with an object (key -> row), an array (keys in row order) or the output of
        ``Tokenizer.to_json()``; any other file is UTF-8 text with one key a line, in row order.

    Raises
    ------
    VocabularyError
        The file is none of these, or its keys and rows do not fit.
    OSError
        It cannot be read.
    """
    with _naming(path):
        text = _read_text(path)
        if path.suffix != ".json":
            return Vocabulary.of(_lines(text))
        content = json.loads(text)
        config = content.get("config") if isinstance(content, dict) else None
        if isinstance(config, dict) and isinstance(config.get("word_index"), str):
            rows = json.loads(config["word_index"])
            return _from_mapping(rows, unknown=config.get("oov_token"), limit=config.get("num_words"))
        if not isinstance(content, dict | list):
            raise VocabularyError(f"expected an object or an array, found {type(content).__name__}")
        return Vocabulary.of(content)


def write_vocabulary(path: Path, keys: Sequence[str], suffix: str) -> None:
    """Write keys, the most frequent first, to a new file that `read_vocabulary` reads; their rows begin at 1.

    Parameters
    ----------
    path : Path
        The file, which is on disk afterwards.
    keys : sequence of str
    suffix : str
        ".json" for an object key -> row, Keras's ``word_index``; ".txt" for a key a line, after an empty one for row 0.

    Raises
    ------
    ValueError
        A key holds a newline, which a line cannot.
    """
    broken = next((key for key in keys if "\n" in key or key.endswith("\r")), None)
    if suffix != ".json" and broken is not None:
        raise ValueError(f"expected keys without newlines, found {broken!r}; write a .json file instead")
    with path.open("x", encoding="utf-8", newline="\n") as file:
        if suffix == ".json":
            json.dump(dict(zip(keys, range(1, len(keys) + 1), strict=True)), file, ensure_ascii=False)
        else:
            file.write("".join(f"{key}\n" for key in ["", *keys]))
        file.flush()
        os.fsync(file.fileno())


def read_keys(path: Path) -> list[str]:
    """Read the keys of a matrix from a file: one for each row, none with a meaning of its own.

    Parameters
    ----------
    path : Path
        A ``.json`` file with an array (keys in row order) or an object (key -> row); any other file is UTF-8
        text with one key a line, in row order.

    Returns
    -------
    list of str
        In row order; a key may stand several times.

    Raises
    ------
    VocabularyError
        The file is neither, or the rows of its object are not 0, 1, 2, ... in any order.
    OSError
        It cannot be read.
    """
    with _naming(path):
        text = _read_text(path)
        if path.suffix != ".json":
            return _lines(text)
        content = json.loads(text, object_pairs_hook=distinct)
        if isinstance(content, list):
            _check_keys(content, "keys in row order")
            return content
        if not isinstance(content, dict):
            raise VocabularyError(f"expected an object or an array, found {type(content).__name__}")
        keys = list(content)
        rows = _check_rows(keys, tuple(content.values()))
        if len(rows) and rows.max() >= len(rows):
            row, key = rows.max(), keys[rows.argmax()]
            raise VocabularyError(f"expected rows 0 to {len(rows) - 1} for {len(rows)} keys, found {row} for {key!r}")
        return [keys[i] for i in np.argsort(rows)]


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_FILE_LIMIT + 1)
    if len(data) > _FILE_LIMIT:
        raise VocabularyError(f"expected at most {_FILE_LIMIT:,} bytes of keys, found more")
    return data.decode("utf-8-sig")


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, in which `json` would let the last of two equal keys win; an ``object_pairs_hook``.

    Raises
    ------
    VocabularyError
        A key stands twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise VocabularyError(f"expected each key once, found {counts.most_common(1)[0][0]!r:.80} twice")
    return found


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say in errors which file it is that holds no keys."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise VocabularyError(f"{path}: expected UTF-8 text: {error}") from None
    except VocabularyError as error:
        raise VocabularyError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise VocabularyError(f"{path}: expected JSON: {error}") from None


def _lines(text: str) -> list[str]:
    # Only newlines end a line: str.splitlines would also cut at U+0085 and U+2028.
    lines = text.removesuffix("\n").split("\n") if text else []
    return [line.removesuffix("\r") for line in lines]
