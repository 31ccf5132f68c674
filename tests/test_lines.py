import re

import numpy as np
import pytest

from vecstore.formats.lines import NUMBER, count_last_numbers, has_no_keys, looks_like_text, with_commas


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"the 0.418 0.24968 -0.41242\nof 0.7", "glove"),
        (b"\xef\xbb\xbfthe 0.418 0.24968\n", "glove"),
        (b"the\t0.418\t0.24968\r\n", "glove"),
        (b". . . 0.418 0.24968\n", "glove"),
        (b"the " + b"0.125 " * 700, "glove"),
        (b"2 3\nthe 1 2 3\n", "word2vec-text"),
        (b"2 3\r\nthe 1e-05 nan -inf\r\n", "word2vec-text"),
        (b"2 300\nNew York " + b"0.125 " * 200, "word2vec-text"),
        (b"2 3\nthe " + bytes(range(12)), None),
        (b"2 3\n", None),
        (b"hello world\n", None),
        (b"", None),
        (b"\n\n", None),
        (b"a\n", None),
        (b"2 2\nk " + np.array([1.5, 0.25], np.float32).tobytes() + b"\nk 2", None),
        (b"2 2\na\x00 1.0 2.0\n", "word2vec-text"),
        (b"2 3\na 0,1 0,2 0,3\n", "word2vec-text"),
        (b"2 3\n\xff 1 2 3\n", "word2vec-text"),
        ("2 3\n\u00e4".encode()[:-1], "word2vec-text"),
    ],
)
def test_text_is_known_by_its_first_lines(head, kind):
    assert looks_like_text(head) == kind


@pytest.mark.parametrize(
    ("line", "count"),
    [
        (b"a 1 2", 2),
        (b"1 2 3", 2),
        (b"a b 1", 1),
        (b"a 1 b", 0),
        (b"a", 0),
        (b"", 0),
        (b"a 1 nan -inf \r", 3),
        (b" 1", 1),
    ],
)
def test_last_numbers_leave_one_field_for_the_key(line, count):
    assert count_last_numbers(line) == count


@pytest.mark.parametrize(
    ("head", "without"),
    [
        (b"0.5 1 2\n0.25 3 4\n", True),
        (b"-1e-05 2\n", True),
        (b" 1.00e+00\t2\n", True),
        (b"0.5 " * 2000, True),
        (b"5 1 2\n6 3 4\n", False),
        (b"the 1 2\n0.5 3 4\n", False),
        (b"0.5.1 1 2\n", False),
        (b". 1 2\n", False),
    ],
)
def test_matrix_without_keys_is_known_by_its_decimals(head, without):
    assert has_no_keys(head) == without


@pytest.mark.parametrize(
    ("line", "found"),
    [(b"a 1.0, 2.0, 3.0", True), (b"a 0,1 0,2", True), (b"a 1; 2", True), (b"a, b 1 2", False), (b", 1 2", False)],
)
def test_commas_after_or_within_numbers_are_seen(line, found):
    assert with_commas(line) == found


def test_pattern_of_numbers_takes_time_linear_in_their_length():
    assert not NUMBER.fullmatch(b"1" * 1_000_000 + b"x")  # a quadratic pattern takes an hour
    assert not with_commas(b"a " + b"1" * 1_000_000 + b"x")
    assert re.fullmatch(NUMBER, b"1" * 1_000_000)
