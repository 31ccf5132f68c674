import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import reference
from files import GZIP, PACKED, read_records
from hypothesis import example, given, settings
from hypothesis import strategies as st

import vecstore
from vecstore.formats.text import TextSource
from vecstore.kernels.records import KEY_LIMIT

packings = pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.txt"


def assert_reads(path, data, keys, vectors, **options):
    path.write_bytes(data)
    found_keys, found = read_records(path, **options)
    assert found_keys == keys
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(vectors, np.float32).view(np.uint32))


def assert_refuses(path, data, message, **options):
    path.write_bytes(data)
    with pytest.raises(vecstore.FormatError, match=message):
        read_records(path, **options)


@pytest.mark.parametrize("header", [b"", b"3 2\n", b"\t3\t2 \r\n"], ids=["glove", "header", "odd header"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
@pytest.mark.parametrize("separator", [b" ", b"\t", b"  ", b" \t "])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n", b" \t\r\n"])
@pytest.mark.parametrize("tail", [None, b"", b"\n", b" \n\r\n\n"], ids=["unended", "", "empty line", "blank lines"])
def test_reader_takes_every_layout(path, header, bom, separator, end, tail):
    lines = [separator.join([key, b"1.5", b"-2e-3"]) for key in (b"one", b"two", "größe".encode())]
    data = bom + header + end.join(lines) + (b"" if tail is None else end + tail)
    assert_reads(path, data, [b"one", b"two", "größe".encode()], [[1.5, -2e-3]] * 3)


@pytest.mark.parametrize(
    "key",
    [
        b". . .",
        b"at name@domain.com",
        b"New York",
        b"tab\tinside",
        b" leading",
        b"",
        b"world war 2",
        b"1 2 3",
        "a\u00a0b\u3000c\u0085d\u2028e".encode(),
        "\u00a0".encode(),
        b"nul\0inside",
        b"1e5",
        b"-",
        b"x" * KEY_LIMIT,
        b"a\rb",
        "日本語 と".encode(),
    ],
)
@pytest.mark.parametrize("header", [True, False])
def test_keys_may_hold_all_but_newlines(path, key, header):
    rows = [(b"first", b"1 2 3 4 5 6"), (key, b"1 -2 3e0 .4 5. +6"), (b"last", b"0 0 0 0 0 0")]
    data = (b"3 6\n" if header else b"") + b"".join(key + b" " + numbers + b"\n" for key, numbers in rows)
    assert_reads(path, data, [b"first", key, b"last"], [[1, 2, 3, 4, 5, 6], [1, -2, 3, 0.4, 5, 6], [0] * 6])


def test_first_key_with_spaces_does_not_mislead(path):
    data = b"a 1 2 3\n" + b"b 1 2\n" * 3
    assert_reads(path, data, [b"a 1", b"b", b"b", b"b"], [[2, 3]] + [[1, 2]] * 3)


@pytest.mark.parametrize(
    ("data", "keys", "vectors"),
    [
        (b"5 1\na 2\nb 3\nc 4\nd 5\ne 6\n", [b"a", b"b", b"c", b"d", b"e"], [[2], [3], [4], [5], [6]]),
        (b"5 7\n6 8\n", [b"5", b"6"], [[7], [8]]),
        (b"5 7\n", None, "announces 5 records of 7 numbers"),
        (b"5 1\n6 8000000\n", None, "expected 5 records, found the end after 1"),
        (b"2 2\n6 8\n", [b"2", b"6"], [[2], [8]]),
        (b"1 2\n6 8 9\n", [b"6"], [[8, 9]]),
    ],
)
def test_two_integers_are_a_header_unless_the_second_line_is_of_two(path, data, keys, vectors):
    if keys is None:
        assert_refuses(path, data, vectors)
    else:
        assert_reads(path, data, keys, vectors)


def test_format_says_whether_there_is_a_header(path):
    assert_reads(path, b"5 7\n6 8\n", [b"5", b"6"], [[7], [8]], format="glove")
    assert_reads(path, b"2 1\n6 8\n7 9\n", [b"2", b"6", b"7"], [[1], [8], [9]], format="glove")
    assert_refuses(path, b"1 3\n6 8888\n", "expected 3 numbers after key b'6', found 1", format="word2vec-text")
    assert_refuses(
        path, b"a 7\nb 8\n", r"line 1, byte 0: expected a header 'count dim', .*--format glove", format="word2vec-text"
    )


NUMBERS = [
    "0", "-0", "+0.0", "1e-05", "1E5", "1e+10", ".5", "5.", "-.5e1", "nan", "NaN", "-nan", "inf", "-Inf", "infinity",
    "1e39", "-1e39", "1e400", "1e-400", "3.4028235e38", "3.4028236e38", "1.1754944e-38", "1.4e-45", "7e-46", "1e-46",
    "16777217", "16777219", "0.1", "0.30000001192092896", "123456789012345678901234567890", "0." + "0" * 60 + "1",
    "1.00000005960464477539062", "1.000000059604644775390625", "1.00000005960464477539063", "9" * 400,
    "0.000000000000000000000000000000000000011754943508222875", "1e-80", "1e-81", "12345678e-8", "00000000000000001",
    "1234567812345678", "12345678123456781234567812345678", "1e00000000000000005", "1e-00000000000000005",
    "4.1800001263618469e-01", "1.234567890123456789e-01", "2.2250738585072014e-308", "9007199254740993", "8" * 19,
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS)
def test_number_is_what_numpy_makes_of_it(path, number):
    with np.errstate(over="ignore"):
        expected = np.float32(float(number))
    assert_reads(path, b"a 1 %b\n" % number.encode(), [b"a"], [[1, expected]], format="glove")


@st.composite
def decimals(draw):
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return repr(draw(st.floats(width=32)))
    if kind == 1:
        return repr(draw(st.floats()))
    if kind == 2:
        style = f".{draw(st.integers(0, 25))}{draw(st.sampled_from('efg'))}"
        return format(draw(st.floats(width=32, allow_nan=False, allow_infinity=False)), style)
    if kind == 3:  # exactly between two float32, and a hair beside it
        low = draw(st.integers(0, 0x7F7FFFFE))
        one, other = (Decimal(float(np.uint32(bits).view(np.float32))) for bits in (low, low + 1))
        middle = (one + other) / 2
        return format(middle, "f") + draw(st.sampled_from(["", "0", "1", "000000001"]))
    sign = draw(st.sampled_from(["", "-", "+"]))
    whole = draw(st.text("0123456789", min_size=1, max_size=30))
    fraction = draw(st.one_of(st.just(""), st.text("0123456789", max_size=30).map(lambda digits: "." + digits)))
    exponent = draw(st.one_of(st.just(""), st.integers(-90, 70).map(lambda value: f"e{value}")))
    return sign + whole + fraction + exponent


@settings(max_examples=500)
@given(st.lists(decimals(), min_size=1, max_size=20))
def test_numbers_are_what_numpy_makes_of_them(tmp_path_factory, numbers):
    with np.errstate(over="ignore"):
        expected = np.array([np.float32(number) for number in numbers])
    path = tmp_path_factory.mktemp("numbers") / "vectors.txt"
    assert_reads(path, b"key " + " ".join(numbers).encode(), [b"key"], [expected], format="glove")


@settings(max_examples=300)
@given(
    keys=st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])), min_size=1, max_size=8),
    dim=st.integers(1, 12),
    header=st.booleans(),
    separator=st.sampled_from([" ", "\t", "  "]),
    data=st.data(),
)
def test_reader_agrees_with_its_twin(tmp_path_factory, keys, dim, header, separator, data):
    lines = [separator.join([key, *(data.draw(decimals()) for _ in range(dim))]) for key in keys]
    text = (f"{len(keys)} {dim}\n" if header else "") + "\n".join(lines) + "\n"
    path = tmp_path_factory.mktemp("twin") / "vectors.txt"
    path.write_bytes(text.encode())
    expected = reference.parse_text(text.encode(), dim=dim, header=header)
    try:
        found_keys, found = read_records(path, format="word2vec-text" if header else "glove")
    except vecstore.FormatError:
        assert expected is None or not header  # without a header the width is a guess
        return
    if found.shape[1] == dim:
        assert expected is not None
        assert found_keys == [key for key, _ in expected]
        vectors = np.stack([vector for _, vector in expected])
        np.testing.assert_array_equal(found.view(np.uint32), vectors.view(np.uint32))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"b 4 5", "expected 3 numbers after key b'b', found 2 fields; the line is cut short"),
        (b"b", "expected 3 numbers after key b'b', found 0 fields"),
        (b"b 4 5 x", "expected 3 numbers after key b'b', found b'x' among them"),
        (b"b 4 5 6_0", "found b'6_0' among them"),
        (b"b 4 5 0x6", "found b'0x6' among them"),
        (b"b 4 5 1e", "found b'1e' among them"),
        (b"b 4 5 1.2.3", "found b'1.2.3' among them"),
        (b"b 4 5 --6", "found b'--6' among them"),
        (b"b 4 5 .", r"found b'\.' among them"),
        (b"b 4 5 6,0", "found b'6,0' among them"),
        (b"b 4 5\xc2\xa06", "found 2 fields"),
        (b"b 4 5 6\x00", r"found b'6\\x00' among them"),
        (b"", "expected a key and 3 numbers, found an empty line"),
        (b" \t\r", "expected a key and 3 numbers, found an empty line"),
        (b"b 1 2 3c 1 2 3 4 5 6 7", "expected a key and 3 numbers, found 9 numbers; a newline is missing"),
        (b"x" * (KEY_LIMIT + 1) + b" 1 2 3", "expected a key of at most 4,096 bytes, found 4,097"),
    ],
)
@pytest.mark.parametrize("header", [False, True], ids=["glove", "header"])
def test_bad_line_is_named(path, line, message, header):
    lines = [b"a 1 2 3", line, *[b"c 7 8 9"] * 4]
    data = (b"6 3\n" if header else b"") + b"\n".join(lines) + b"\n"
    place = "line 3, byte 12" if header else "line 2, byte 8"
    assert_refuses(path, data, rf"vectors\.txt: {place}: .*{message}")


def test_place_of_an_error_is_right_far_into_the_file(path):
    lines = [b"key%d 0.25 -1.5 3e-2" % i for i in range(400_000)]
    lines[345_678] = b"key 0.25 -1.5"
    place = sum(map(len, lines[:345_678])) + 345_678
    message = rf"line 345,679, byte {place:,}: expected 3 numbers after key b'key', found 2"
    assert_refuses(path, b"\n".join(lines), message)


@packings
@pytest.mark.parametrize(("count", "dim"), [(200_000, 3), (3_000, 300), (3, 300_000)])
def test_reader_joins_lines_that_straddle_blocks(path, packed, count, dim):
    vectors = np.random.default_rng(0).integers(-999, 999, (count, dim)).astype(np.float32) / 8
    keys = [b"k %d" % i if i % 1000 == 7 else b"k%d" % i for i in range(count)]
    texts = (" ".join(map(str, row)).encode() for row in vectors.tolist())
    data = b"\n".join(key + b" " + text for key, text in zip(keys, texts, strict=True))
    assert len(data) > 3 << 20
    assert_reads(path, packed(data), keys, vectors)


@pytest.mark.parametrize("packed", GZIP.values(), ids=GZIP)
def test_reader_refuses_a_line_without_end(path, packed):
    assert_refuses(
        path, packed(b"a 1 2\n" + b"1 " * (20 << 20)), "line 2, byte 6: expected a line of at most 4,194,304 bytes"
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"0 5", "line 1, byte 0: the header b'0 5' announces nothing"),
        (b"5 0", "announces nothing"),
        (b"1 1048577", "announces vectors of more than 1,048,576 numbers"),
        (b"1000000000000000000 2", "announces 1,000,000,000,000,000,000 records of 2 numbers, at least"),
        (b"1 300", "announces 1 records of 300 numbers, at least 600 bytes: found 12 at most"),
        (b"9" * 30 + b" 2", "expected a header 'count dim'"),
        (b"2 2 2", "expected a header 'count dim'"),
        (b"-2 2", "expected a header 'count dim'"),
    ],
)
def test_reader_refuses_absurd_headers(path, header, message):
    assert_refuses(path, header + b"\na 1 2\n", message, format="word2vec-text")


@pytest.mark.parametrize("announced", [1, 2, 4, 5])
def test_wrong_count_is_an_error_unless_accepted(path, announced):
    data = b"%d 2\na 1 2\nb 3 4\nc 5 6\n" % announced
    found = "the end after 3" if announced > 3 else re.escape(repr(b"abc"[announced : announced + 1])[:-1])
    assert_refuses(path, data, rf"expected .*{announced} records, found {found}.*count_mismatch='warn'")
    assert_reads(
        path, data, [b"a", b"b", b"c"][:announced], [[1, 2], [3, 4], [5, 6]][:announced], count_mismatch="warn"
    )


def test_fasttext_that_lies_is_read_when_accepted(path, tmp_path):
    path.write_bytes(b"1000000 2\n" + b"".join(b"k%d 1 2\n" % i for i in range(999_999)))
    with pytest.raises(vecstore.FormatError, match="expected 1,000,000 records, found the end after 999,999"):
        vecstore.convert(path, tmp_path / "store")
    with pytest.warns(vecstore.FormatWarning, match="found the end after 999,999"):
        assert vecstore.convert(path, tmp_path / "store", count_mismatch="warn").rows == 999_999


@pytest.mark.parametrize("header", [b"", b"4 3\n"], ids=["glove", "header"])
def test_file_cut_anywhere_is_an_error_or_ends_between_numbers(path, header):
    """Text has no mark where a number ends: without a header, a cut within the last one cannot be seen."""
    data = header + b"one 1.25 2 3\ntwo 4 5 6\n. . . 7 8 9\nfour 10 11 12\n"
    for cut in range(1, len(data)):
        path.write_bytes(data[:cut])
        try:
            keys, _ = read_records(path, format="word2vec-text" if header else "glove")
        except vecstore.FormatError:
            continue
        if header:
            assert keys == [b"one", b"two", b". . .", b"four"]
            assert data[cut - 2 :].startswith((b" 12", b"12", b"2\n"))
        else:
            assert keys == [b"one", b"two", b". . .", b"four"][: len(keys)]


def test_store_of_a_text_equals_the_store_of_a_binary(glove, tmp_path):
    path = tmp_path / "glove.txt"
    keys, vectors = glove.keys[:20_000], glove.vectors[:20_000]
    with path.open("w", encoding="utf-8") as file:
        for key, row in zip(keys, vectors.tolist(), strict=True):
            file.write(f"{key} {' '.join(f'{number:.6g}' for number in row)}\n")
    report = vecstore.convert(path, tmp_path / "store")
    assert report.source.format == "glove"
    store = vecstore.open(tmp_path / "store")
    assert list(store.keys) == keys
    np.testing.assert_array_equal(store.vectors, vectors)


def test_reader_needs_no_more_memory_for_a_larger_file(tmp_path, run_python):
    """Anonymous memory of a conversion: 100 MB of text against 10 MB."""
    script = """
import pathlib, sys, vecstore
vecstore.convert(sys.argv[1], sys.argv[2])
print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))
"""
    line = " ".join(["0.12345"] * 100)
    peaks = []
    for size in (13_000, 130_000):
        path = tmp_path / f"{size}.txt"
        with path.open("w") as file:
            file.writelines(f"k{i} {line}\n" for i in range(size))
        run_python(script, path, tmp_path / f"warm{size}")
        peaks.append(int(run_python(script, path, tmp_path / f"{size}.vecstore")))
    assert peaks[1] < peaks[0] + 60_000, peaks  # the mapped store itself counts, 52 MB of it


@example(b"a 1\n")
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "vectors.txt"
    path.write_bytes(data or b"\n")
    for format in ("glove", "word2vec-text", "auto"):
        try:
            keys, vectors = read_records(path, format=format)
        except vecstore.FormatError:
            continue
        assert len(keys) == len(vectors)


def test_source_says_what_it_is(path):
    assert TextSource.__doc__
    path.write_bytes(b"2 1\na 1\nb 2\n")
    report = vecstore.convert(path, path.with_suffix(".vecstore"))
    assert (report.source.name, report.source.size, report.source.format) == ("vectors.txt", 12, "word2vec-text")
