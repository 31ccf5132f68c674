"""Exchange with gensim: its files and objects give what gensim gives, or a reason stands beside the difference."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from files import left_in, word2vec_bytes

import vecstore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import gensim.test.test_data
    from gensim.models import FastText, KeyedVectors
    from gensim.models.fasttext import load_facebook_vectors

FOLDER = Path(next(iter(gensim.test.test_data.__path__)))
MODES = {"binary": {"binary": True}, "text": {}, "no header": {"no_header": True}}

# Everything in gensim's wheel that it reads as vectors: how, and their shape.
VECTOR_FILES = {
    "EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt": ("text", 20, 300),
    "IT.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt": ("text", 20, 300),
    "crime-and-punishment.vec": ("text", 291, 5),
    "euclidean_vectors.bin": ("binary", 2747, 10),
    "high_precision.kv.bin": ("binary", 2, 2),
    "high_precision.kv.txt": ("text", 2, 2),
    "lee_fasttext.vec": ("text", 1762, 10),
    "poincare_vectors.bin": ("binary", 1182, 10),
    "test_glove.txt": ("no header", 76, 50),
    "toy-model.vec": ("text", 22, 5),
    "word2vec_pre_kv_c": ("text", 1750, 10),
}
FORMATS = {"binary": "word2vec", "text": "word2vec-text", "no header": "glove"}

# Text that gensim, told so by its caller, reads as a binary: digits for floats. Here the content decides.
TEXT_READ_AS_BINARY = {
    "EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt",
    "IT.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt",
    "high_precision.kv.txt",
    "lee_fasttext.vec",
    "toy-model.vec",
    "word2vec_pre_kv_c",
}

# Lists of words in which gensim finds vectors of no numbers.
NO_NUMBERS = {
    "poincare_hypernyms.tsv",
    "poincare_hypernyms_large.tsv",
    "poincare_utf8.tsv",
    "testcorpus.blei.vocab",
    "testcorpus.uci.vocab",
}

# Tables of word counts and of other numbers, with an integer or a word at the start of a line: nothing but their
# reader's knowledge tells them from GloVe. Gensim finds no numbers in them, since it separates at spaces alone.
TABLES = {
    "head500.noblanks.cor_wordids.txt",
    "ldavowpalwabbit.dict.txt",
    "similarities0-1.txt",
}

# A matrix of two columns, which gensim takes for keys with a number each.
WITHOUT_KEYS = "DTM/sstats_test.txt"

PICKLE = "found a pickle, which may run code when loaded"
FASTTEXT = "found a fastText model; its vectors alone are in the .vec file"
OTHER = (
    r"byte 0: expected a word2vec header 'count dim', a line of text with a key and its numbers, or a .* matrix, found"
)
NO_KEYS = r"expected the keys of its \d+ rows in .*\.keys\.txt, one a line, found no such file; .*--row-keys"

# Vectors that are not read: pickles on principle, models of fastText, matrices whose keys are elsewhere, damage.
REFUSED = {
    "compatible-hash-true.model": PICKLE,
    "fasttext_old": PICKLE,
    "fasttext_old_sep": PICKLE,
    "ft_kv_3.6.0.model.gz": PICKLE,
    "ft_model_2.3.0": PICKLE,
    "lee_fasttext": PICKLE,
    "model-from-gensim-3.8.0.w2v": PICKLE,
    "old_keyedvectors_320.dat": PICKLE,
    "old_w2v_models/w2v_0.12.0.mdl": PICKLE,
    "old_w2v_models/w2v_3.4.0.mdl": PICKLE,
    "w2v-lee-v0.12.0": PICKLE,
    "word2vec_3.3": PICKLE,
    "word2vec_old": PICKLE,
    "word2vec_old_sep": PICKLE,
    "word2vec_pre_kv_py2": PICKLE,
    "word2vec_pre_kv_sep_py3": PICKLE,
    "crime-and-punishment.bin": FASTTEXT,
    "lee_fasttext_new.bin": FASTTEXT,
    "pang_lee_polarity_fasttext.bin": FASTTEXT,
    "toy-model-pretrained.bin": FASTTEXT,
    "toy-model.bin": FASTTEXT,
    # Older than fastText's magic number.
    "cp852_fasttext.bin": OTHER,
    "lee_fasttext.bin": OTHER,
    "non_ascii_fasttext.bin": OTHER,
    # A pickle of protocol 0, which is text.
    "varembed_vectors.pkl": OTHER,
    "word2vec_old_sep.syn1neg.npy": NO_KEYS,
    "word2vec_pre_kv_sep_py3.syn0.npy": NO_KEYS,
    "word2vec_pre_kv_sep_py3.syn0_lockf.npy": r"expected a matrix \(rows, dim\), found shape \(9,\)",
    "pretrained.vec": r"line 3, byte 54: expected 3 records, found the end after 1; .*count_mismatch='warn'",
    "pang_lee_polarity_fasttext.vec": r"line 150, byte 155,978: expected a key in UTF-8, found b'\\x97'",
    "w2v_keyedvectors_load_test.modeldata": r"line 2, byte 4: expected a key in UTF-8, found .*\(unexpected end",
}

# Models that gensim can still load.
MODELS = [
    "model-from-gensim-3.8.0.w2v",
    "old_keyedvectors_320.dat",
    "word2vec_3.3",
    "word2vec_old",
    "word2vec_old_sep",
    *(f"old_w2v_models/w2v_{version}.mdl" for version in ("0.13.4", "1.0.1", "2.3.0", "3.0.0", "3.4.0")),
]
FASTTEXT_MODELS = [name for name in REFUSED if name.endswith(".bin") and name != "pang_lee_polarity_fasttext.bin"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


def from_gensim(call, *arguments, **options):
    """Call gensim, whose warnings about itself and the files that it leaves open are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call(*map(str, arguments), **options)
        except Exception as error:
            failure = error.with_traceback(None)  # lets go of the open file
            failure.__context__ = None
    raise failure


def gensim_reads(path: Path, mode: str, **options) -> KeyedVectors:
    return from_gensim(KeyedVectors.load_word2vec_format, path, **MODES[mode], **options)


def convert(source, tmp_path: Path, **options):
    report = vecstore.convert(source, tmp_path / "store", overwrite=True, **options)
    with vecstore.open(tmp_path / "store") as store:
        return list(store.keys), store.vectors.copy(), report


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(expected, np.float32).view(np.uint32))


def assert_equals_gensim(source, keyed: KeyedVectors, tmp_path: Path, **options):
    keys, vectors, report = convert(source, tmp_path, **options)
    assert keys == keyed.index_to_key
    assert_same_bits(vectors, keyed.vectors)
    assert set(report.dropped.values()) == {0}


def name_of(file: Path) -> str:
    return file.relative_to(FOLDER).as_posix()


def files_in_the_wheel() -> list[Path]:
    return [file for file in sorted(FOLDER.rglob("*")) if file.is_file() and file.suffix not in (".py", ".pyc")]


def test_files_that_gensim_reads_are_all_in_the_tables():
    found = {}
    for file in files_in_the_wheel():
        for mode in MODES:
            try:
                found[name_of(file), mode] = gensim_reads(file, mode).vectors.shape
            except (ValueError, OSError, EOFError):
                continue
    expected = {(name, mode): (rows, dim) for name, (mode, rows, dim) in VECTOR_FILES.items()}
    assert found.items() >= expected.items()
    others = {(name, "binary") for name in TEXT_READ_AS_BINARY} | {(name, "no header") for name in NO_NUMBERS | TABLES}
    assert set(found) == set(expected) | others | {(WITHOUT_KEYS, "no header")}
    assert {found[name, "no header"][1] for name in NO_NUMBERS | TABLES} == {0}


@pytest.mark.parametrize("name", VECTOR_FILES)
def test_file_of_gensim_is_what_gensim_reads(name, tmp_path):
    mode, rows, dim = VECTOR_FILES[name]
    assert_equals_gensim(FOLDER / name, gensim_reads(FOLDER / name, mode), tmp_path)
    report = vecstore.convert(FOLDER / name, tmp_path / "again", format=FORMATS[mode])
    assert (report.rows, report.dim, report.source.format) == (rows, dim, FORMATS[mode])


@pytest.mark.parametrize("name", REFUSED)
def test_file_of_gensim_is_refused_with_a_reason(name, path):
    with pytest.raises(vecstore.FormatError, match=f"{re.escape(name)}: .*{REFUSED[name]}"):
        vecstore.convert(FOLDER / name, path)
    assert not path.exists()


def test_no_other_file_of_gensim_becomes_a_store(path):
    taken = set()
    for file in files_in_the_wheel():
        try:
            vecstore.convert(file, path, overwrite=True)
        except vecstore.FormatError as error:
            assert str(file) in str(error)  # noqa: PT017
            continue
        taken.add(name_of(file))
    assert taken == {*VECTOR_FILES, *TABLES}


def test_table_without_keys_is_refused(path):
    with pytest.raises(vecstore.FormatError, match=r"sstats_test\.txt: byte 0: expected a key before the numbers"):
        vecstore.convert(FOLDER / WITHOUT_KEYS, path)


@pytest.mark.parametrize("errors", ["replace", "ignore"])
@pytest.mark.parametrize("name", ["pang_lee_polarity_fasttext.vec", "w2v_keyedvectors_load_test.modeldata"])
def test_undecodable_file_of_gensim_is_what_gensim_reads(name, errors, tmp_path):
    with pytest.raises(UnicodeDecodeError):
        gensim_reads(FOLDER / name, "text")
    keyed = gensim_reads(FOLDER / name, "text", unicode_errors=errors)
    keys, vectors, report = convert(FOLDER / name, tmp_path, encoding_errors=errors)
    # Keys that have become equal leave gensim with keys None at the end, whose vectors are zeros.
    distinct = keyed.index_to_key[: len(keyed.key_to_index)]
    assert set(keyed.index_to_key[len(distinct) :]) <= {None}
    assert not keyed.vectors[len(distinct) :].any()
    assert keys == distinct
    assert_same_bits(vectors, keyed.vectors[: len(distinct)])
    assert report.dropped == {"duplicates": len(keyed) - len(distinct), "undecodable": 0, "unwanted": 0}


def test_file_that_ends_early_is_kept_as_far_as_it_goes(tmp_path):
    """gensim refuses it in any case."""
    with pytest.raises(EOFError, match="unexpected end of input"):
        gensim_reads(FOLDER / "pretrained.vec", "text")
    with pytest.warns(vecstore.FormatWarning, match="expected 3 records, found the end after 1"):
        keys, vectors, _ = convert(FOLDER / "pretrained.vec", tmp_path, count_mismatch="warn")
    assert keys == ["dummy"]
    assert_same_bits(vectors, [[0.069324, 0.18155, 0.080453, -0.1799, 0.032043]])


KEYS = ["</s>", "größe", "日本語", "", "🙂", "a\u00a0", "\u0085", "\u3000", "a\tb", "1", "-0.5", "x" * 400]
NUMBERS = [0.1, -1 / 3, 1e-5, 12345.678, 0.0, -0.0, 65504.0, 6e-8, np.inf, -np.inf, np.nan, 1.0]


def model_of(keys, vectors, dtype=np.float32) -> KeyedVectors:
    vectors = np.asarray(vectors)
    keyed = KeyedVectors(vectors.shape[1], dtype=dtype)
    keyed.add_vectors(keys, vectors.astype(dtype))
    return keyed


@pytest.fixture
def model() -> KeyedVectors:
    """Keys that differ in `count` from last to first, and whose third vector is all zeros."""
    vectors = np.stack([np.roll(NUMBERS, i)[:7] for i in range(len(KEYS))])
    vectors[2] = 0
    keyed = model_of(KEYS, vectors)
    for i, key in enumerate(KEYS):
        keyed.set_vecattr(key, "count", i + 1)
        keyed.set_vecattr(key, "rank", i % 3)
    return keyed


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
@pytest.mark.parametrize(
    "options",
    [{}, {"sort_attr": "rank"}, {"sort_attr": "no such"}, {"prefix": "*dt_"}, {"prefix": "größe"}, {"total_vec": 12}],
    ids=lambda options: " ".join(f"{name}={value}" for name, value in options.items()),
)
@pytest.mark.parametrize("mode", MODES)
def test_file_that_gensim_wrote_is_what_gensim_reads(mode, options, suffix, model, path, tmp_path):
    file = path.with_suffix(suffix)
    from_gensim(model.save_word2vec_format, file, binary=mode == "binary", write_header=mode != "no header", **options)
    keyed = gensim_reads(file, mode)
    assert len(keyed.key_to_index) == len(KEYS)
    assert_equals_gensim(file, keyed, tmp_path)


def test_vocabulary_that_gensim_wrote_chooses_keys(model, path, tmp_path):
    """gensim's list of counts is no list of keys, so it is taken apart; with it gensim itself reads the same."""
    keyed = model_of(KEYS[:3], model.vectors[:3])
    for key in KEYS[:3]:
        keyed.set_vecattr(key, "count", 5)
    from_gensim(keyed.save_word2vec_format, path, fvocab=str(path.with_suffix(".vocab")))
    lines = path.with_suffix(".vocab").read_text("utf-8").splitlines()
    assert lines == ["</s> 5", "größe 5", "日本語 5"]
    assert_equals_gensim(path, gensim_reads(path, "text", fvocab=str(path.with_suffix(".vocab"))), tmp_path)
    keys, vectors, report = convert(path, tmp_path, keys=[line.rpartition(" ")[0] for line in lines[:2]])
    assert keys == KEYS[:2]
    assert_same_bits(vectors, model.vectors[:2])
    assert report.dropped["unwanted"] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_file_of_other_numbers_is_what_gensim_reads(dtype, mode, model, path, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((len(KEYS), 5)) / 7
    keyed = model_of(KEYS, vectors, dtype)
    from_gensim(keyed.save_word2vec_format, path, binary=mode == "binary", write_header=mode != "no header")
    assert_equals_gensim(path, gensim_reads(path, mode), tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 2)])
def test_file_of_any_shape_is_what_gensim_reads(shape, mode, path, tmp_path):
    keyed = model_of([f"k{i}" for i in range(shape[0])], np.random.default_rng(0).standard_normal(shape))
    from_gensim(keyed.save_word2vec_format, path, binary=mode == "binary", write_header=mode != "no header")
    assert_equals_gensim(path, gensim_reads(path, mode), tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_files_that_gensim_joined_are_what_gensim_reads(binary, path, tmp_path):
    words, tags = model_of(["a", "b"], [[1, 2], [3, 4]]), model_of(["x", "y"], [[5, 6], [7, 8]])
    from_gensim(words.save_word2vec_format, path, binary=binary, total_vec=4)
    from_gensim(tags.save_word2vec_format, path, binary=binary, append=True, write_header=False, prefix="*dt_")
    assert_equals_gensim(path, gensim_reads(path, "binary" if binary else "text"), tmp_path)


@pytest.mark.parametrize("binary", [False, True])
def test_file_that_goes_on_with_another_is_refused(binary, path, tmp_path):
    """gensim reads what the first header promises and leaves the rest without a word."""
    words = model_of(["a", "b"], [[1, 2], [3, 4]])
    for append in (False, True):
        from_gensim(words.save_word2vec_format, path, binary=binary, append=append)
    with pytest.raises(vecstore.FormatError, match="expected the end after 2 records, found b'2 2"):
        convert(path, tmp_path)
    with pytest.warns(vecstore.FormatWarning, match="expected the end after 2 records"):
        assert_equals_gensim(path, gensim_reads(path, "binary" if binary else "text"), tmp_path, count_mismatch="warn")


@pytest.mark.parametrize("binary", [False, True])
def test_file_that_promises_more_is_refused(binary, path, tmp_path):
    """gensim refuses it too, and cannot be told to keep what is there."""
    from_gensim(model_of(["a", "b"], [[1, 2], [3, 4]]).save_word2vec_format, path, binary=binary, total_vec=3)
    with pytest.raises(EOFError, match="unexpected end of input"):
        gensim_reads(path, "binary" if binary else "text")
    with pytest.raises(vecstore.FormatError, match=r"expected 3 records|announces 3 records"):
        convert(path, tmp_path)
    with pytest.warns(vecstore.FormatWarning, match="expected 3 records, found the end after 2"):
        keys, vectors, _ = convert(path, tmp_path, count_mismatch="warn")
    assert keys == ["a", "b"]
    assert_same_bits(vectors, [[1, 2], [3, 4]])


def test_file_of_no_keys_is_refused(path, tmp_path):
    """gensim reads it as a model without keys; who converts one has lost something."""
    from_gensim(KeyedVectors(2).save_word2vec_format, path)
    assert gensim_reads(path, "text").vectors.shape == (0, 2)
    with pytest.raises(vecstore.FormatError, match=r"the header b'0 2.*' announces nothing"):
        convert(path, tmp_path)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(
    "key",
    [
        "", "\u00a0", "a\u00a0", "\u00a0a", "\u0085", "a\u0085", "\u3000a\u3000", "\u2028", "a\tb", "\ta", "a\x0b",
        "a\x1c", "a\r", "\ra", "a\0", "1", "-0.5", "nan", "1e5", "\u200b", "\u202e", "e\u0301", "\U0010ffff",
    ],
)  # fmt: skip
def test_odd_key_is_what_gensim_reads(key, first, mode, path, tmp_path):
    keyed = model_of([key, "other"] if first else ["other", key], [[1, 2, 0.1], [3, 4, 5]])
    from_gensim(keyed.save_word2vec_format, path, binary=mode == "binary", write_header=mode != "no header")
    found = gensim_reads(path, mode)
    assert found.index_to_key == keyed.index_to_key
    assert_equals_gensim(path, found, tmp_path)


@pytest.mark.parametrize("mode", ["text", "no header"])
@pytest.mark.parametrize("key", ["a b", ". . .", " a", "a ", "at name@domain.com", "a  b", "world war 2"])
def test_key_with_a_space_is_read_where_gensim_fails(key, mode, path, tmp_path):
    """gensim takes the first field for the key and the rest for numbers, though it wrote the file itself."""
    vectors = [[1, 2, 0.1], [3, 4, 5], [6, 7, 8]]
    keyed = model_of([key, "b", "c"], vectors)
    from_gensim(keyed.save_word2vec_format, path, write_header=mode != "no header")
    with pytest.raises(ValueError, match="could not"):
        gensim_reads(path, mode)
    keys, found, _ = convert(path, tmp_path)
    # Spaces and tabs before the numbers separate them from the key, however many there are.
    assert keys == [key.rstrip(" "), "b", "c"]
    assert_same_bits(found, vectors)


@pytest.mark.parametrize("mode", ["text", "no header"])
def test_key_that_ends_in_a_tab_loses_it(mode, path, tmp_path):
    """Files with tabs for separators occur, so a tab before the numbers is one; gensim cannot read such files."""
    from_gensim(model_of(["a\t", "b"], [[1, 2], [3, 4]]).save_word2vec_format, path, write_header=mode != "no header")
    assert gensim_reads(path, mode).index_to_key == ["a\t", "b"]
    assert convert(path, tmp_path)[0] == ["a", "b"]
    path.write_bytes(b"2 2\n" * (mode == "text") + b"a\t1\t2\nb\t3\t4\n")
    with pytest.raises(ValueError, match="could not") if mode == "text" else pytest.raises(AssertionError):
        assert gensim_reads(path, mode).vectors.shape == (2, 2)
    assert convert(path, tmp_path)[0] == ["a", "b"]


def test_byte_order_mark_is_no_part_of_the_first_key(path, tmp_path):
    """gensim makes it one, or fails to read a header after it."""
    path.write_bytes("\ufeffa 1 2\nb 3 4\n".encode())
    assert gensim_reads(path, "no header").index_to_key == ["\ufeffa", "b"]
    assert convert(path, tmp_path)[0] == ["a", "b"]
    path.write_bytes("\ufeff2 2\na 1 2\nb 3 4\n".encode())
    with pytest.raises(ValueError, match="invalid literal"):
        gensim_reads(path, "text")
    assert convert(path, tmp_path)[0] == ["a", "b"]


@pytest.mark.parametrize("mode", ["text", "no header"])
@pytest.mark.parametrize("key", ["a\nb", "\n", "a\n"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_key_with_a_newline_in_text_is_refused_as_by_gensim(first, key, mode, path, tmp_path):
    keyed = model_of([key, "other"] if first else ["other", key], [[1, 2, 0.1], [3, 4, 5]])
    from_gensim(keyed.save_word2vec_format, path, write_header=mode != "no header")
    with pytest.raises(ValueError, match="could not"):
        gensim_reads(path, mode)
    with pytest.raises(vecstore.FormatError, match=r"byte \d+: expected .*, found "):
        convert(path, tmp_path)
    assert left_in(tmp_path) == {"vectors"}


@pytest.mark.parametrize(
    ("key", "reason"), [("a\nb", "a key, found b'a"), ("a\n", "a key, found b'a"), ("\n", "a newline")]
)
def test_key_with_a_newline_in_a_binary_is_refused(key, reason, path, tmp_path):
    """gensim drops newlines that begin a key and keeps others; here one follows each vector, or none does."""
    keyed = model_of(["first", key, "last"], [[1, 2, 0.1], [3, 4, 5], [6, 7, 8]])
    from_gensim(keyed.save_word2vec_format, path, binary=True)
    assert gensim_reads(path, "binary").index_to_key == ["first", key.lstrip("\n"), "last"]
    with pytest.raises(vecstore.FormatError, match=rf"record \d, byte \d+: expected {reason}"):
        convert(path, tmp_path)
    assert left_in(tmp_path) == {"vectors"}


def test_message_shows_no_bytes_beyond_the_file(path, tmp_path):
    from_gensim(model_of(["first", "a\nb"], [[1, 2, 0.1], [3, 4, 5]]).save_word2vec_format, path, binary=True)
    end = re.escape(repr(path.read_bytes()[22:]))
    with pytest.raises(vecstore.FormatError, match=rf"record 2, byte 22: expected a key, found {end}; "):
        convert(path, tmp_path)


def test_key_with_a_space_in_a_binary_is_refused_where_gensim_reads_on(path, tmp_path):
    """gensim gives the key's second half to the vector, and the vector's end to nobody."""
    from_gensim(model_of(["a", "New York"], [[1, 2], [3, 4]]).save_word2vec_format, path, binary=True)
    assert gensim_reads(path, "binary").index_to_key == ["a", "New"]
    with pytest.raises(vecstore.FormatError, match=r"byte \d+: expected the end after 2 records"):
        convert(path, tmp_path)


# How often each key stands, and whether gensim's None stands for a phantom row of zeros at the end.
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "keys", [["a", "a", "b"], ["a", "b", "a"], ["a", "a", "a"], ["a", "b", "b", "c", "a", "d"]], ids=" ".join
)
def test_repeated_keys_leave_no_phantom_rows(keys, mode, path, tmp_path):
    """gensim 4.4 keeps the first of them, and ends in as many keys None with zeros as it dropped."""
    vectors = np.arange(1, 2 * len(keys) + 1, dtype=np.float32).reshape(-1, 2)
    encoded = [key.encode() for key in keys]
    lines = [b"%b %d %d\n" % (key, *row) for key, row in zip(encoded, vectors.astype(int), strict=True)]
    header = b"" if mode == "no header" else b"%d 2\n" % len(keys)
    path.write_bytes(word2vec_bytes(encoded, vectors) if mode == "binary" else header + b"".join(lines))
    keyed = gensim_reads(path, mode)
    found, rows, report = convert(path, tmp_path)
    distinct = list(dict.fromkeys(keys))
    repeats = len(keys) - len(distinct)
    assert keyed.index_to_key == distinct + [None] * repeats
    assert keyed.vectors.shape == vectors.shape
    assert not keyed.vectors[len(distinct) :].any()
    assert found == distinct
    assert_same_bits(rows, keyed.vectors[: len(distinct)])
    assert report.dropped["duplicates"] == repeats
    with pytest.raises(vecstore.FormatError, match=r"KeyedVectors: row .*: expected a key, found a null"):
        convert(keyed, tmp_path)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("1_0", "Python's underscores"), ("\u0661", "Arabic digits"), ("1\u00a0", "blanks that are no separators")],
)
def test_numbers_that_are_python_alone_are_refused(number, reason, path, tmp_path):
    path.write_bytes(f"3 2\na 1 2\nb 1 {number}\nc 5 6\n".encode())
    assert gensim_reads(path, "text").index_to_key == ["a", "b", "c"], reason
    with pytest.raises(vecstore.FormatError, match=r"line 3, byte 10: expected 2 numbers after key b'b', found"):
        convert(path, tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_model_that_gensim_loads_is_a_source(name, tmp_path):
    keyed = from_gensim(KeyedVectors.load, FOLDER / name)
    keyed = getattr(keyed, "wv", keyed)
    assert len(keyed) >= 3
    assert_equals_gensim(keyed, keyed, tmp_path)


@pytest.mark.parametrize("name", FASTTEXT_MODELS)
def test_words_of_a_fasttext_model_are_a_source(name, tmp_path):
    """Words alone: what their n-grams would say of other keys is not in a store."""
    encoding = "cp852" if name.startswith("cp852") else "utf-8"
    keyed = from_gensim(load_facebook_vectors, FOLDER / name, encoding=encoding)
    assert_equals_gensim(keyed, keyed, tmp_path)
    assert "no such word" in keyed.key_to_index or keyed["no such word"].shape == (keyed.vector_size,)
    with vecstore.open(tmp_path / "store") as store:
        assert "no such word" not in store


@pytest.mark.parametrize("name", ["lee_fasttext", "toy-model", "crime-and-punishment"])
def test_words_of_a_fasttext_model_are_those_of_its_vec(name, tmp_path):
    """fastText writes five digits; its </s> has no n-grams, which gensim does not know."""
    keyed = from_gensim(load_facebook_vectors, FOLDER / f"{name}.bin")
    keys, vectors, _ = convert(FOLDER / f"{name}.vec", tmp_path)
    assert keys == keyed.index_to_key
    words = np.array(keys) != "</s>"
    np.testing.assert_allclose(vectors[words], keyed.vectors[words], rtol=1e-3, atol=1e-5)


def test_trained_fasttext_gives_its_words(tmp_path):
    model = FastText([["größe", "nice", "nice"]] * 9, vector_size=4, min_count=1, epochs=1, workers=1, bucket=20)
    assert model.wv.vectors_ngrams.shape == (20, 4)
    assert_equals_gensim(model.wv, model.wv, tmp_path)
    with pytest.raises(TypeError, match=r"gensim's KeyedVectors \(the \.wv of a model\), or a store, found FastText"):
        convert(model, tmp_path)


def test_model_with_mapped_vectors_is_a_source(path, tmp_path):
    keyed = model_of([f"k{i}" for i in range(5000)], np.random.default_rng(0).standard_normal((5000, 20)))
    from_gensim(keyed.save, path, separately=["vectors"])
    mapped = from_gensim(KeyedVectors.load, path, mmap="r")
    assert isinstance(mapped.vectors, np.memmap)
    assert_equals_gensim(mapped, keyed, tmp_path)


def test_model_with_other_numbers_is_a_source(tmp_path):
    half = model_of(["a", "b"], [[0.1, np.inf, np.nan], [1e-8, -0.0, 3]], np.float16)
    assert_equals_gensim(half, half, tmp_path)
    double = model_of(["a", "b"], [[0.1, 1e38, 1e-50], [1 / 3, -0.0, 3]], np.float64)
    assert_equals_gensim(double, double, tmp_path)
    double.vectors[1, 0] = 1e39
    with pytest.raises(
        vecstore.FormatError, match=r"KeyedVectors: row 1: expected numbers within float32 .*found 1e\+39"
    ):
        convert(double, tmp_path)


def test_model_that_has_grown_is_a_source(tmp_path):
    keyed = model_of(["a", "b"], [[1, 2], [3, 4]])
    keyed.add_vectors(["b", "c"], np.float32([[5, 6], [7, 8]]))  # leaves b as it is
    keyed["a"] = np.float32([9, 9])
    from_gensim(keyed.add_vector, "d", vector=[0.5, 0.25])
    assert_equals_gensim(keyed, keyed, tmp_path)
    assert_same_bits(convert(keyed, tmp_path)[1], [[9, 9], [3, 4], [7, 8], [0.5, 0.25]])


def test_model_with_repeated_keys_follows_the_rule_for_duplicates(tmp_path):
    """gensim finds the last of them, and the first by its number alone; in a file the first counts."""
    keyed = model_of(["a", "b", "a"], [[1, 2], [3, 4], [5, 6]])
    assert keyed.index_to_key == ["a", "b", "a"]
    assert keyed["a"].tolist() == [5, 6]
    for duplicates, row in {"first": [1, 2], "last": [5, 6]}.items():
        keys, vectors, report = convert(keyed, tmp_path, duplicates=duplicates)
        assert (keys, vectors.tolist()) == (["a", "b"], [row, [3, 4]])
        assert report.dropped["duplicates"] == 1
    with pytest.raises(vecstore.FormatError, match=r"KeyedVectors: .*'a'"):
        convert(keyed, tmp_path, duplicates="error")


def test_model_with_rooms_to_spare_is_refused(tmp_path):
    """Rows that gensim set aside have no key."""
    keyed = KeyedVectors(2, count=3)
    keyed.add_vector("a", [1, 2])
    assert keyed.index_to_key == ["a", None, None]
    with pytest.raises(
        vecstore.FormatError, match=r"KeyedVectors: row 1: expected a key, found a null .*leave its row out"
    ):
        convert(keyed, tmp_path)
    filled = len(keyed.key_to_index)
    assert convert((keyed.index_to_key[:filled], keyed.vectors[:filled]), tmp_path)[0] == ["a"]


def test_model_with_numbers_for_keys_is_refused(path, tmp_path):
    """gensim writes such keys twice, so that it cannot read its own file to the end either."""
    keyed = model_of(range(3), np.eye(3))
    with pytest.raises(TypeError, match=r"KeyedVectors: key 0: expected str, bytes or None, found int: 0"):
        convert(keyed, tmp_path)
    from_gensim(keyed.save_word2vec_format, path)
    with pytest.raises(
        vecstore.FormatError, match=r"line 5, byte \d+: expected the end after 3 records, found b'0 1.0"
    ):
        convert(path, tmp_path)


def test_model_without_keys_is_refused(tmp_path):
    with pytest.raises(
        vecstore.FormatError, match=r"KeyedVectors: expected at least one key with its vector, found none"
    ):
        convert(KeyedVectors(2), tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_file_of_gensim_comes_back_byte_for_byte(mode, model, path, tmp_path):
    from_gensim(model.save_word2vec_format, path, binary=mode == "binary", write_header=mode != "no header")
    convert(path, tmp_path)
    copy = vecstore.export(tmp_path / "store", tmp_path / "copy", format=FORMATS[mode])
    assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", [name for name, (mode, *_) in VECTOR_FILES.items() if mode == "binary"])
def test_binary_in_the_wheel_comes_back_byte_for_byte(name, tmp_path):
    convert(FOLDER / name, tmp_path)
    copy = vecstore.export(tmp_path / "store", tmp_path / "copy.bin")
    assert copy.read_bytes() == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", [name for name, (mode, *_) in VECTOR_FILES.items() if mode != "binary"])
def test_text_in_the_wheel_comes_back_as_gensim_would_write_it(name, tmp_path):
    """Not byte for byte: fastText ends lines with a space, word2vec.c writes six decimals."""
    mode = VECTOR_FILES[name][0]
    keyed = gensim_reads(FOLDER / name, mode)
    convert(FOLDER / name, tmp_path)
    copy = vecstore.export(tmp_path / "store", tmp_path / "copy", format=FORMATS[mode])
    theirs = tmp_path / "theirs"
    from_gensim(keyed.save_word2vec_format, theirs, write_header=mode != "no header", sort_attr="no such")
    assert copy.read_bytes() == theirs.read_bytes()


def test_model_comes_back_from_its_own_format(model, tmp_path):
    convert(model, tmp_path)
    copy = vecstore.export(tmp_path / "store", tmp_path / "copy.kv")
    keyed = from_gensim(KeyedVectors.load, copy, mmap="r")
    assert keyed.index_to_key == model.index_to_key
    assert_same_bits(np.asarray(keyed.vectors), model.vectors)
    assert keyed.key_to_index == model.key_to_index
