import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.kernels.cutting import SEPARATES, SPECIAL, cut_texts
from vecstore.keys import frozen
from vecstore.tokenizer import FILTERS, tables

CODES = [0, 0x41, 0x7F, 0x80, 0xC4, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10400, 0x10FFFF]


def cut(texts, lookups, start=0, stop=None):
    """Return the tokens of each text, None of a marked one."""
    stop = len(texts) if stop is None else stop
    data, offsets = map(frozen, reference.pack(texts))
    size = int(offsets[stop] - offsets[start])
    out, (lows, highs) = np.zeros(size, np.uint8), np.zeros((2, (size + stop - start) // 2 + 2), np.int64)
    counts = np.full(stop - start, -7, np.int64)
    tokens = cut_texts(data, offsets[:-1], offsets[1:], *lookups, start, stop, out, lows, highs, counts)
    assert tokens == counts[counts > 0].sum()
    words = iter([out[low:high].tobytes() for low, high in zip(lows[:tokens], highs[:tokens], strict=True)])
    return [None if count < 0 else [next(words) for _ in range(count)] for count in counts.tolist()]


def is_special(text):
    return any(len(c.lower()) > 1 or c == "Σ" or len(c.lower().encode()) > len(c.encode()) for c in text)


@given(st.lists(st.text(st.sampled_from("abAB !ΣİÄéȺ日🙂𐐀\0") | st.characters(exclude_categories=["Cs"]))))
def test_texts_are_cut_as_reference_cuts_them(texts):
    expected = [
        None if is_special(text) else [word.encode() for word in reference.cut(text, FILTERS, True, " ")]
        for text in texts
    ]
    assert cut([text.encode() for text in texts], tables(FILTERS, True, " ")) == expected


@pytest.mark.parametrize("code", CODES)
def test_every_length_of_a_character_is_decoded_written_and_cut_at(code):
    text = f"{chr(code)}x{chr(code)}"
    assert cut([text.encode()], tables("", False, "|")) == [[text.encode()]]
    assert cut([text.encode()], tables(chr(code), False, "|")) == [[b"x"]]


@given(st.binary(max_size=8))
def test_bytes_are_marked_if_and_only_if_they_are_no_utf8(data):
    try:
        expected = [word.encode() for word in reference.cut(data.decode(), "!", False, " ")]
    except UnicodeDecodeError:
        expected = None
    assert cut([b"a b", data, b"c"], tables("!", False, " ")) == [[b"a", b"b"], expected, [b"c"]]


@given(st.data(), st.integers(0, 200))
def test_texts_longer_than_a_block_are_cut_as_reference_cuts_them(data, size):
    pieces = st.sampled_from(["a", "B", " ", ",", "ab", "Ä", "é", "日", "ⱥ", "\0", "word "])
    text = "".join(data.draw(st.lists(pieces, min_size=size, max_size=size + 20)))
    expected = [word.encode() for word in reference.cut(text, FILTERS, True, " ")]
    assert cut([text.encode(), b"x", text.encode()], tables(FILTERS, True, " ")) == [expected, [b"x"], expected]


@pytest.mark.parametrize("length", [*range(60, 70), *range(124, 132)])
@pytest.mark.parametrize("at", range(60, 68))
def test_tokens_that_cross_or_end_at_a_block_are_cut(at, length):
    text = "a" * at + " " + "b" * (length - at)
    assert cut([text.encode()], tables("", True, " ")) == [[word.encode() for word in text.split()]]


@pytest.mark.parametrize("cut_at", range(1, 4))
def test_a_character_that_ends_with_its_text_is_not_read_beyond_it(cut_at):
    whole = "🙂".encode()
    assert cut([whole[:cut_at], whole[cut_at:]], tables("", True, " ")) == [None, None]


def test_a_range_of_texts_is_cut_alone():
    assert cut([b"a", b"b c", b"d", b"e"], tables("", True, " "), 1, 3) == [[b"b", b"c"], [b"d"]]


def test_tables_hold_what_happens_to_each_character():
    letters, ranges, pages, codes = tables("éA", True, " ")
    assert ranges.tolist() == [[ord("A"), 26], [ord(" "), 1]]
    assert letters[ord("A")] == ord("a")
    assert letters[ord(" ")] == 0x80
    assert [codes[pages[ord(c) >> 8] * 256 + (ord(c) & 255)] for c in "éÉÄäΣİ"] == [
        *(SEPARATES, SEPARATES, ord("ä"), ord("ä"), SPECIAL, SPECIAL)
    ]
    assert pages[ord("日") >> 8] == 0


@given(
    filters=st.text(st.characters(max_codepoint=127), max_size=20),
    lower=st.booleans(),
    texts=st.lists(st.text(st.characters(max_codepoint=127), max_size=150), max_size=5),
)
def test_any_ascii_characters_may_separate(filters, lower, texts):
    expected = [[word.encode() for word in reference.cut(text, filters, lower, "|")] for text in texts]
    assert cut([text.encode() for text in texts], tables(filters, lower, "|")) == expected


@pytest.mark.parametrize("length", [1, 62, 63, 64, 65, 127, 128, 129])
def test_what_follows_a_text_is_no_part_of_it(length):
    texts = [b"a" * length, b"b" * 64, b"\xc3\xa9" * 40, b"c"]
    assert cut(texts, tables("", False, " ")) == [[text] for text in texts]
    assert cut(texts, tables("", False, " "), 0, 1) == [[texts[0]]]
