"""Texts to vectors: `VectorStore.embed`, whose tokens are still to be found, against loops over documents.

Tokens are drawn as words are used: the key of rank r with a probability that falls as 1 / (r + 2.7), the store's keys
being in the order of their frequency. "find alone" is what of it goes into rows; in C are the means of rows that are
known beforehand.
"""

import numpy as np
import pytest

import vecstore
from vecstore.keys import KeyBatch
from vecstore.threads import num_threads

LENGTH = 200
TEXTS = 10_000
LOOPED_TEXTS = 500  # that the loops go through: their time grows with the number of texts, and no faster


@pytest.fixture(scope="module")
def texts(store):
    """Return the tokens of each text, as lists of new str, and as `Tokens`."""
    shares = np.cumsum(1 / (np.arange(len(store)) + 2.7))
    rows = np.searchsorted(shares, np.random.default_rng(0).random(TEXTS * LENGTH) * shares[-1])
    data, offsets = store.keys.batch.take(rows).packed()
    raw, looped = data.tobytes(), LOOPED_TEXTS * LENGTH
    keys = [raw[offsets[i] : offsets[i + 1]].decode() for i in range(looped)]
    batch = KeyBatch.from_offsets(data, offsets)
    lists = [keys[start : start + LENGTH] for start in range(0, looped, LENGTH)]
    return lists, vecstore.Tokens(batch, np.arange(0, TEXTS * LENGTH + 1, LENGTH))


@pytest.fixture(scope="module")
def few(texts):
    """Return the tokens of as many texts as the loops go through."""
    return vecstore.Tokens(texts[1].batch, texts[1].offsets[: LOOPED_TEXTS + 1])


@pytest.fixture(scope="module")
def keyed_vectors(store):
    return store.to_gensim()


def close_to(expected):
    """Return the check that an answer is what is expected, but for sums in float32."""
    return lambda answer: np.testing.assert_allclose(answer, expected, rtol=0, atol=2e-6)


def test_embed(contest, store, texts, few, keyed_vectors):
    lists = texts[0]
    row_of, vectors = keyed_vectors.key_to_index, np.asarray(store.vectors)

    def loop(_):
        out = np.zeros((len(lists), store.dim), np.float32)
        for i, text in enumerate(lists):
            rows = [row_of[key] for key in text if key in row_of]
            if rows:
                out[i] = vectors[rows].mean(axis=0)
        return out

    def one_by_one(_):
        out = np.zeros((len(lists), store.dim), np.float32)
        for i, text in enumerate(lists):
            found = [vectors[row_of[key]] for key in text if key in row_of]
            if found:
                out[i] = np.mean(found, axis=0)
        return out

    def gensim(_):
        return np.stack([keyed_vectors.get_mean_vector(text, pre_normalize=False) for text in lists])

    expected = np.stack([store.lookup(text).mean(axis=0, dtype=np.float64) for text in lists])
    contest(
        "embed, mean",
        f"{LOOPED_TEXTS:,} texts of {LENGTH} tokens",
        {
            "vecstore": lambda _: store.embed(few),
            "dict, a row at a time, numpy.mean": one_by_one,
            "dict, a text at a time, numpy.mean": loop,
            "gensim": gensim,
        },
        check=close_to(expected),
        headline=True,
        tokens=LOOPED_TEXTS * LENGTH,
        targets={"dict, a row at a time, numpy.mean": 25},
    )


def test_embed_texts(contest, crew, store, few, folder):
    texts = [" ".join(document) for document in few.lists()]
    assert not any("\n" in text or "\r" in text for text in texts)
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    contest(
        "embed text, mean",
        f"{LOOPED_TEXTS:,} str of {LENGTH} words",
        crew.tasks(("vecstore", "model2vec", "dict"), "embed", texts=folder / "texts.txt"),
        check=close_to(store.embed(few)),
        prepare=lambda: folder,
        tokens=LOOPED_TEXTS * LENGTH,
        headline=True,
    )


@pytest.mark.parametrize("pooling", ["mean", "max", "sif"])
def test_embed_many(contest, store, texts, pool_rows_in_c, pooling):
    tokens = texts[1]
    chosen = store.sif_weights((store.keys.batch, 1 / (np.arange(len(store)) + 2.7))) if pooling == "sif" else pooling
    expected = store.embed(tokens, pooling=chosen)
    limits = {"find alone": lambda _: store.find(tokens.batch)}
    if pool_rows_in_c and pooling == "mean":
        rows, vectors = store.find(tokens.batch), np.asarray(store.vectors)
        limits[f"rows known, in C, {num_threads()} threads"] = lambda _: pool_rows_in_c(vectors, rows, LENGTH)
    contest(
        f"embed, {pooling}",
        f"{TEXTS:,} texts of {LENGTH} tokens",
        {"vecstore": lambda _: store.embed(tokens, pooling=chosen)},
        check=close_to(expected),
        limits=limits,
        tokens=len(tokens.batch),
        within=len(tokens.batch) / 15e6,
    )
