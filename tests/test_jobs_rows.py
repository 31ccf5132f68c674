import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecstore.jobs.rows import ArrowRows, Csv, JsonLines, RecordRows, TextLines, good_tables

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
FORMATS = {
    "csv": Csv(",", ("id", "text"), pa.schema([("id", pa.string()), ("text", pa.string())])),
    "json": JsonLines(SCHEMA),
    "text": TextLines("text"),
}


def records(form, data):
    return RecordRows(form, data, form.ends(np.frombuffer(data, np.uint8), is_last=True))


def read(rows):
    """Return the good rows, and the numbers and reasons of the bad ones."""
    bad = {}
    tables = list(good_tables(rows, bad.__setitem__))
    return [row for table in tables for row in table.to_pylist()], bad


def line(name, i, good):
    if name == "csv":
        return b"%d,t%d\n" % (i, i) if good else b"%d,\xff\n" % i
    if name == "json":
        return b'{"id": %d, "text": "t%d"}\n' % (i, i) if good else b'{"id": %d, "text": "\xff"}\n' % i
    return b"t%d\n" % i if good else b"\xff\n"


@pytest.mark.parametrize("name", FORMATS)
@given(good=st.lists(st.booleans(), max_size=40))
def test_all_good_rows_are_read_and_each_bad_one_is_named(name, good):
    data = b"".join(line(name, i, is_good) for i, is_good in enumerate(good))
    found, bad = read(records(FORMATS[name], data))
    assert [row["text"] for row in found] == [f"t{i}" for i, is_good in enumerate(good) if is_good]
    assert sorted(bad) == [i for i, is_good in enumerate(good) if not is_good]


@pytest.mark.parametrize(
    ("name", "bad", "reason"),
    [
        ("csv", b"1\n", "Expected 2 columns, got 1"),
        ("csv", b"1,a,b\n", "Expected 2 columns, got 3"),
        ("csv", b"1,\xff\n", "invalid UTF8"),
        ("json", b'{"id": 1, "text": 5}\n', "changed from string to number"),
        ("json", b'{"id": 1.5, "text": "a"}\n', "1.5"),
        ("json", b'{"id": 1, "text": "a", "more": 1}\n', "unexpected field"),
        ("json", b'{"id": 1, "text": "a"} {"id": 2}\n', "expected one row, found 2"),
        ("json", b'{"id": 1, "text": \n', "Invalid value"),
        ("json", b"[1]\n", "expected an object, found b'[1]'"),
        ("json", b"5\n", "expected an object, found b'5'"),
        ("json", b"null\n", "expected an object, found b'null'"),
        ("json", b' null, "more": [1]}\n', "expected an object, found b'null, \"more\": [1]}'"),  # pyarrow crashes
        ("json", b'{"id": 1, "text": "\xff"}\n', "invalid utf8"),
        ("text", b"\xc3\n", "Invalid UTF8 sequence"),
    ],
)
def test_a_bad_row_is_told_with_its_reason(name, bad, reason):
    data = line(name, 0, True) + bad + line(name, 1, True)
    found, told = read(records(FORMATS[name], data))
    assert [row["text"] for row in found] == ["t0", "t1"]
    assert list(told) == [1]
    assert reason.lower() in told[1].lower()
    assert "row" not in told[1].lower().replace("expected one row", "")  # Arrow's own count is of no use


def test_lines_keep_everything_but_their_ends():
    data = b"a b\r\n\nc\r\r\n \n\rd\xc3\xa9\n\xe2\x80\xa8x"
    found, bad = read(records(TextLines("t"), data))
    assert [row["t"] for row in found] == ["a b", "", "c\r", " ", "\rdé", "\u2028x"]
    assert not bad


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]))))
def test_lines_are_those_of_any_text(texts):
    found, _ = read(records(TextLines("t"), "".join(f"{text}\n" for text in texts).encode()))
    assert [row["t"] for row in found] == texts


@pytest.mark.parametrize("name", FORMATS)
def test_no_bytes_are_no_rows(name):
    form = FORMATS[name]
    assert read(records(form, b"")) == ([], {})
    assert form.read(b"").schema == (form.schema if name != "text" else pa.schema([("text", pa.large_string())]))


def test_empty_lines_of_csv_and_json_are_no_rows():
    assert len(read(records(FORMATS["csv"], b"\n1,a\n\r\n\n2,b\n\n"))[0]) == 2
    assert len(read(records(FORMATS["json"], b'\n{"id": 1}\r\n\r\n\n{"id": 2}\n\n'))[0]) == 2
    found, bad = read(records(FORMATS["json"], b'{"id": 1}\n   \n{"id": 2}\n'))
    assert ([row["id"] for row in found], bad) == ([1, 2], {})  # blanks are no row either


def test_json_is_read_as_it_is_where_types_are_not_known_yet():
    rows = [{"text": "a", "more": [1, 2]}, {"text": None, "more": []}]
    found, bad = read(records(JsonLines(), "".join(json.dumps(row) + "\n" for row in rows).encode()))
    assert (found, bad) == (rows, {})


def test_absent_columns_of_csv_are_null():
    form = Csv(";", ("text", "other"), FORMATS["csv"].schema)
    assert read(records(form, b"a;b\n"))[0] == [{"id": None, "text": "a"}]


def test_text_of_csv_is_text_whatever_it_looks_like():
    texts = ["", "NA", "null", "1", "true", "2020-01-01"]
    found, _ = read(records(FORMATS["csv"], "".join(f'1,"{text}"\n' for text in texts).encode()))
    assert [row["text"] for row in found] == texts


def test_arrow_text_that_is_no_utf8_is_found():
    bad = pa.StringArray.from_buffers(3, pa.array([0, 1, 2, 3], pa.int32()).buffers()[1], pa.py_buffer(b"a\xffc"))
    rows = ArrowRows(pa.table({"id": [0, 1, 2], "text": bad}), "text")
    found, told = read(rows)
    assert found == [{"id": 0, "text": "a"}, {"id": 2, "text": "c"}]
    assert list(told) == [1]


def test_a_pickled_slice_takes_its_own_bytes_along():
    table = pa.table({"text": ["x" * 1000] * 1000})
    rows = ArrowRows(table.slice(500, 2), "text")
    kept = pickle.dumps(rows)
    assert len(kept) < 5000
    assert pickle.loads(kept).rows == table.slice(500, 2)


def test_an_open_quote_is_an_error_of_the_file():
    with pytest.raises(ValueError, match="a quote is not closed until the end"):
        records(FORMATS["csv"], b'1,"a\n2,b\n')
