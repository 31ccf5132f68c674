import pickle
import warnings
import weakref
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import vecstore
from vecstore import counts as module
from vecstore import tokenizer
from vecstore.counts import Counts, count
from vecstore.errors import FormatError, VecstoreError
from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of TensorFlow's own imports
    from keras.src.legacy.preprocessing.text import Tokenizer as KerasTokenizer

TEXTS = ["Nice work, nice!", "", "Größe ΣΑΣ nice", None, "work"]
documents = st.lists(st.lists(st.sampled_from(["a", "b", "c", "", "größe", "x" * 15, "x" * 16, "a\0"]) | st.text()))


def fitted(texts, **options):
    keras = KerasTokenizer(**options)
    keras.fit_on_texts([text or "" for text in texts])
    return keras


def everything(counts):
    keys = list(counts.word_counts())
    return list(zip(keys, counts.counts.tolist(), counts.document_counts.tolist(), strict=True)), counts.documents


def expected(documents):
    return [(key, seen, within) for key, (seen, within, _) in reference.tally(documents).items()], len(documents)


@given(st.lists(st.text(st.sampled_from("aAbΣ\u03c3İ é!,.\n") | st.characters(exclude_categories=["Cs"]))))
def test_counts_are_those_of_keras(texts):
    counts, keras = count(texts), fitted(texts)
    assert list(counts.word_counts().items()) == list(keras.word_counts.items())
    assert dict(zip(counts.word_counts(), counts.document_counts.tolist(), strict=True)) == keras.word_docs
    assert counts.documents == keras.document_count
    assert list(counts.word_index().items()) == list(keras.word_index.items())


@pytest.mark.parametrize("oov_token", [None, "[UNK]", "nice", ""])
def test_word_index_is_that_of_keras(oov_token):
    index = count(TEXTS).word_index(oov_token)
    assert list(index.items()) == list(fitted(TEXTS, oov_token=oov_token).word_index.items())


def test_word_index_ranks_many_words_as_keras(glove_keys):
    rng = np.random.default_rng(0)
    texts = [" ".join(glove_keys[i] for i in rng.zipf(1.3, 50) % len(glove_keys)) for _ in range(2000)]
    assert list(count(texts).word_index().items()) == list(fitted(texts).word_index.items())


@given(documents)
def test_counts_of_tokens_agree_with_reference(documents):
    assert everything(count(Tokens.of(documents))) == expected(documents)


@pytest.mark.parametrize("threads", ["1", "2", "5"])
def test_threads_and_pieces_make_no_difference(threads, monkeypatch):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", threads)
    monkeypatch.setattr(tokenizer, "_PIECE_BYTES", 100)
    monkeypatch.setattr(tokenizer, "_PIECE_TOKENS", 20)
    monkeypatch.setattr(tokenizer, "_BLOCK_BYTES", 5000)
    rng = np.random.default_rng(0)
    documents = [[f"w{i}é" for i in rng.integers(0, 3000, size)] for size in rng.integers(0, 30, 2000)]
    texts = [" ".join(document) for document in documents]
    assert everything(count(Tokens.of(documents))) == expected(documents)
    assert everything(count(iter(texts))) == expected(documents)


def test_a_table_grows_with_keys_and_with_their_bytes(monkeypatch):
    monkeypatch.setattr(module, "_KEYS", 1)
    monkeypatch.setattr(module, "_KEY_BYTES", 1)
    documents = [[f"{i % 700}" * (i % 40) for i in range(start, start + 100)] for start in range(0, 2000, 100)]
    assert everything(count(Tokens.of(documents))) == expected(documents)


@pytest.fixture
def crowded(monkeypatch):
    """Let the table be without an empty slot, so that every probe is too long."""
    table = module._Table()
    table.slots[:] = 1
    monkeypatch.setattr(module, "_Table", lambda: table)


@pytest.mark.usefixtures("crowded")
def test_a_probe_that_is_too_long_makes_another_table():
    assert everything(count(Tokens.of([["a", "b", "a"]]))) == expected([["a", "b", "a"]])


@pytest.mark.usefixtures("crowded")
def test_keys_that_were_made_to_collide_are_an_error(monkeypatch):
    def refuse(data, offsets, slots):
        assert data.tobytes() == b"a"  # the key whose probe was too long must find a place in the new table
        raise VecstoreError("the keys were made to collide under XXH64; they cannot be indexed")

    monkeypatch.setattr(module, "fill_slots", refuse)
    with pytest.raises(VecstoreError, match="made to collide"):
        count(Tokens.of([["a"]]))


@pytest.mark.parametrize("texts", [[], [""], [None, "!!"]])
def test_texts_without_tokens_count_nothing(texts):
    counts = count(texts)
    assert (len(counts), counts.tokens, counts.documents) == (0, 0, len(texts))
    assert counts.vocabulary() == counts.top(3) == []
    assert counts.word_index("[UNK]") == {"[UNK]": 1}
    assert everything(counts + counts) == ([], 2 * len(texts))


def test_a_tokenizer_says_how_texts_are_cut():
    assert count(["a-B a"], Tokenizer(filters="", lower=False)).word_counts() == {"a-B": 1, "a": 1}
    assert count(["ab", "a"], Tokenizer(analyzer=list)).word_counts() == {"a": 2, "b": 1}


def test_documents_that_are_tokenised_are_no_texts():
    with pytest.raises(TypeError, match=r"text 0: expected str, found list; Tokens\.of takes tokens"):
        count([["a"]])


def test_vocabulary_is_the_most_frequent_first_and_the_first_among_equals():
    counts = count(["c b b a a d c e a"])
    assert counts.vocabulary() == ["a", "c", "b", "d", "e"]
    assert counts.vocabulary(min_count=2) == ["a", "c", "b"]
    assert counts.vocabulary(max_size=2) == ["a", "c"]
    assert counts.vocabulary(min_count=3, max_size=2) == ["a"]
    assert counts.vocabulary(max_size=0) == []
    assert counts.top(2) == [("a", 3), ("c", 2)]
    assert counts.top() == Counter("cbbaadcea").most_common()
    with pytest.raises(ValueError, match="expected a size of 0 or more, found -1"):
        counts.top(-1)


@given(st.lists(documents, min_size=1, max_size=4))
def test_merged_counts_are_those_of_all_documents(parts):
    counts = [count(Tokens.of(part)) for part in parts]
    together = expected([document for part in parts for document in part])
    assert everything(counts[0].merge(counts[1:])) == together
    assert everything(sum(counts[1:], counts[0])) == together


def test_merging_an_iterable_holds_no_more_than_there_is_to_hold(monkeypatch):
    monkeypatch.setattr(module, "_WAITING", 3)
    alive = []

    def operands():
        for i in range(100):
            alive.append(sum(operand() is not None for operand in made))
            part = count([f"a b{i % 5}"])
            # A Counts takes no weak references; its array does.
            made.append(weakref.ref(part.counts))
            yield part

    made = []
    merged = count(["a c"]).merge(operands())
    assert merged.word_counts() == {"a": 101, "c": 1, **{f"b{i}": 20 for i in range(5)}}
    assert merged.documents == 101
    assert max(alive) <= 6


def test_counts_add_to_counts_alone():
    with pytest.raises(TypeError):
        count(["a"]) + 1


def test_counts_pickle_with_their_own_bytes_alone():
    counts = count(["a " * 10_000 + "größe b"])
    assert everything(pickle.loads(pickle.dumps(counts))) == everything(counts)
    assert len(pickle.dumps(counts)) < 1000


@pytest.mark.parametrize("texts", [TEXTS, []])
def test_a_file_gives_back_what_was_saved(texts, tmp_path):
    path = tmp_path / "counts.parquet"
    path.write_bytes(b"an older file")
    counts = count(texts)
    counts.save(path)
    assert everything(Counts.load(path)) == everything(counts)
    assert [file.name for file in tmp_path.iterdir()] == ["counts.parquet"]
    assert pq.read_table(path).column_names == ["key", "count", "documents"]


def test_an_error_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "counts.parquet"
    path.write_bytes(b"an older file")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        count(TEXTS).save(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an older file"]


def parquet(path, keys=("a",), counts=(1,), documents=(1,), metadata=True):
    table = pa.table({"key": pa.array(keys), "count": pa.array(counts), "documents": pa.array(documents)})
    pq.write_table(table.replace_schema_metadata({"vecstore.documents": "1"} if metadata else None), path)


@pytest.mark.parametrize(
    "options",
    [
        {"keys": [None]},
        {"counts": [-1]},
        {"documents": [-1]},
        {"counts": [None]},
        {"counts": ["x"]},
        {"metadata": False},
    ],
)
def test_a_file_with_something_else_is_an_error(options, tmp_path):
    parquet(tmp_path / "counts.parquet", **options)
    with pytest.raises(FormatError, match=r"counts\.parquet: expected"):
        Counts.load(tmp_path / "counts.parquet")


def test_a_file_that_is_no_parquet_is_an_error(tmp_path):
    (tmp_path / "counts.parquet").write_bytes(b"not this")
    with pytest.raises(FormatError, match=r"counts\.parquet: expected the counts of tokens that Counts\.save writes"):
        Counts.load(tmp_path / "counts.parquet")


def test_a_file_cut_anywhere_is_an_error(tmp_path):
    path = tmp_path / "counts.parquet"
    count(TEXTS).save(path)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            Counts.load(path)


def test_counts_come_from_mappings():
    keras = fitted(TEXTS)
    counts = Counts.from_word_counts(keras.word_counts, document_counts=keras.word_docs, documents=keras.document_count)
    assert everything(counts) == everything(count(TEXTS))
    assert everything(Counts.from_word_counts({"a": 2})) == ([("a", 2, 0)], 0)
    assert everything(Counts.from_word_counts({})) == ([], 0)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"a": -1}, "expected counts, 0 or more, found -1"),
        ({"a": 1.5}, "expected counts, 0 or more, found 1.5"),
        ({"a": 1, "\ud800": 1}, "key 1: expected text, found"),
        ({None: 1}, "key 0: expected text, found None"),
    ],
)
def test_mappings_of_something_else_are_errors(mapping, message):
    with pytest.raises(ValueError, match=message):
        Counts.from_word_counts(mapping)


def test_counts_say_what_they_hold():
    assert repr(vecstore.count(["a a b", ""])) == "<3 tokens in 2 documents, 2 distinct>"
