"""What a line of text is: its fields and numbers, and whether a file looks like lines of keys and numbers.

Fields are separated by ASCII spaces and tabs alone. A number is a decimal as C writes it, or nan, or inf.
"""

import re
from codecs import getincrementaldecoder
from typing import Literal

__all__ = ["BLANKS", "BOM", "HEADER", "NUMBER", "count_last_numbers", "has_no_keys", "looks_like_text", "with_commas"]

BOM = b"\xef\xbb\xbf"
"""What some editors put before UTF-8."""

BLANKS = re.compile(rb"[ \t]+")
"""What separates two fields."""

HEADER = re.compile(rb"[ \t]*([0-9]{1,19})[ \t]+([0-9]{1,19})[ \t]*\r?")
"""A first line: count and dim."""

NUMBER = re.compile(
    rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE | re.ASCII
)
"""A field that is a number. No two neighbouring repeats match the same bytes, here and below: time stays linear."""

_DECIMAL = re.compile(
    rb"[ \t]*[+-]?[0-9]*(?:[0-9]\.|\.[0-9]|[0-9]e[+-]?[0-9])[0-9]*(?:e[+-]?[0-9]+)?[ \t]", re.IGNORECASE
)
_WITH_COMMA = re.compile(
    rb"[+-]?(?:[0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)(?:e[+-]?[0-9]+)?[,;]|[+-]?[0-9]+,[0-9]+", re.IGNORECASE
)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_ENOUGH_NUMBERS = 4  # at a line's end; float32 are decimals by chance, but not so many


def looks_like_text(head: bytes) -> Literal["word2vec-text", "glove"] | None:
    """Say which text a file is that starts with `head`, or None if it does not look like one."""
    lines = _split_lines(head.removeprefix(BOM))
    if not lines:
        return None
    header = HEADER.fullmatch(lines[0])
    if not header or (len(lines) > 1 and _is_headless(header, lines[1])):
        return "glove" if count_last_numbers(lines[0]) else None
    rest = head.partition(b"\n")[2]
    record = lines[1] if len(lines) > 1 else b""
    after_key = b" ".join(_fields(record)[1:])
    enough = count_last_numbers(record) >= min(int(header[2]), _ENOUGH_NUMBERS)
    if (enough and not _CONTROL.search(after_key)) or (rest.strip() and _is_printable(rest)):
        return "word2vec-text"
    return None


def has_no_keys(head: bytes) -> bool:
    """Say whether the lines of a text that starts with `head` begin with decimals, as a matrix without keys does."""
    return all(_DECIMAL.match(line + b" ") for line in _split_lines(head.removeprefix(BOM)) if line.strip(b" \t\r"))


def _is_printable(text: bytes) -> bool:
    """Say whether bytes that may be cut within a character are text, as float32 are by chance alone."""
    try:
        getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def _split_lines(text: bytes) -> list[bytes]:
    """Return the lines of a text that may be cut anywhere; of a cut line the whole fields, if there are several."""
    lines = text.split(b"\n")
    last = lines.pop()
    if not lines:
        fields = BLANKS.split(last)
        return [b" ".join(fields[:-1])] if len(fields) > 2 else [last] if last else []
    return [*lines, last.rpartition(b" ")[0]] if b" " in last else lines


def _is_headless(header: re.Match[bytes], second: bytes) -> bool:
    """Say whether what looks like a header is a record of one number: the second line is one, and not announced."""
    return len(_fields(second)) == 2 and count_last_numbers(second) == 1 and int(header[2]) != 1


def _fields(line: bytes) -> list[bytes]:
    return BLANKS.split(line.removesuffix(b"\r").rstrip(b" \t"))


def count_last_numbers(line: bytes) -> int:
    """Return how many fields at a line's end are numbers, leaving one for the key."""
    fields = _fields(line)[1:]
    return next((i for i, field in enumerate(reversed(fields)) if not NUMBER.fullmatch(field)), len(fields))


def with_commas(line: bytes) -> bool:
    """Say whether a line has numbers with commas after or within them."""
    return any(map(_WITH_COMMA.fullmatch, _fields(line)[1:]))
