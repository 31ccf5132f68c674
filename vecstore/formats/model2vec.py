"""model2vec: a folder with the vectors of subword tokens and the tokenizer that names them.

``model.safetensors`` holds the matrix, ``tokenizer.json`` the vocabulary: Hugging Face's tokenizers, whose
``model.vocab`` is an object token -> id or an array of [token, score] in the order of the ids, and whose
``added_tokens`` are as good as the others. The vector of a token is what model2vec takes before it averages and
normalises (https://github.com/MinishLab/model2vec, ``StaticModel._encode_helper``): its row of the matrix; where
there is a tensor ``mapping``, row ``mapping[id]``; where there is a tensor ``weights``, times ``weights[id]``.

The keys are the tokens as the vocabulary spells them, with the marks of their kind: "##ing" continues a word,
"▁the" and "Ġthe" start one.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.errors import FormatError
from vecstore.formats.rows import BLOCK_BYTES, Matrix, as_float32, pack_keys
from vecstore.formats.safetensors import Tensor, choose_tensor, read_header
from vecstore.formats.source import Block
from vecstore.keys import KeyBatch
from vecstore.layout import Source

__all__ = ["Model2vecSource", "is_model2vec"]

_VECTORS, _TOKENIZER = "model.safetensors", "tokenizer.json"
_TOKENIZER_LIMIT = 1 << 26  # four times that of the largest multilingual vocabularies


def is_model2vec(folder: Path) -> bool:
    """Say whether a folder holds the two files of a model2vec model."""
    return all((folder / name).is_file() for name in (_VECTORS, _TOKENIZER))


class Model2vecSource:
    """Read a model2vec model.

    Parameters
    ----------
    folder : Path
        Of its files two are read, which may be symbolic links, as in Hugging Face's cache.

    Raises
    ------
    FormatError
        A file is missing or damaged; the ids of the vocabulary are not 0, 1, 2, ...; or the tensors do not have one
        vector for each.
    """

    def __init__(self, folder: Path) -> None:
        for name in (_VECTORS, _TOKENIZER):
            if not (folder / name).is_file():
                raise FormatError(f"{folder}: expected a model2vec model, found no file {name}")
        keys, size, modified = _read_tokenizer(folder / _TOKENIZER)
        self._folder = folder
        self._keys = KeyBatch.of(keys)
        self._place = str(folder / _VECTORS)
        self._file = (folder / _VECTORS).open("rb", buffering=0)
        try:
            status = os.fstat(self._file.fileno())
            self._size, self._modified = size + status.st_size, max(modified, status.st_mtime_ns)
            self._open_tensors(status.st_size)
        except BaseException:
            self.close()
            raise
        self.dim, self.expected = self._matrix.dim, len(keys)
        self._finished = 0
        self.departures: list[str] = []

    def _open_tensors(self, size: int) -> None:
        tensors, start = read_header(self._file.read, size, self._place)
        stop = max((tensor.stop for tensor in tensors), default=start)
        if stop != size:
            raise FormatError(
                f"{self._place}: expected {stop:,} bytes, as the header says, found {size:,}; the file is damaged"
            )
        self._matrix = choose_tensor(tensors, None, self._place).matrix(self._place)
        named = {tensor.name: tensor for tensor in tensors}
        self._weights = self._read_factors(named["weights"]) if "weights" in named else None
        self._mapping = self._read_mapping(named["mapping"]) if "mapping" in named else None
        if self._mapping is None and self._matrix.rows != len(self._keys):
            raise FormatError(
                f"{self._place}: expected a vector for each of the {len(self._keys):,} tokens of {_TOKENIZER}, "
                f"found {self._matrix.rows:,}"
            )

    def _read_mapping(self, tensor: Tensor) -> NDArray[np.int64]:
        rows = self._read_factors(tensor)
        if rows.dtype.kind not in "iu":
            raise FormatError(f"{self._place}: expected a mapping of integers, found {tensor}")
        beyond = np.flatnonzero((rows < 0) | (rows >= self._matrix.rows))
        if len(beyond):
            raise FormatError(
                f"{self._place}: expected a mapping to the rows 0 to {self._matrix.rows - 1:,}, "
                f"found {rows[beyond[0]]} for token {beyond[0]:,}"
            )
        return rows.astype(np.int64)

    def _read_factors(self, tensor: Tensor) -> NDArray[Any]:
        """Read a tensor with a number for each token."""
        if tensor.shape != (len(self._keys),):
            raise FormatError(
                f"{self._place}: expected a number for each of {len(self._keys):,} tokens, found {tensor}"
            )
        column = tensor._replace(shape=(len(self._keys), 1)).matrix(self._place)
        return self._read(column, 0, column.rows)[:, 0]

    @property
    def description(self) -> Source:
        """The folder's name, and its two files' size and kind."""
        name = self._folder.resolve().name.encode("utf-8", "replace").decode()
        return Source(name, self._size, "model2vec", None, self._modified)

    @property
    def done(self) -> int:
        """Bytes of the files that were read, in proportion to the vectors."""
        return self._size * self._finished // self.expected

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def locate(self, record: int, position: int) -> str:
        """Say where a token is."""
        return f"{self._folder}: token {record:,}"

    def blocks(self) -> Iterator[Block]:
        """Read the vectors in the order of the ids, a few megabytes at a time.

        Raises
        ------
        FormatError
            The file was cut short meanwhile, a number is beyond float32, or a token has no UTF-8.
        """
        step = max(1, BLOCK_BYTES // (4 * self.dim))
        for first in range(0, self.expected, step):
            stop = min(first + step, self.expected)
            data, offsets = pack_keys(self._keys, first, stop, first, self._locate)
            vectors = as_float32(self._gather(first, stop), first, self._locate)
            self._finished = stop
            yield Block(data, offsets, vectors, np.arange(first, stop), first)

    def _locate(self, token: int) -> str:
        return self.locate(token, token)

    def _gather(self, first: int, stop: int) -> NDArray[Any]:
        """Return the vectors of some tokens as the model computes them."""
        if self._mapping is None:
            vectors = self._read(self._matrix, first, stop)
        else:
            rows, places = np.unique(self._mapping[first:stop], return_inverse=True)
            vectors = np.concatenate([self._read(self._matrix, row, row + 1) for row in rows.tolist()])[places]
        if self._weights is None:
            return vectors
        with np.errstate(all="ignore"):
            product: NDArray[Any] = vectors * self._weights[first:stop, None]
        return product

    def _read(self, matrix: Matrix, first: int, stop: int) -> NDArray[Any]:
        numbers = np.empty((stop - first, matrix.dim), matrix.dtype)
        view = numbers.view(np.uint8).reshape(-1).data
        self._file.seek(matrix.start + first * matrix.width)
        while view:
            count = self._file.readinto(view)
            if not count:
                raise FormatError(f"{self._place}: byte {self._file.tell():,}: expected more, found the end")
            view = view[count:]
        return matrix.decode(numbers)


def _read_tokenizer(path: Path) -> tuple[list[str], int, int]:
    """Return the tokens in the order of their ids, and the file's size and time of change."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_size > _TOKENIZER_LIMIT:
            raise FormatError(f"{path}: expected at most {_TOKENIZER_LIMIT:,} bytes, found {status.st_size:,}")
        text = file.read()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: expected JSON: {error!s:.200}") from None
    model = content.get("model") if isinstance(content, dict) else None
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, list):
        for entry in vocab:
            if not (isinstance(entry, list) and entry and isinstance(entry[0], str)):
                raise FormatError(
                    f"{path}: expected each entry of model.vocab to be [token, score], found {entry!r:.80}"
                )
        tokens = [entry[0] for entry in vocab]
        ids = list(range(len(tokens)))
    elif isinstance(vocab, dict):
        tokens, ids = list(vocab), list(vocab.values())
    else:
        raise FormatError(f"{path}: expected a tokenizer with a model.vocab, found {text[:40]!r}...")
    known = dict(zip(tokens, ids, strict=True))
    for token, place in _added_tokens(path, content):
        if token not in known:
            tokens.append(token)
            ids.append(place)
        if known.setdefault(token, place) != place:
            raise FormatError(f"{path}: expected one id for token {token!r:.80}, found {known[token]!r} and {place!r}")
    return _in_order(path, tokens, ids), status.st_size, status.st_mtime_ns


def _added_tokens(path: Path, content: dict[str, Any]) -> list[tuple[str, Any]]:
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(entry, dict) for entry in added):
        raise FormatError(f"{path}: expected added_tokens to be an array of objects, found {added!r:.80}")
    pairs = [(entry.get("content"), entry.get("id")) for entry in added]
    for token, place in pairs:
        if not isinstance(token, str):
            raise FormatError(
                f"{path}: expected added_tokens with content and id, found {token!r:.80} and {place!r:.80}"
            )
    return pairs


def _in_order(path: Path, tokens: list[str], ids: list[Any]) -> list[str]:
    """Return tokens in the order of their ids, which must be 0, 1, 2, ..."""
    ordered: list[str | None] = [None] * len(tokens)
    for token, place in zip(tokens, ids, strict=True):
        if type(place) is not int or not 0 <= place < len(tokens):
            raise FormatError(
                f"{path}: expected the ids 0 to {len(tokens) - 1:,} for {len(tokens):,} tokens, "
                f"found {place!r:.80} for {token!r:.80}"
            )
        if ordered[place] is not None:
            raise FormatError(
                f"{path}: expected each id once, found {place} for {ordered[place]!r:.80} and for {token!r:.80}"
            )
        ordered[place] = token
    return [token for token in ordered if token is not None]
