import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from files import left_in, numbered, read_records, word2vec_bytes
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import vecstore
from vecstore.formats.lines import looks_like_text
from vecstore.formats.names import keys_path
from vecstore.formats.writers import write_npy, write_text, write_word2vec
from vecstore.kernels.records import KEY_LIMIT
from vecstore.kernels.writing import NUMBER_BYTES
from vecstore.progress import Progress

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gensim.models import KeyedVectors

KEYS = ["</s>", "größe", "", "a\u00a0b", "\u0085", "\u3000", "a\0b", "\r", "日本語", "🙂", "x" * 400]
BLANKS = [". . .", "at name@domain.com", " a", "a\tb", "1 2 3"]
EDGES = [0.0, -0.0, 1e-45, 1.17549435e-38, 9.9999e-5, 1e-4, 1.5e-4, 0.1, 1 / 3, 1.0, 100.0, 123456.78, 999999.94]
EDGES += [1e6, 16777216.0, 1.2345679e8, 1e16, 3.4028235e38, math.inf, math.nan]

WRITERS = {
    "word2vec": write_word2vec,
    "word2vec-text": lambda path, keys, vectors, **options: write_text(path, keys, vectors, header=True, **options),
    "glove": lambda path, keys, vectors, **options: write_text(path, keys, vectors, header=False, **options),
    "npy": write_npy,
}
formats = pytest.mark.parametrize("format", WRITERS)
newline_habits = pytest.mark.parametrize("newlines", [False, True], ids=["bare", "newlines"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


def floats(bits: Sequence[int]) -> NDArray[np.float32]:
    return np.array(bits, np.uint32).view(np.float32)


def number_text(number: np.float32) -> str:
    """The slow twin: the shortest digits, from NumPy, laid out as a float32 of NumPy 2.4 shows itself."""
    if not np.isfinite(number):
        return {True: "nan", False: f"{float(number)}"}[bool(np.isnan(number))]
    if number == 0 or 1e-4 <= abs(float(number)) < 1e6:
        return np.format_float_positional(number, unique=True, trim="0")
    return np.format_float_scientific(number, unique=True, trim="-", exp_digits=2)


def text_bytes(keys: Sequence[str], vectors: NDArray[np.float32], *, header: bool) -> bytes:
    lines = [" ".join([key, *map(number_text, vector)]) + "\n" for key, vector in zip(keys, vectors, strict=True)]
    return ("{} {}\n".format(*vectors.shape) * header + "".join(lines)).encode()


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(np.asarray(found).view(np.uint32), np.asarray(expected, np.float32).view(np.uint32))


def assert_gives_back(path: Path, format: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
    found_keys, found = read_records(path, format=format)
    assert [key.decode() for key in found_keys] == list(keys)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(vectors))
    assert_same_bits(found[~np.isnan(found)], vectors[~np.isnan(vectors)])


def test_numbers_are_written_as_numpy_shows_them(path):
    vectors = np.array([EDGES, [-x for x in EDGES]], np.float32).T
    write_text(path, [""] * len(vectors), vectors, header=False)
    assert path.read_bytes() == text_bytes([""] * len(vectors), vectors, header=False)
    shown = {0.5: "0.5", -2: "-2.0", 1e-5: "1e-05", 1.5e6: "1.5e+06", math.nan: "nan", -math.inf: "-inf", -0.0: "-0.0"}
    write_text(path, [""], [list(shown)], header=False)
    assert path.read_text() == " " + " ".join(shown.values()) + "\n"


def test_numbers_of_every_exponent_are_the_shortest(path):
    near = np.arange(12)
    fractions = np.concatenate([near, (1 << 23) - 1 - near, 1 << np.arange(23), 0xAAAAAA >> np.arange(1, 23)])
    bits = (np.arange(512)[:, None] << 23 | fractions).astype(np.uint32)
    vectors = bits.view(np.float32)
    write_text(path, [""] * 512, vectors, header=False)
    assert path.read_bytes() == text_bytes([""] * 512, vectors, header=False)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
@example([0x80800000, 0xFF7FFFFF])
def test_numbers_give_the_same_float32_again(tmp_path_factory, bits):
    path = tmp_path_factory.getbasetemp() / "numbers"
    vectors = floats(bits).reshape(1, -1)
    write_text(path, [""], vectors, header=False)
    texts = path.read_text().split()
    assert texts == [number_text(number) for number in vectors[0]]
    assert max(map(len, texts)) < NUMBER_BYTES
    again = np.array(texts, np.float32)
    np.testing.assert_array_equal(np.isnan(again), np.isnan(vectors[0]))
    assert_same_bits(again[~np.isnan(again)], vectors[0][~np.isnan(again)])


@newline_habits
def test_word2vec_is_written_as_its_format_says(path, newlines):
    vectors = numbered(len(KEYS), 3)[1]
    write_word2vec(path, KEYS, vectors, newlines=newlines)
    assert path.read_bytes() == word2vec_bytes([key.encode() for key in KEYS], vectors, newlines=newlines)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 7])
def test_text_is_written_as_a_slow_twin_writes_it(path, header, dim):
    keys = [*KEYS, *BLANKS]
    vectors = numbered(len(keys), dim)[1]
    write_text(path, keys, vectors, header=header)
    assert path.read_bytes() == text_bytes(keys, vectors, header=header)
    assert looks_like_text(path.read_bytes()) == ("word2vec-text" if header else "glove")


def test_npy_is_read_by_numpy(path):
    keys = [*(key for key in KEYS if key != "\r"), " a ", "b\t", "a\rb"]
    vectors = numbered(len(keys), 3)[1]
    write_npy(path.with_suffix(".npy"), keys, vectors)
    assert_same_bits(np.load(path.with_suffix(".npy")), vectors)
    assert path.with_suffix(".keys.txt").read_bytes() == "".join(f"{key}\n" for key in keys).encode()
    assert left_in(path.parent) == {"vectors.npy", "vectors.keys.txt"}


@formats
@pytest.mark.parametrize("dim", [1, 3, 300])
def test_what_is_written_is_read_back(path, format, dim):
    keys = [key for key in KEYS if key != "\r"] + [f"k{i}" for i in range(20_000 // dim)]
    vectors = numbered(len(keys), dim)[1]
    WRITERS[format](path, keys, vectors)
    assert_gives_back(path, format, keys, vectors)


@formats
def test_any_keys_and_numbers_are_taken(path, format):
    rows = [[1, 2], [3, 4], [5, 6]]
    expected = np.array(rows, np.float32)
    dictionary = pa.array(["a", "b", "c"]).dictionary_encode()
    for keys in iter(["a", "b", "c"]), [b"a", b"b", b"c"], pa.array(["x", "a", "b", "c"])[1:], dictionary[:3]:
        for vectors in rows, expected.astype(">f8"), np.asfortranarray(expected), expected.astype(np.int16):
            keys = list(keys) if not isinstance(keys, pa.Array) else keys
            WRITERS[format](path, keys, vectors)
            assert_gives_back(path, format, ["a", "b", "c"], expected)


@formats
def test_rows_are_written_in_their_order_whatever_the_chunks(path, format, monkeypatch):
    monkeypatch.setattr("vecstore.formats.writers._CHUNK_ROWS", 1000)
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "3")
    keys, vectors = numbered(3500, 50)
    shown: list[Progress] = []
    WRITERS[format](path, keys, vectors, progress=shown.append)
    assert_gives_back(path, format, [key.decode() for key in keys], vectors)
    assert shown == [Progress("writing", done, 3500, "keys") for done in (1000, 2000, 3000, 3500)]


@formats
def test_no_vectors_are_written_too(path, format):
    WRITERS[format](path, [], np.empty((0, 4)))
    header = {"word2vec": b"0 4\n", "word2vec-text": b"0 4\n", "glove": b""}
    if format == "npy":
        assert np.load(path).shape == (0, 4)
        assert keys_path(path).read_bytes() == b""
    else:
        assert path.read_bytes() == header[format]


REFUSED = [
    ("word2vec", ["a", "b c"], r"row 1: key 'b c': word2vec binary cannot hold a space in a key; gensim's own"),
    ("word2vec", ["\na", "b"], r"row 0: key '\\na': word2vec binary cannot hold a newline in a key"),
    ("word2vec", ["a", "b \n"], r"row 1: key 'b \\n': word2vec binary cannot hold a newline in a key"),
    ("word2vec", ["a", "x" * (KEY_LIMIT + 1)], r"row 1: key 'x+: a key of more than 4,096 bytes would be taken"),
    ("word2vec", ["a", "ß" * (KEY_LIMIT // 2 + 1)], r"row 1: key 'ß+: a key of more than 4,096 bytes"),
    ("word2vec-text", ["a", "x" * (KEY_LIMIT + 1)], r"row 1: key 'x+: a key of more than 4,096 bytes would be taken"),
    ("word2vec-text", ["a", "b\n"], r"row 1: key 'b\\n': text cannot hold a newline in a key"),
    ("word2vec-text", ["a", "b "], r"row 1: key 'b ': text cannot hold a blank at a key's end"),
    ("word2vec-text", [" ", "b"], r"row 0: key ' ': text cannot hold a blank at a key's end"),
    ("glove", ["a", "b\t"], r"row 1: key 'b\\t': text cannot hold a blank at a key's end"),
    ("glove", ["a", "b 1 2 3 4"], r"row 1: key 'b 1 2 3 4': text cannot hold more than 3 numbers in a key"),
    ("glove", ["\ufeffa", "b"], r"row 0: key '\\ufeffa': text without a header cannot start with U\+FEFF"),
    ("glove", ["BZh", "b"], r"row 0: key 'BZh': text without a header cannot start with this key: .* a bz2 file"),
    ("glove", ["a 1", "b"], r"row 0: key 'a 1': text without a header cannot hold so many numbers at the end"),
    ("npy", ["a", "b\nc"], r"row 1: key 'b\\nc': a key a line cannot hold a newline in a key"),
    ("npy", ["a\r", "b"], r"row 0: key 'a\\r': a key a line cannot hold a carriage return at a key's end"),
    ("npy", ["\ufeff", "b"], r"row 0: key '\\ufeff': a key a line cannot start with U\+FEFF"),
]


@pytest.mark.parametrize(("format", "keys", "message"), REFUSED, ids=lambda value: str(value)[:20])
def test_keys_that_a_format_cannot_hold_are_refused_before_anything_is_written(path, format, keys, message):
    path.write_bytes(b"old")
    with pytest.raises(vecstore.FormatError, match=message):
        WRITERS[format](path, keys, np.zeros((2, 2)))
    assert path.read_bytes() == b"old"
    assert left_in(path.parent) == {"vectors"}


@formats
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", "\ud800"], "key 1: expected a key, found a null"),
        (["a", None], "key 1: expected a key, found a null"),
        (["a"], r"expected vectors of shape \(1, dim\) for as many keys, found \(2, 3\)"),
        (["a", "b", "c"], r"expected vectors of shape \(3, dim\) for as many keys, found \(2, 3\)"),
    ],
)
def test_keys_and_vectors_must_fit(path, format, keys, message):
    with pytest.raises(ValueError, match=message):
        WRITERS[format](path, keys, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"for as many keys, found \(2,\)"):
        WRITERS[format](path, ["a", "b"], np.zeros(2))
    assert left_in(path.parent) == set()


def written_without_checks(path: Path, format: str, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write what a writer without checks would."""
    if format == "word2vec":
        path.write_bytes(word2vec_bytes([key.encode() for key in keys], vectors))
    elif format == "npy":
        with path.open("wb") as file:
            np.save(file, vectors)
        keys_path(path).write_bytes("".join(f"{key}\n" for key in keys).encode())
    else:
        path.write_bytes(text_bytes(keys, vectors, header=format == "word2vec-text"))


@pytest.mark.parametrize(("format", "keys"), [case[:2] for case in REFUSED], ids=lambda value: str(value)[:20])
def test_keys_that_are_refused_would_not_be_read_back(path, format, keys):
    vectors = numbered(2, 2)[1]
    written_without_checks(path, format, keys, vectors)
    try:
        found_keys, found = read_records(path, format=format)
    except (vecstore.VecstoreError, UnicodeDecodeError):
        return
    assert found_keys != [key.encode() for key in keys] or not np.array_equal(found, vectors)


PIECES = ["a", "é", " ", "\t", "\n", "\r", "\0", "\u00a0", "\u0085", "\u3000", "\ufeff", "1", "-2.5", "nan", "e", "BZh"]
ODD_KEYS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@pytest.mark.parametrize("format", WRITERS)
@given(st.lists(ODD_KEYS, min_size=1, max_size=6), st.integers(1, 7), st.data())
@example(["a nan", "b"], 2, None)
@example([" 1"], 1, None)
@example([" 1", " 1"], 1, None)
@example(["a", "a 1", "b 1", "c", "d"], 1, None)
@example([" 1 1 1", "a"], 3, None)
def test_odd_keys_are_read_back_or_refused(tmp_path_factory, format, keys, dim, data):
    path = tmp_path_factory.getbasetemp() / f"odd-{format}"
    numbers = st.sampled_from([0.5, -1.25, 3.0, 1e-7, 1e30, math.inf, math.nan])
    vectors = np.full((len(keys), dim), 0.5, np.float32)
    if data:
        for i in range(len(keys)):
            vectors[i] = data.draw(numbers)
    try:
        WRITERS[format](path, keys, vectors)
    except vecstore.FormatError:
        return
    assert_gives_back(path, format, keys, vectors)


@formats
def test_an_interrupted_writer_leaves_what_was_there(path, format, monkeypatch):
    path.write_bytes(b"old")
    keys, vectors = numbered(50_000, 3)

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WRITERS[format](path, keys, vectors, progress=stop)
    assert path.read_bytes() == b"old"
    assert left_in(path.parent) == {"vectors"}


def gensim_reads(path: Path, format: str) -> KeyedVectors:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # without a header it opens the file twice, and closes it once
        return KeyedVectors.load_word2vec_format(str(path), binary=format == "word2vec", no_header=format == "glove")


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text", "glove"])
def test_gensim_reads_what_is_written(path, format, glove_keys, glove_vectors):
    keys = [*KEYS, *glove_keys[:3000]]
    vectors = np.concatenate([numbered(len(KEYS), 50)[1], glove_vectors[:3000]])
    WRITERS[format](path, keys, vectors)
    found = gensim_reads(path, format)
    assert found.index_to_key == keys
    assert_same_bits(found.vectors, vectors)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text", "glove"])
def test_files_are_what_gensim_writes(path, format, glove_keys, glove_vectors):
    keys = [*KEYS, *glove_keys[:3000]]
    vectors = np.concatenate([numbered(len(KEYS), 50)[1], glove_vectors[:3000]])
    written = KeyedVectors(50)
    written.add_vectors(keys, vectors)
    theirs = path.with_suffix(".gensim")
    written.save_word2vec_format(str(theirs), binary=format == "word2vec", write_header=format != "glove")
    WRITERS[format](path, keys, vectors)
    assert path.read_bytes() == theirs.read_bytes()


FLAT = """
import resource, sys
from pathlib import Path
import numpy as np
from vecstore.formats.writers import write_npy, write_text, write_word2vec
from vecstore.keys import KeyBatch
v, path = int(sys.argv[1]), Path(sys.argv[2])
vectors = np.lib.format.open_memmap(sys.argv[3], "r")[:v]
keys = KeyBatch.from_offsets(np.full(4 * v, 97, np.uint8), np.arange(0, 4 * v + 1, 4))
write_word2vec(path, keys, vectors)
write_text(path, keys, vectors, header=True)
write_npy(path, keys, vectors)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_vectors(tmp_path, run_python):
    shape = (100_000, 300)
    np.lib.format.open_memmap(tmp_path / "in.npy", "w+", np.float32, shape)[::7] = 0.123456
    peaks = []
    for v in 20_000, 100_000:
        peak = int(run_python(FLAT, v, tmp_path / "out.npy", tmp_path / "in.npy"))
        peaks.append(peak - v * 1200 // 1024)  # less the pages of the mapped file
    assert peaks[1] - peaks[0] < 20_000, peaks
