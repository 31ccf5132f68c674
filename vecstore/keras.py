"""From an `EmbeddingMatrix` to a Keras `Embedding` layer; the only module that imports Keras.

Examples
--------
>>> import vecstore.keras
>>> matrix = store.matrix({"nice": 1, "great": 2})
>>> vecstore.keras.embedding(matrix, name="words")
<Embedding name=words, built=True>
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from vecstore.matrix import EmbeddingMatrix

__all__ = ["embedding"]


def embedding(
    matrix: EmbeddingMatrix | NDArray[Any], *, trainable: bool = False, mask_zero: bool = False, **kwargs: Any
) -> keras.layers.Embedding:
    """Return a Keras `Embedding` layer that holds `matrix` as its weights.

    It is a plain layer: a model with it is saved and loaded without vecstore and without the store. The
    weights are a variable like any other, neither in the layer's config nor a constant of its graph.

    Parameters
    ----------
    matrix : EmbeddingMatrix or (v, d) array
        Copied once, into the layer's variable.
    trainable : bool, default False
        Whether training changes the vectors.
    mask_zero : bool, default False
        Whether later layers skip the positions whose id is 0, the padding.
    **kwargs
        For `keras.layers.Embedding`: ``name``, ``dtype``, ``embeddings_regularizer`` and others.

    Returns
    -------
    keras.layers.Embedding
        Built, of input_dim v and output_dim d.

    Raises
    ------
    TypeError
        `kwargs` name what the matrix decides: ``input_dim``, ``output_dim``, ``weights``,
        ``embeddings_initializer``.
    ValueError
        The matrix is not 2-d, or empty; or `mask_zero` would hide the vector of a key in row 0.
    """
    decided = {"input_dim", "output_dim", "weights", "embeddings_initializer"} & kwargs.keys()
    if decided:
        raise TypeError(f"{', '.join(sorted(decided))}: the matrix decides this")
    vectors = np.asarray(matrix)
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"expected a matrix of shape (v, d), found shape {vectors.shape}")
    taken = isinstance(matrix, EmbeddingMatrix) and bool(matrix.found[0])
    if mask_zero and (taken or vectors[0].any()):
        raise ValueError("mask_zero=True would hide the key in row 0: start the vocabulary with '' or at row 1")

    # The layer's first value is the matrix itself: passing `weights` would fill the variable with random numbers
    # first. What the config names is only what a loaded layer holds until its saved weights arrive.
    layer = keras.layers.Embedding(
        *vectors.shape, trainable=trainable, mask_zero=mask_zero, embeddings_initializer="zeros", **kwargs
    )
    configured = layer.embeddings_initializer
    layer.embeddings_initializer = lambda shape, dtype: keras.ops.convert_to_tensor(vectors, dtype=dtype)
    layer.build()
    layer.embeddings_initializer = configured
    return layer
