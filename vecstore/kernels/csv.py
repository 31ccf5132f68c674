"""Records of CSV: where each ends.

As in RFC 4180 and pyarrow's parser: a quote at the start of a field opens it, a quote within it closes it, two are one
character; anywhere else a quote is a character like others. A record ends with a newline, a carriage return, or both,
out of quotes. One without any field is an empty line and no record.
"""

from vecstore.kernels.machine import kernel

__all__ = ["find_records"]

_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_FIELD_START, _PLAIN, _QUOTED = range(3)


@kernel("u8[:], i64, i64, i64[:] -> i64")
def find_records(block, delimiter, is_last, ends):
    """Write where each whole record of `block` ends, after its newline; return how many there are.

    With `is_last` what follows the last newline is a record too. If its quotes are not closed, -1 is returned. `ends`
    has room for as many as there are newlines and carriage returns, and one more.
    """
    found = 0
    start = 0
    state = _FIELD_START
    at = 0
    size = block.shape[0]
    while at < size:
        byte = block[at]
        at += 1
        if state == _QUOTED:
            if byte == _QUOTE:
                if at < size and block[at] == _QUOTE:
                    at += 1
                else:
                    state = _PLAIN
        elif byte in (_NEWLINE, _RETURN):
            empty = at - 1 == start
            if byte == _RETURN:
                if at == size and not is_last:
                    return found  # a newline may follow
                if at < size and block[at] == _NEWLINE:
                    at += 1
            if not empty:
                ends[found] = at
                found += 1
            start = at
            state = _FIELD_START
        elif byte == delimiter:
            state = _FIELD_START
        elif byte == _QUOTE and state == _FIELD_START:
            state = _QUOTED
        else:
            state = _PLAIN
    if is_last:
        if state == _QUOTED:
            return -1
        if size > start:
            ends[found] = size
            found += 1
    return found
