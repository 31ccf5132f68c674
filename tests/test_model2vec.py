import json
import os
from contextlib import closing
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from files import read_records
from test_safetensors import safetensors_bytes

import vecstore
from vecstore.formats.model2vec import Model2vecSource, is_model2vec

TOKENS = ["[PAD]", "[UNK]", "the", "##ing", "größe", ""]
VECTORS = np.arange(12, dtype=np.float32).reshape(6, 2)
WORDPIECE = {"type": "WordPiece", "vocab": {token: place for place, token in enumerate(TOKENS)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def write_model(folder, tensors=None, model=None, added=(), content=None):
    """Write a model's two files; `content` is a tokenizer of one's own."""
    (folder / "model.safetensors").write_bytes(
        safetensors_bytes({"embeddings": VECTORS} if tensors is None else tensors)
    )
    tokenizer = {"version": "1.0", "added_tokens": list(added), "model": model or WORDPIECE}
    data = json.dumps(tokenizer).encode() if content is None else content
    (folder / "tokenizer.json").write_bytes(data)


def assert_reads(folder, keys, vectors):
    found_keys, found = read_records(folder)
    assert found_keys == [key.encode() for key in keys]
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(vectors, np.float32).view(np.uint32))


def assert_refuses(folder, message):
    with pytest.raises(vecstore.FormatError, match=message), closing(Model2vecSource(folder)) as source:
        list(source.blocks())


def added(*entries):
    return [{"content": content, "id": place, "special": True} for content, place in entries]


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (WORDPIECE, []),
        ({"type": "BPE", "vocab": {token: 5 - place for place, token in enumerate(TOKENS[::-1])}, "merges": []}, []),
        ({"type": "WordLevel", "vocab": WORDPIECE["vocab"]}, added(("the", 2), ("[UNK]", 1))),
        ({"type": "Unigram", "vocab": [[token, -1.5] for token in TOKENS], "unk_id": 1}, []),
        ({"vocab": {token: place for place, token in enumerate(TOKENS[:4])}}, added(("", 5), ("größe", 4))),
        (
            {"vocab": {token: place for place, token in enumerate(TOKENS) if place > 1}},
            added(*zip(TOKENS[:2], (0, 1), strict=True)),
        ),
        ({"vocab": [[token] for token in TOKENS[:5]]}, added(("", 5))),
        ({"vocab": {}}, added(*zip(TOKENS, range(6), strict=True))),
    ],
    ids=["WordPiece", "BPE", "WordLevel", "Unigram", "added", "added first", "Unigram added", "all added"],
)
def test_tokens_of_every_kind_of_tokenizer_are_keys(folder, model, more):
    write_model(folder, model=model, added=more)
    assert_reads(folder, TOKENS, VECTORS)


@pytest.mark.parametrize("name", ["embeddings", "embedding.weight", "else"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, ml_dtypes.bfloat16])
def test_vectors_are_widened(folder, name, dtype):
    vectors = VECTORS.astype(dtype)
    write_model(folder, {"a": np.ones(3), name: vectors, "z": np.ones((2, 2, 2))})
    assert_reads(folder, TOKENS, vectors.astype(np.float32))


@pytest.mark.parametrize("weights", [None, np.float64, np.float32, np.float16], ids=str)
@pytest.mark.parametrize("mapping", [None, np.int64, np.int32, np.uint64], ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int8], ids=str)
def test_vectors_are_those_that_the_model_averages(folder, dtype, mapping, weights):
    """As in `StaticModel._encode_helper`."""
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((6 if mapping is None else 3, 4)) * 50).astype(dtype)
    tensors, expected = {"embeddings": embeddings}, embeddings
    if mapping is not None:
        tensors["mapping"] = rng.integers(0, 3, 6).astype(mapping)
        expected = embeddings[tensors["mapping"]]
    if weights is not None:
        tensors["weights"] = rng.random(6).astype(weights)
        expected = expected * tensors["weights"][:, None]
    write_model(folder, tensors)
    assert_reads(folder, TOKENS, expected.astype(np.float32))


def test_many_vectors_are_read_block_by_block(folder):
    rng = np.random.default_rng(0)
    tokens, embeddings = [f"t{place}" for place in range(40_000)], rng.standard_normal((5_000, 64), dtype=np.float32)
    mapping, weights = rng.integers(0, 5_000, 40_000), rng.random(40_000)
    vocab = {token: place for place, token in enumerate(tokens)}
    write_model(folder, {"weights": weights, "mapping": mapping, "embeddings": embeddings}, {"vocab": vocab})
    assert_reads(folder, tokens, embeddings[mapping] * weights[:, None])
    write_model(folder, {"embeddings": embeddings[mapping]}, {"vocab": vocab})
    assert_reads(folder, tokens, embeddings[mapping])
    with closing(Model2vecSource(folder)) as source:
        blocks = list(source.blocks())
    assert len(blocks) > 2
    assert [block.first for block in blocks] == np.cumsum([0, *map(len, blocks[:-1])]).tolist()
    assert np.concatenate([block.positions for block in blocks]).tolist() == list(range(40_000))


def test_unusual_numbers_are_kept_bit_for_bit(folder):
    bits = np.array([[0x7FC01234, 0xFFA00001], [0x7F800000, 0xFF800000], [1, 0x80000000]] * 2, np.uint32)
    write_model(folder, {"embeddings": bits.view(np.float32)})
    assert_reads(folder, TOKENS, bits.view(np.float32))
    weights = np.array([1, 1, 1e300, 1e-300, np.nan, np.inf])
    write_model(folder, {"embeddings": np.full((6, 2), np.inf), "weights": weights})
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(read_records(folder)[1], np.repeat(weights[:, None] * np.inf, 2, axis=1))


def test_model_may_be_links_as_in_a_cache(folder, tmp_path):
    (tmp_path / "blobs").mkdir()
    write_model(tmp_path / "blobs")
    for number, name in enumerate(["model.safetensors", "tokenizer.json"]):
        (tmp_path / "blobs" / name).rename(tmp_path / "blobs" / f"{number}abc")
        (folder / name).symlink_to(f"../blobs/{number}abc")
    assert is_model2vec(folder)
    assert_reads(folder, TOKENS, VECTORS)


def test_source_says_what_it_is_and_where(folder, monkeypatch):
    write_model(folder)
    sizes = [(folder / name).stat().st_size for name in ("model.safetensors", "tokenizer.json")]
    for times in (1_000, 2_000), (2_000, 1_000):
        for name, time in zip(("model.safetensors", "tokenizer.json"), times, strict=True):
            os.utime(folder / name, ns=(0, time))
        source = Model2vecSource(folder)
        assert source.description == vecstore.layout.Source("model", sum(sizes), "model2vec", None, 2_000)
        assert (source.dim, source.expected, source.done, source.departures) == (2, 6, 0, [])
        list(source.blocks())
        assert source.done == sum(sizes)
        assert source.locate(3, 3) == f"{folder}: token 3"
        source.close()
    monkeypatch.chdir(folder)
    with closing(Model2vecSource(Path("."))) as source:
        assert source.description.name == "model"


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_folder_without_both_files_is_no_model(folder, missing):
    write_model(folder)
    assert is_model2vec(folder)
    (folder / missing).unlink()
    (folder / missing).mkdir()
    assert not is_model2vec(folder)
    assert_refuses(folder, f"model: expected a model2vec model, found no file {missing}")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"model\.safetensors: expected a matrix \(rows, dim\), found none"),
        (
            {"a": VECTORS, "b": VECTORS},
            r"model\.safetensors: expected one matrix, found 'a' F32 \(6, 2\), 'b' F32 \(6, 2",
        ),
        ({"embeddings": VECTORS[:5]}, r"expected a vector for each of the 6 tokens of tokenizer\.json, found 5"),
        ({"embeddings": np.ones((7, 2))}, r"expected a vector for each of the 6 tokens of tokenizer\.json, found 7"),
        ({"embeddings": np.ones((6, 0))}, "tensor 'embeddings': expected at least one vector of"),
        ({"embeddings": np.ones((6, 2), bool)}, "expected a tensor of F64, .*, found 'embeddings' BOOL"),
        (
            {"embeddings": VECTORS, "weights": np.ones(5)},
            r"expected a number for each of 6 tokens, found 'weights' F64 \(5,",
        ),
        (
            {"embeddings": VECTORS, "weights": np.ones((6, 1))},
            "expected a number for each of 6 tokens, found 'weights' F64",
        ),
        (
            {"embeddings": VECTORS, "mapping": np.ones(7, int)},
            "expected a number for each of 6 tokens, found 'mapping' I64",
        ),
        ({"embeddings": VECTORS, "mapping": np.ones(6)}, r"expected a mapping of integers, found 'mapping' F64 \(6,\)"),
        (
            {"embeddings": VECTORS, "mapping": np.ones(6, ml_dtypes.bfloat16)},
            r"expected a mapping of integers, found 'mapping' BF16 \(6,\)",
        ),
        (
            {"embeddings": VECTORS[:3], "mapping": np.array([0, 1, 2, 3, 0, 0])},
            r"expected a mapping to the rows 0 to 2, found 3 for token 3",
        ),
        (
            {"embeddings": VECTORS[:3], "mapping": np.array([0, -1, 2, 3, 0, 0])},
            r"expected a mapping to the rows 0 to 2, found -1 for token 1",
        ),
        (
            {"embeddings": VECTORS[:3], "mapping": np.array([0] * 5 + [2**64 - 1], np.uint64)},
            r"expected a mapping to the rows 0 to 2, found 18446744073709551615 for token 5",
        ),
        (
            {"embeddings": VECTORS, "weights": np.array([1, 1, 1, 1, 1e300, 1])},
            r"model: token 4: expected numbers within float32 .*, found 8e\+300 at position 0",
        ),
    ],
)
def test_tensors_that_do_not_fit_the_tokens_are_refused(folder, tensors, message):
    write_model(folder, tensors)
    assert_refuses(folder, message)


def tokenizer(model, more=()):
    return json.dumps({"model": model, "added_tokens": more}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON: "),
        (b"\xff", "expected JSON: "),
        (b"[" * 100_000, "expected JSON: "),
        (b'{"model": ' * 100_000, "expected JSON: "),
        (b"[]", r"expected a tokenizer with a model\.vocab, found b'\[\]'"),
        (b"{}", r"expected a tokenizer with a model\.vocab, found b'{}'"),
        (tokenizer([]), r"expected a tokenizer with a model\.vocab, found b'{\"model"),
        (tokenizer({"vocab": "abc"}), r"expected a tokenizer with a model\.vocab, found b'{\"model"),
        (
            tokenizer({"vocab": [["a", 0], "b"]}),
            r"expected each entry of model\.vocab to be \[token, score\], found 'b'",
        ),
        (tokenizer({"vocab": [[]]}), r"expected each entry of model\.vocab to be \[token, score\], found \[\]"),
        (
            tokenizer({"vocab": [[1, "a"]]}),
            r"expected each entry of model\.vocab to be \[token, score\], found \[1, 'a'\]",
        ),
        (tokenizer({"vocab": {"a": 0, "b": 2}}), "expected the ids 0 to 1 for 2 tokens, found 2 for 'b'"),
        (tokenizer({"vocab": {"a": 1, "b": 2}}), "expected the ids 0 to 1 for 2 tokens, found 2 for 'b'"),
        (tokenizer({"vocab": {"a": 0, "b": -1}}), "expected the ids 0 to 1 for 2 tokens, found -1 for 'b'"),
        (tokenizer({"vocab": {"a": 0, "b": 1.0}}), r"expected the ids 0 to 1 for 2 tokens, found 1\.0 for 'b'"),
        (tokenizer({"vocab": {"a": 0, "b": True}}), "expected the ids 0 to 1 for 2 tokens, found True for 'b'"),
        (tokenizer({"vocab": {"a": 0, "b": "1"}}), "expected the ids 0 to 1 for 2 tokens, found '1' for 'b'"),
        (
            tokenizer({"vocab": {"a": 0, "b": 10**18}}),
            "expected the ids 0 to 1 for 2 tokens, found 1000000000000000000 for",
        ),
        (tokenizer({"vocab": {"a": 0, "b": 0}}), "expected each id once, found 0 for 'a' and for 'b'"),
        (tokenizer({"vocab": {"a": 0}}, added(("b", 0))), "expected each id once, found 0 for 'a' and for 'b'"),
        (tokenizer({"vocab": {"a": 0}}, added(("b", 2))), "expected the ids 0 to 1 for 2 tokens, found 2 for 'b'"),
        (tokenizer({"vocab": {"a": 0}}, added(("a", 1))), "expected one id for token 'a', found 0 and 1"),
        (tokenizer({"vocab": {}}, added(("a", 0), ("a", 1))), "expected one id for token 'a', found 0 and 1"),
        (tokenizer({"vocab": {"a": 0}}, {"b": 1}), "expected added_tokens to be an array of objects, found {'b': 1}"),
        (tokenizer({"vocab": {"a": 0}}, ["b"]), r"expected added_tokens to be an array of objects, found \['b'\]"),
        (tokenizer({"vocab": {"a": 0}}, [{"id": 1}]), "expected added_tokens with content and id, found None and 1"),
        (
            tokenizer({"vocab": {"a": 0}}, [{"content": "b"}]),
            "expected the ids 0 to 1 for 2 tokens, found None for 'b'",
        ),
        (tokenizer({"vocab": {}}), r"expected a vector for each of the 0 tokens of tokenizer\.json, found 6"),
    ],
)
def test_tokenizers_without_a_vocabulary_are_refused(folder, content, message):
    write_model(folder, content=content)
    assert_refuses(folder, message)


def test_token_with_a_lone_surrogate_is_refused(folder):
    write_model(folder, model={"vocab": {**WORDPIECE["vocab"], "\ud800": 6}}, tensors={"embeddings": np.ones((7, 2))})
    assert_refuses(folder, "model: token 6: expected a key, found a null")


def test_tokenizer_of_no_token_and_matrix_of_no_row_are_refused(folder):
    write_model(folder, {"embeddings": np.ones((0, 2))}, {"vocab": {}})
    assert_refuses(folder, r"tensor 'embeddings': expected at least one vector of .*, found shape \(0, 2\)")


def test_absurd_tokenizer_is_refused_before_it_is_read(folder):
    write_model(folder)
    os.truncate(folder / "tokenizer.json", 1 << 40)
    assert_refuses(folder, r"tokenizer\.json: expected at most 67,108,864 bytes, found 1,099,511,627,776")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_files_cut_anywhere_are_refused(folder, name):
    write_model(folder, {"embeddings": VECTORS, "mapping": np.arange(6), "weights": np.ones(6)})
    data = (folder / name).read_bytes()
    for size in range(len(data)):
        (folder / name).write_bytes(data[:size])
        assert_refuses(folder, rf"{name}: .*expected")
    (folder / name).write_bytes(data + b"x")
    assert_refuses(folder, r"tokenizer\.json: expected JSON: Extra data|bytes, as the header says, found .*damaged")


def test_file_that_shrinks_while_it_is_read_is_refused(folder):
    write_model(folder)
    source = Model2vecSource(folder)
    size = (folder / "model.safetensors").stat().st_size
    os.truncate(folder / "model.safetensors", size - 3)
    with pytest.raises(
        vecstore.FormatError, match=rf"model\.safetensors: byte {size - 3}: expected more, found the end"
    ):
        list(source.blocks())
    source.close()


def test_convert_takes_a_model(folder, tmp_path):
    write_model(folder)
    report = vecstore.convert(folder, tmp_path / "v.vecstore")
    store = vecstore.open(tmp_path / "v.vecstore")
    assert list(store.keys) == TOKENS
    np.testing.assert_array_equal(store.vectors, VECTORS)
    assert (report.source.name, report.source.format) == ("model", "model2vec")
