"""Texts as the ids of their tokens: what a model is trained on.

The reference is Keras: ``Tokenizer.texts_to_sequences``, then ``pad_sequences``.
"""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vecstore.choices import Side
from vecstore.errors import VocabularyError
from vecstore.index import KeyIndex, new_memo
from vecstore.kernels.padding import keep_ids, pad_ids
from vecstore.keys import Keys, frozen
from vecstore.threads import split
from vecstore.tokenizer import Tokenizer, each_piece
from vecstore.tokens import Tokens
from vecstore.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Encoder", "encode", "encode_ragged"]

_GRAIN = 1024  # documents that are worth a thread
_INT32 = np.iinfo(np.int32)
_DROPPED = -1


def encode(
    texts: Keys | Tokens,
    vocabulary: Any,
    *,
    tokenizer: Tokenizer | None = None,
    length: int | None = None,
    padding: Side = "pre",
    truncating: Side = "pre",
    value: int = 0,
    num_words: int | None = None,
    oov_token: str | None = None,
) -> NDArray[np.int32]:
    """Return the ids of the tokens of texts, one row a text.

    Parameters
    ----------
    texts : iterable of str, or Tokens
        Whatever `Texts.of` takes, each a text to be cut; `Tokens` (``Tokens.of(documents)``) are taken as they are.
    vocabulary
        Whose rows are the ids: a mapping key -> row (``word_index``), keys in row order, a Keras layer or
        ``Tokenizer``. A key that stands twice in row order has its first row. Or an `Encoder`, which is made once for
        many calls.
    tokenizer : Tokenizer, optional
        How texts are cut; the default is ``Tokenizer()``, which does as Keras's does.
    length : int, optional
        Ids of each row; the default is the length of the longest.
    padding, truncating : "pre" or "post"
        Where shorter texts are filled up, and longer ones cut.
    value : int, default 0
        What fills up.
    num_words : int, optional
        Ids of `num_words` and above are out of vocabulary, as in Keras; 0 is no limit.
    oov_token : str, optional
        The key whose row tokens out of vocabulary get. Without it they are left out, but for keys in row order with
        ``[UNK]`` before them, and Keras's layers, where they get its row. A Keras ``Tokenizer`` has its own `num_words`
        and `oov_token`, in whose place these are taken if they are given.

    Returns
    -------
    (n, length) int32 array
        A new one.

    Raises
    ------
    ValueError
        A choice is none of the above, `oov_token` is not in the vocabulary, or a row or `value` is beyond int32.
    VocabularyError
        The vocabulary does not give each key one row.

    Examples
    --------
    >>> encode(["Nice work!", "a nice, nice, nice day"], {"nice": 1, "work": 2}, length=3)
    array([[0, 1, 2],
           [1, 1, 1]], dtype=int32)
    """
    for name, side in ("padding", padding), ("truncating", truncating):
        if side not in ("pre", "post"):
            raise ValueError(f"{name}: expected 'pre' or 'post', found {side!r}")
    if length is not None and (not _is_int(length) or length < 1):
        raise ValueError(f"length: expected a number of 1 or more, or None, found {length!r}")
    if not _is_int(value) or not _INT32.min <= value <= _INT32.max:
        raise ValueError(f"value: expected an int32, found {value!r}")
    encoder = _encoder_of(vocabulary, num_words, oov_token)
    ids, offsets = encoder.encode(texts, tokenizer, length, from_end=truncating == "pre")
    n = len(offsets) - 1
    width = length if length is not None else int(np.diff(offsets).max(initial=0))
    out = np.empty((n, width), np.int32)

    def pad(start: int, stop: int) -> None:
        pad_ids(ids, offsets, value, int(padding == "pre"), start, stop, out)

    split(pad, n, _GRAIN)
    return out


def encode_ragged(
    texts: Keys | Tokens,
    vocabulary: Any,
    *,
    tokenizer: Tokenizer | None = None,
    num_words: int | None = None,
    oov_token: str | None = None,
) -> "pa.ListArray | pa.LargeListArray":
    """Return the ids of the tokens of texts, each text as long as it is; the parameters are those of `encode`.

    Returns
    -------
    pyarrow.ListArray of int32
        One list a text; a LargeListArray from 2**31 tokens on.

    Examples
    --------
    >>> encode_ragged(["Nice work!", "day"], {"nice": 1, "work": 2}).to_pylist()
    [[1, 2], []]
    """
    import pyarrow as pa

    encoder = _encoder_of(vocabulary, num_words, oov_token)
    ids, offsets = encoder.encode(texts, tokenizer, None, from_end=False)
    if len(ids) > _INT32.max:
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids))
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(ids))


class Encoder:
    """An index of a vocabulary's keys, and the id of each: `ids` (k + 1,) int32, the last out of vocabulary.

    The parameters are those of `encode`, and so is what is raised.
    """

    def __init__(self, vocabulary: Any, num_words: int | None = None, oov_token: str | None = None) -> None:
        if num_words is not None and (not _is_int(num_words) or num_words < 0):
            raise ValueError(f"num_words: expected a number of 0 or more, or None, found {num_words!r}")
        if oov_token is not None and not isinstance(oov_token, str):
            raise ValueError(f"oov_token: expected str or None, found {oov_token!r}")
        other = None
        if hasattr(vocabulary, "word_index"):
            num_words = vocabulary.num_words if num_words is None else num_words
            oov_token = vocabulary.oov_token if oov_token is None else oov_token
            words = Vocabulary.of_mapping(vocabulary.word_index)
        elif isinstance(vocabulary, Mapping):
            words = Vocabulary.of_mapping(vocabulary)
        else:
            words = Vocabulary.of(vocabulary)
            other = next((rows[0] for rows in words.unknown.values()), None)
        batch, rows = words.batch, words.rows
        if batch.codes is not None:  # keys that have no UTF-8, which no text has either
            rows, batch = rows[batch.codes >= 0], batch.without_nulls()
        if rows.max(initial=0) > _INT32.max:
            raise VocabularyError(f"expected rows below 2**31, found {int(rows.max())}")
        self.index, _ = KeyIndex.build_first(batch)
        if oov_token is not None and oov_token not in words.unknown:
            place = self.index.find_one(oov_token)
            if place < 0:
                raise ValueError(f"oov_token: expected a key of the vocabulary, found {oov_token!r}")
            other = int(rows[place])
        other = _DROPPED if other is None else other
        kept = rows if not num_words else np.where(rows < num_words, rows, other)
        self.ids = frozen(np.append(kept, other), np.int32)

    @property
    def checksum(self) -> str:
        """CRC-32 of all keys and their ids."""
        from isal import isal_zlib

        crc = 0
        for array in (*self.index.batch.packed(), self.ids):
            crc = isal_zlib.crc32(np.ascontiguousarray(array), crc)
        return f"{crc:08x}"

    def encode(
        self, texts: Keys | Tokens, tokenizer: Tokenizer | None, most: int | None, *, from_end: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of all documents end to end, and where each one's are: (n + 1,)."""
        memos: dict[int, NDArray[np.uint64]] = {}
        pieces: dict[int, tuple[NDArray[np.int32], NDArray[np.int64]]] = {}

        def add(first: int, tokens: Tokens) -> None:
            batch = tokens.batch
            thread = threading.get_ident()
            if thread not in memos:
                memos[thread] = new_memo()
            rows = self.index.find_tokens(batch, memos[thread])
            ids, offsets = np.empty(len(batch), np.int32), np.empty(len(tokens) + 1, np.int64)
            limit = len(batch) if most is None else most
            keep_ids(rows, tokens.offsets, self.ids, limit, int(from_end), ids, offsets)
            kept = int(offsets[-1])
            pieces[first] = (ids[:kept] if 2 * kept > len(ids) else ids[:kept].copy(), offsets)

        each_piece(texts, tokenizer or Tokenizer(), add)
        ordered = [pieces[first] for first in sorted(pieces)]
        ids = np.concatenate([np.empty(0, np.int32), *(ids for ids, _ in ordered)])
        lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(offsets) for _, offsets in ordered)])
        return frozen(ids), frozen(np.append(0, np.cumsum(lengths)), np.int64)


def _encoder_of(vocabulary: Any, num_words: int | None, oov_token: str | None) -> Encoder:
    if not isinstance(vocabulary, Encoder):
        return Encoder(vocabulary, num_words, oov_token)
    if num_words is not None or oov_token is not None:
        raise ValueError("num_words, oov_token: an Encoder has them already")
    return vocabulary


def _is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
