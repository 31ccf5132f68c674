import contextlib
import gzip
import re
import threading
import warnings
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from files import GZIP, numbered, word2vec_bytes
from files import read_records as read_any

import vecstore
from vecstore.formats import detect
from vecstore.formats.word2vec import DIM_LIMIT
from vecstore.formats.writers import write_word2vec
from vecstore.kernels.records import KEY_LIMIT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import gensim.test.test_data
    from gensim.models import KeyedVectors

GENSIM_FILES = ("euclidean_vectors.bin", "high_precision.kv.bin", "poincare_vectors.bin")
GENSIM_TEXT = ("high_precision.kv.txt", "lee_fasttext.vec", "word2vec_pre_kv_c", "test_glove.txt")

# Where a file was cut: before its header's end, in its header's promise, or in a record.
CUT = (
    r"vectors\.bin: (expected a file of word vectors, found an empty file"
    r"|byte 0: expected a word2vec header 'count dim', found b'.*'"
    r"|byte 0: the header .* announces .*, at least [\d,]+ bytes: found [\d,]+ at most; the file is cut short"
    r"|record \d+, byte [\d,]+: expected .*, found .*)"
)

newline_habits = pytest.mark.parametrize("newlines", [False, True], ids=["bare", "newlines"])
compressions = pytest.mark.parametrize("packed", GZIP.values(), ids=GZIP)


open_source = partial(detect.open_source, format="word2vec")  # what content would be taken for is another test's
read_records = partial(read_any, format="word2vec")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.bin"


def gensim_file(name: str) -> Path:
    return Path(next(iter(gensim.test.test_data.__path__))) / name


def floats_of(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4")


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(np.asarray(found).view(np.uint32), np.asarray(expected, np.float32).view(np.uint32))


def assert_reads(path: Path, keys, vectors, **options):
    found_keys, found_vectors = read_records(path, **options)
    assert found_keys == keys
    assert_same_bits(found_vectors, vectors)


@compressions
@newline_habits
@pytest.mark.parametrize(
    "keys",
    [
        [b"one"],
        [b"</s>", b"in", b"of"],
        [b"", b"a", b"b"],
        ["größe".encode(), "日本語".encode(), "a\u00a0b\u3000c".encode(), "🙂".encode()],
        [b"a\0b", b"\t", b"\r", b"\xff\xfe"],
        [b"x" * KEY_LIMIT, b"y"],
    ],
    ids=["one", "</s>", "empty", "unicode", "control", "long"],
)
def test_reader_gives_keys_and_vectors_in_order(path, keys, newlines, packed):
    vectors = numbered(len(keys), 3)[1]
    path.write_bytes(packed(word2vec_bytes(keys, vectors, newlines=newlines)))
    assert_reads(path, keys, vectors)


@newline_habits
@pytest.mark.parametrize("dim", [1, 2, 3, 16])
@pytest.mark.parametrize("fill", [b"\n", b" ", b" \n", b"\n \n\n", b"a \n\n"])
def test_reader_takes_newlines_and_spaces_within_vectors(path, fill, dim, newlines):
    rows = [floats_of((fill * 4 * dim)[shift:][: 4 * dim]) for shift in range(len(fill))]
    keys, vectors = [b"k%d" % i for i in range(len(rows) + 1)], np.stack([np.ones(dim, np.float32), *rows])
    path.write_bytes(word2vec_bytes(keys, vectors, newlines=newlines))
    assert_reads(path, keys, vectors)


def test_reader_takes_a_first_vector_of_spaces(path):
    keys, vectors = [b"a", b"b"], np.stack([floats_of(b" " * 16)] * 2)
    path.write_bytes(word2vec_bytes(keys, vectors))
    assert_reads(path, keys, vectors)


@newline_habits
@pytest.mark.parametrize(("count", "dim"), [(5_000, 300), (250_000, 3), (9, 300_000)])
def test_reader_joins_records_that_straddle_blocks(path, count, dim, newlines):
    keys, vectors = numbered(count, dim)
    path.write_bytes(word2vec_bytes(keys, vectors, newlines=newlines))
    assert path.stat().st_size > 4 << 20
    assert_reads(path, keys, vectors)


def test_reader_gives_the_place_of_each_record(path):
    keys, vectors = numbered(5_000, 300)
    data = word2vec_bytes(keys, vectors, newlines=True)
    path.write_bytes(data)
    source = open_source(path)
    seen = 0
    for block in source.blocks():
        assert block.first == seen
        for position, (low, high) in zip(block.positions, pairwise(block.offsets), strict=True):
            key = block.data[low:high].tobytes()
            assert data[position : position + len(key)] == key
        seen += len(block)
    source.close()
    assert seen == len(keys)


@pytest.mark.parametrize("header", [b"2 3\r\n", b"2  3 \n", b"002 03\n"])
def test_reader_takes_headers_as_gensim_does(path, header):
    keys, vectors = numbered(2, 3)
    path.write_bytes(word2vec_bytes(keys, vectors, header=header))
    assert_reads(path, keys, vectors)


@newline_habits
@compressions
def test_reader_refuses_a_file_cut_at_any_byte(path, newlines, packed):
    keys, vectors = [b"one", b"", "größe".encode()], numbered(3, 2)[1]
    data = word2vec_bytes(keys, vectors, newlines=newlines)
    whole = len(data) - newlines
    for size in range(len(data)):
        path.write_bytes(packed(data[:size]))
        if size == whole:
            assert_reads(path, keys, vectors)
        else:
            with pytest.raises(vecstore.FormatError, match=CUT):
                read_records(path)


@newline_habits
@compressions
def test_reader_names_the_record_that_was_cut(path, newlines, packed):
    keys, vectors = numbered(9, 100)
    data = word2vec_bytes(keys, vectors, newlines=newlines)
    start = data.index(b"k7 ")
    for size, expected in {
        start: f"record 8, byte {start - newlines:,}: expected 9 records, found the end after 7",
        start + 1: f"record 8, byte {start - newlines:,}: expected a key and a space, found b'k'",
        start + 3: f"record 8, byte {start - newlines:,}: expected 400 bytes of vector after key b'k7', found 0",
        start + 402: f"record 8, byte {start - newlines:,}: expected 400 bytes of vector after key b'k7', found 399",
    }.items():
        # What follows the cut in a compressed file is unknown, so only there does the reader get past the header.
        path.write_bytes(gzip.compress(data[:size]) if packed is GZIP["gzip"] else data[:size])
        message = re.escape(expected) if packed is GZIP["gzip"] else "announces 9 records of 100 numbers, at least"
        with pytest.raises(vecstore.FormatError, match=message):
            read_records(path)


@newline_habits
@compressions
@pytest.mark.parametrize(("announced", "kept"), [(2, 2), (4, 3), (10**18, 3)])
def test_reader_keeps_what_the_header_promises_if_told(path, announced, kept, newlines, packed):
    keys, vectors = numbered(3, 5)
    path.write_bytes(packed(word2vec_bytes(keys, vectors, newlines=newlines, header=b"%d 5\n" % announced)))
    with pytest.raises(vecstore.FormatError, match=r"vectors\.bin: .*expected|announces"):
        read_records(path)
    assert_reads(path, keys[:kept], vectors[:kept], count_mismatch="warn")


@pytest.mark.parametrize(
    ("announced", "departure"),
    [
        (2, r"byte \d+: expected the end after 2 records, found b[\"']k2 .*"),
        (3, None),
        (4, r"record 4, byte \d+: expected 4 records, found the end after 3"),
    ],
)
def test_reader_tells_what_it_accepted(path, announced, departure):
    path.write_bytes(word2vec_bytes(*numbered(3, 5), header=b"%d 5\n" % announced))
    with contextlib.closing(open_source(path, count_mismatch="warn")) as source:
        assert sum(map(len, source.blocks())) == min(3, announced)
        if departure is None:
            assert source.departures == []
        else:
            assert re.fullmatch(rf".*vectors\.bin: {departure}", *source.departures)


def test_reader_names_the_remedy_for_a_wrong_count(path):
    path.write_bytes(word2vec_bytes(*numbered(3, 5), header=b"2 5\n"))
    with pytest.raises(vecstore.FormatError, match=r"expected the end after 2 records.*count_mismatch='warn'"):
        read_records(path)


@pytest.mark.parametrize("count_mismatch", ["error", "warn"])
@pytest.mark.parametrize("cut", [1, 4, 20])
def test_reader_never_keeps_half_a_record(path, cut, count_mismatch):
    path.write_bytes(word2vec_bytes(*numbered(3, 5))[:-cut])
    with pytest.raises(vecstore.FormatError, match=CUT):
        read_records(path, count_mismatch=count_mismatch)


@compressions
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"0 5\n", "announces nothing"),
        (b"5 0\n", "announces nothing"),
        (b"-1 5\n", "expected a word2vec header 'count dim', found b'-1 5'"),
        (b"1 -5\n", "expected a word2vec header"),
        (b"1000000000000000000 5\n", r"announces 1,000,000,000,000,000,000 records of 5 numbers, at least"),
        (b"9" * 30 + b" 5\n", "expected a word2vec header"),
        (b"1 1000000000000000000\n", "vectors of 1,000,000,000,000,000,000 numbers: expected at most 1,048,576"),
        (b"1 %d\n" % (DIM_LIMIT + 1), "expected at most 1,048,576"),
        (b"1 %d\n" % DIM_LIMIT, "announces 1 records of 1,048,576 numbers, at least 4,194,"),
        (b"one 5\n", "expected a word2vec header"),
        (b"1.0 5\n", "expected a word2vec header"),
        (b"5\n", "expected a word2vec header"),
        (b"1 5 5\n", "expected a word2vec header"),
        (b"\n", "expected a word2vec header"),
        (b"1" * 5000, "expected a word2vec header"),
        ("\uff11 \uff15\n".encode(), "expected a word2vec header"),
    ],
)
def test_reader_refuses_absurd_headers(path, header, message, packed):
    path.write_bytes(packed(word2vec_bytes(*numbered(1, 5), header=header)))
    with pytest.raises(vecstore.FormatError, match=rf"vectors\.bin: byte 0: .*{message}"):
        open_source(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a file of word vectors, found an empty file"),
        (b"\x1f", "expected a word2vec header"),
        (b"the 0.418 0.24968 -0.41242\nof 0.70853 0.57088 -0.4716\n", "found b'the 0.418 0.24968"),
        (b"2 3\nthe 0.418 0.24968 -0.41242\nof 0.70853 0.57088 -0.4716\n", "word2vec text, not binary"),
        (b"2 3\nthe 1e-05 nan -inf\nof 0.70853 0.57088 -0.4716\n", "word2vec text, not binary"),
        (b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'", "expected a word2vec header"),
        (b"PK\x03\x04" + bytes(100), "the zip archive is damaged"),
    ],
    ids=["empty", "magic", "glove", "text", "exponents", "npy", "zip"],
)
def test_reader_refuses_other_files(path, content, message):
    path.write_bytes(content)
    with pytest.raises(vecstore.FormatError, match=rf"vectors\.bin: .*{message}"):
        read_records(path)


@pytest.mark.parametrize("name", GENSIM_TEXT)
def test_reader_refuses_published_text(name):
    with pytest.raises(vecstore.FormatError, match=f"{name}: byte .*expected .*found "):
        read_records(gensim_file(name))


@pytest.mark.parametrize(("store", "found"), [(False, "a folder"), (True, "a store already")])
def test_reader_refuses_a_folder(path, store, found):
    path.mkdir()
    if store:
        (path / "metadata.json").touch()
    with pytest.raises(vecstore.FormatError, match=rf"vectors\.bin: expected a file of word vectors, found {found}"):
        open_source(path)


@newline_habits
@compressions
@pytest.mark.parametrize("length", [KEY_LIMIT + 1, 5 << 20])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_reader_refuses_a_runaway_key(path, place, length, newlines, packed):
    keys, vectors = numbered(3, 5)
    keys[place] = b"x" * length
    path.write_bytes(packed(word2vec_bytes(keys, vectors, newlines=newlines)))
    message = rf"record {place + 1}, byte [\d,]+: expected a key of at most 4,096 bytes and a space, found b'\\?n?x+"
    with pytest.raises(vecstore.FormatError, match=message):
        read_records(path)


@compressions
def test_reader_refuses_endless_newlines(path, packed):
    path.write_bytes(packed(b"1 1\n" + b"\n" * (5 << 20) + b"a \0\0\0\0"))
    with pytest.raises(vecstore.FormatError, match=r"record 1, byte 4: expected "):
        read_records(path)


@pytest.mark.parametrize("place", [0, 1, 50, 98, 99])
@pytest.mark.parametrize("dim", [1, 5, 300])
def test_reader_refuses_a_key_with_a_space_if_newlines_show_it(path, dim, place):
    keys, vectors = numbered(100, dim)
    keys[place] = b"New York"
    path.write_bytes(word2vec_bytes(keys, vectors, newlines=True))
    message = r"record \d+, byte [\d,]+: expected a|byte [\d,]+: expected the end after 100 records"
    with pytest.raises(vecstore.FormatError, match=message):
        read_records(path)


@pytest.mark.parametrize("dim", [1, 5, 300])
def test_reader_refuses_a_last_key_with_a_space(path, dim):
    keys, vectors = numbered(100, dim)
    keys[-1] = b"New York"
    path.write_bytes(word2vec_bytes(keys, vectors))
    with pytest.raises(vecstore.FormatError, match=r"byte [\d,]+: expected the end after 100 records, found"):
        read_records(path)


def test_reader_refuses_a_newline_within_a_key(path):
    path.write_bytes(word2vec_bytes([b"a", b"b\nc", b"d"], numbered(3, 2)[1]))
    with pytest.raises(vecstore.FormatError, match=r"record 2, byte 14: expected a key, found b'b\\nc"):
        read_records(path)


@pytest.mark.parametrize("rest", [b"\0", b"junk", b"\n\njunk", b" "])
@newline_habits
def test_reader_refuses_what_follows_the_records(path, rest, newlines):
    path.write_bytes(word2vec_bytes(*numbered(3, 2), newlines=newlines) + rest)
    with pytest.raises(vecstore.FormatError, match=r"byte \d+: expected the end after 3 records, found b'"):
        read_records(path)


@compressions
def test_reader_looks_past_megabytes_of_newlines_at_the_end(path, packed):
    data = word2vec_bytes(*numbered(3, 2)) + b"\n" * (9 << 20)
    path.write_bytes(packed(data + b"junk"))
    with pytest.raises(vecstore.FormatError, match=r"byte [\d,]+: expected the end after 3 records, found b'"):
        read_records(path)
    path.write_bytes(packed(data))
    assert_reads(path, *numbered(3, 2))


def test_gzip_that_is_damaged_after_the_last_record_is_refused(path):
    damaged = bytearray(gzip.compress(word2vec_bytes(*numbered(3, 2)) + b"\n" * (9 << 20)))
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(vecstore.FormatError, match="the gzip data is damaged or cut short"):
        read_records(path)


def test_reader_takes_newlines_at_the_end(path):
    keys, vectors = numbered(3, 2)
    path.write_bytes(word2vec_bytes(keys, vectors) + b"\n\n")
    assert_reads(path, keys, vectors)


@pytest.mark.parametrize("sizes", [[10], [0, 10, 0], [3] * 40])
def test_gzip_may_have_several_members(path, sizes):
    keys, vectors = numbered(9, 4)
    data = word2vec_bytes(keys, vectors)
    bounds = [0, *np.cumsum(sizes).tolist(), len(data)]
    path.write_bytes(b"".join(gzip.compress(data[low:high]) for low, high in pairwise(bounds)))
    assert_reads(path, keys, vectors)


def test_gzip_is_recognised_by_content(path):
    keys, vectors = numbered(9, 4)
    path.with_suffix(".gz").write_bytes(word2vec_bytes(keys, vectors))
    assert_reads(path.with_suffix(".gz"), keys, vectors)


def test_gzip_may_be_padded_with_zeros(path):
    keys, vectors = numbered(9, 4)
    path.write_bytes(gzip.compress(word2vec_bytes(keys, vectors)) + bytes(512))
    assert_reads(path, keys, vectors)


@newline_habits
def test_gzip_cut_at_any_byte_is_refused(path, newlines):
    data = gzip.compress(word2vec_bytes(*numbered(4, 3), newlines=newlines))
    for size in range(2, len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(vecstore.FormatError, match=r"vectors\.bin: byte .* the gzip data is damaged or cut short"):
            read_records(path)


@pytest.mark.parametrize("place", [-1, -5], ids=["length", "crc"])
@pytest.mark.parametrize("count", [4, 100_000])
def test_gzip_with_a_wrong_checksum_is_refused(path, count, place):
    data = bytearray(gzip.compress(word2vec_bytes(*numbered(count, 30)), 1))
    data[place] ^= 0x01
    path.write_bytes(data)
    with pytest.raises(vecstore.FormatError, match="the gzip data is damaged or cut short"):
        read_records(path)


@pytest.mark.parametrize("junk", [b"j", b"\n", b"junk junk junk", b"\x1f\x8b", b"\x1f\x8bjunk junk junk"])
def test_gzip_followed_by_junk_is_refused(path, junk):
    path.write_bytes(gzip.compress(word2vec_bytes(*numbered(4, 3))) + junk)
    with pytest.raises(vecstore.FormatError, match="the gzip data is damaged or cut short"):
        read_records(path)


def test_gzip_flipped_anywhere_never_gives_other_vectors(path):
    keys, vectors = numbered(4, 3)
    data = gzip.compress(word2vec_bytes(keys, vectors), mtime=0)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert_reads(path, keys, vectors)
        except vecstore.FormatError as error:
            assert "vectors.bin: byte" in str(error)  # noqa: PT017
        else:
            assert 3 < place < 10  # the header's time, flags and system


@pytest.mark.parametrize("blocks", [0, 1, None])
def test_closing_ends_the_decompressing_thread(path, blocks):
    path.write_bytes(gzip.compress(word2vec_bytes(*numbered(10_000, 300)), 1))
    before = threading.enumerate()
    source = open_source(path)
    assert threading.enumerate() != before
    for i, _ in enumerate(source.blocks() if blocks != 0 else ()):
        if i == blocks:
            break
    source.close()
    assert threading.enumerate() == before


def test_failing_to_open_leaves_no_thread_and_no_open_file(path):
    path.write_bytes(gzip.compress(b"not a word2vec header" * 1000))
    before = threading.enumerate()
    with pytest.raises(vecstore.FormatError, match="expected a word2vec header"):
        open_source(path)
    assert threading.enumerate() == before


def assert_agrees_with_gensim(path: Path):
    expected = KeyedVectors.load_word2vec_format(str(path), binary=True)
    keys, vectors = read_records(path)
    assert [key.decode() for key in keys] == expected.index_to_key
    assert_same_bits(vectors, expected.vectors)


@pytest.mark.parametrize("name", GENSIM_FILES)
def test_reader_agrees_with_gensim_on_its_own_files(name):
    assert_agrees_with_gensim(gensim_file(name))


@newline_habits
def test_reader_agrees_with_gensim_on_our_files(path, newlines):
    keys = ["</s>", "größe", "日本語", "a\u00a0b", "x" * 400, *map(str, range(5000))]
    write_word2vec(path, keys, numbered(len(keys), 7)[1], newlines=newlines)
    assert_agrees_with_gensim(path)


def test_reader_agrees_with_gensim_on_files_that_gensim_wrote(path):
    written = KeyedVectors(7)
    written.add_vectors(["</s>", "größe", *map(str, range(5000))], numbered(5002, 7)[1])
    written.save_word2vec_format(str(path), binary=True)
    assert_agrees_with_gensim(path)
