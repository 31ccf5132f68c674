import csv
import io

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.kernels.csv import find_records
from vecstore.keys import frozen

pieces = st.lists(st.sampled_from(['"', '""', ",", "\n", "\r", "\r\n", "a", "é", " "]), max_size=30).map("".join)


def find(data, delimiter=",", is_last=True):
    ends = np.full(len(data) + 1, -7, np.int64)
    found = int(find_records(frozen(np.frombuffer(data, np.uint8)), ord(delimiter), int(is_last), ends))
    return None if found < 0 else ends[:found].tolist()


@given(pieces, st.booleans(), st.sampled_from(",;\t"))
def test_records_end_where_the_reference_says(text, is_last, delimiter):
    data = text.replace(",", delimiter).encode()
    assert find(data, delimiter, is_last) == reference.csv_record_ends(data, delimiter, is_last)


@given(st.lists(st.lists(st.text(st.sampled_from('a,"\n\r é')), min_size=2, max_size=3), max_size=5))
def test_what_python_writes_has_as_many_records_as_rows(rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    data = file.getvalue().encode()
    ends = find(data)
    assert len(ends) == len(rows)
    starts = [0, *ends]
    assert [
        next(csv.reader(io.StringIO(data[start:end].decode(), newline="")))
        for start, end in zip(starts, ends, strict=False)
    ] == rows


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (b"a\nb", [2, 3]),
        (b'a,"b\nc"\nd\n', [8, 10]),
        (b'a,b"c\nd"e\n', [6, 10]),  # a quote within a field that has none at its start is a character
        (b'"a""b\n"\n', [8]),
        (b'"a"b\nc\n', [5, 7]),
        (b'"a\nb', None),
        (b"a\rb\r\nc\n", [2, 5, 7]),
    ],
)
def test_a_quote_opens_a_field_only_at_its_start(data, ends):
    assert find(data) == ends


def test_what_follows_the_last_newline_waits_for_more():
    assert find(b"a\nb", is_last=False) == [2]
    assert find(b"a\r", is_last=False) == []  # a newline may follow
    assert find(b'a\n"b\n', is_last=False) == [2]
