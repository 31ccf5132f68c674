"""What a `VectorStore` does with texts: a vector for each, or for each of their tokens."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from vecstore.choices import Side
from vecstore.index import KeyIndex
from vecstore.pooling import Pooling, pool, sif_weights
from vecstore.sequences import embed_padded, embed_ragged
from vecstore.storage import StoredVectors
from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["StoreTexts"]


class StoreTexts(ABC):
    """The methods for texts of whatever has keys with a vector each."""

    @property
    @abstractmethod
    def keys(self) -> KeyIndex:
        """All v keys in row order."""

    @property
    @abstractmethod
    def stored_vectors(self) -> StoredVectors:
        """Their vectors (v, d)."""

    @overload
    def embed(
        self,
        texts: Any,
        *,
        pooling: Pooling = ...,
        normalize: bool = ...,
        tokenizer: Tokenizer | None = ...,
        out: NDArray[np.float32] | None = ...,
        return_counts: Literal[False] = ...,
    ) -> NDArray[np.float32]: ...
    @overload
    def embed(
        self,
        texts: Any,
        *,
        pooling: Pooling = ...,
        normalize: bool = ...,
        tokenizer: Tokenizer | None = ...,
        out: NDArray[np.float32] | None = ...,
        return_counts: Literal[True],
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
    def embed(
        self,
        texts: Any,
        *,
        pooling: Pooling = "mean",
        normalize: bool = False,
        tokenizer: Tokenizer | None = None,
        out: NDArray[np.float32] | None = None,
        return_counts: bool = False,
    ) -> Any:
        """Return a vector for each text, made of the vectors of its known tokens.

        Parameters
        ----------
        texts : n texts
            Whatever `Texts.of` takes, each a text to be cut; `Tokens` (``Tokens.of(documents)``) are taken as they are.
        pooling : {"mean", "sum", "max", "first"} or (v,) array of weights, default "mean"
            ``"max"`` is that of each component, ``"first"`` the vector of the first known token. With a weight for each
            row of this store, such as `sif_weights` gives, vectors are multiplied by their weights, added, and divided
            by the number of known tokens.
        normalize : bool, default False
            Whether to divide each vector by its length; zeros stay zeros.
        tokenizer : Tokenizer, optional
            How texts are cut; the default is ``Tokenizer()``, which does as Keras's does.
        out : (n, d) float32 array, optional
            C-contiguous array to write into.
        return_counts : bool, default False
            Whether to return how many tokens of each text are known, too. Where that is 0, the vector is zeros.

        Returns
        -------
        (n, d) float32 array
            A copy; `out` if given. Sums are added in the order of tokens in float64 and rounded once: the same bits
            whatever the number of threads and whatever texts are around.
        (n,) int64 array
            With `return_counts`: how many tokens of each text are known, repeated ones counted each time.

        Raises
        ------
        TypeError
            `texts` is one str or holds something that is no text, or `pooling` is neither a name nor an array of
            numbers.
        ValueError
            `pooling` is an unknown name or has not v weights, `out` has the wrong shape, dtype or memory order, or a
            text has no UTF-8.

        Examples
        --------
        >>> vectors, counts = store.embed(["Nice work!", "qwertzuiop"], return_counts=True)
        >>> vectors[:, :3], counts
        (array([[ 0.35773998,  0.501505  , -0.82377005],
               [ 0.        ,  0.        ,  0.        ]], dtype=float32), array([2, 0]))
        """
        tokenizer, vectors = tokenizer or Tokenizer(), self.stored_vectors
        result = pool(self.keys, vectors, texts, tokenizer, pooling=pooling, normalize=normalize, out=out)
        return result if return_counts else result[0]

    def sif_weights(self, counts: Any, *, a: float = 1e-3) -> NDArray[np.float32]:
        """Return each row's smooth inverse frequency, ``a / (a + p)``, as weights for `embed`.

        p is a key's share of all counts (Arora, Liang, Ma: "A Simple but Tough-to-Beat Baseline for Sentence
        Embeddings", ICLR 2017, https://openreview.net/forum?id=SyK00v5xx). The paper then takes the vectors' common
        component out: `CommonComponent` does.

        Parameters
        ----------
        counts : mapping key -> number, or a pair of keys (m,) and numbers (m,)
            How often each key occurs in a corpus. Keys that this store does not have count towards the sum; a key given
            twice has both numbers.
        a : float, default 1e-3
            Positive; the paper recommends 1e-4 to 1e-3.

        Returns
        -------
        (v,) float32 array
            A key that was not counted has the weight 1.

        Raises
        ------
        TypeError
            Counts are not numbers, or keys not keys.
        ValueError
            A count is negative or not finite, there are more or fewer counts than keys, or `a` is not positive.

        Examples
        --------
        >>> weights = store.sif_weights({"the": 900, "nice": 99, "qwertzuiop": 1})
        >>> weights[store.find(["the", "nice", "great"])]
        array([0.00110988, 0.01      , 1.        ], dtype=float32)
        """
        return sif_weights(self.keys, counts, a=a)

    def embed_sequence(
        self,
        texts: Any,
        length: int,
        *,
        padding: Side = "pre",
        truncating: Side = "pre",
        tokenizer: Tokenizer | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the vectors of each text's tokens, in their order, padded with zeros or cut to one length.

        Parameters
        ----------
        texts, tokenizer
            As in `embed`.
        length : int
            Tokens of each sequence, at least 1.
        padding, truncating : {"pre", "post"}, default "pre"
            Where a short text gets its zeros, and where a long one is cut: at its beginning or its end, as Keras's
            `pad_sequences` does.
        out : (n, length, d) float32 array, optional
            C-contiguous array to write into.

        Returns
        -------
        (n, length, d) float32 array
            A copy; `out` if given. A token that is out of vocabulary keeps its place and is zeros.

        Raises
        ------
        TypeError, ValueError
            As in `embed`; `length` is below 1, or `padding` or `truncating` is an unknown word.

        Examples
        --------
        >>> store.embed_sequence(["Nice work!", "great"], 3)[:, :, 0]
        array([[ 0.      ,  0.20189 ,  0.51359 ],
               [ 0.      ,  0.      , -0.026567]], dtype=float32)
        """
        tokens, vectors = _tokens_of(texts, tokenizer), self.stored_vectors
        return embed_padded(self.keys, vectors, tokens, length, padding=padding, truncating=truncating, out=out)

    def embed_ragged(self, texts: Any, *, tokenizer: Tokenizer | None = None) -> "pa.LargeListArray":
        """Return the vectors of each text's tokens, in their order, as Arrow's lists; needs memory for all of them.

        Takes what `embed` takes. A token that is out of vocabulary keeps its place and is zeros.

        Returns
        -------
        pyarrow.LargeListArray
            n lists of fixed-size lists of d float32; a copy.

        Raises
        ------
        TypeError, ValueError
            As in `embed`.

        Examples
        --------
        >>> ragged = store.embed_ragged(["Nice work!", "", "great"])
        >>> ragged.type, [len(vectors) for vectors in ragged]
        (LargeListType(large_list<item: fixed_size_list<item: float>[50]>), [2, 0, 1])
        """
        return embed_ragged(self.keys, self.stored_vectors, _tokens_of(texts, tokenizer))


def _tokens_of(texts: Any, tokenizer: Tokenizer | None) -> Tokens:
    return texts if isinstance(texts, Tokens) else (tokenizer or Tokenizer()).tokenize(texts)
