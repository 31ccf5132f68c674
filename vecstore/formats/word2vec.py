r"""word2vec binary: what word2vec.c writes with ``-binary 1``, and how GoogleNews was published.

The file is ``"{count} {dim}\n"`` and then, per record, the key's bytes, one space, and `dim` little-endian
float32 (https://code.google.com/archive/p/word2vec/, ``word2vec.c``, end of ``TrainModel``). word2vec.c writes
a newline after each vector; GoogleNews and gensim write none. A file keeps one habit, which the start of
its second record shows. Newlines before a key are no part of it, as in gensim.

The format has no way to write a key with a space in it, and no mark that tells one record from the next. A file
that lost its step is betrayed by a key that is too long, a key with a newline, or a missing newline.
"""

import re
from collections.abc import Iterator

import numpy as np

from vecstore.choices import CountMismatch
from vecstore.errors import FormatError
from vecstore.formats.source import Block, SpareArrays
from vecstore.formats.stream import ByteStream
from vecstore.kernels.records import KEY_LIMIT, LONG_KEY, MORE, NO_NEWLINE, cut_records
from vecstore.layout import Source

__all__ = ["DIM_LIMIT", "WORD2VEC_HEADER", "Word2vecSource"]

DIM_LIMIT = 1 << 20
"""Components of a vector; more than anyone's, so that an absurd header costs no memory."""

WORD2VEC_HEADER = re.compile(rb"([0-9]{1,19}) +([0-9]{1,19}) *\r?\n")
"""The first line: count and dim."""

_HEADER_LIMIT = 64
_BLOCK_BYTES = 1 << 22
_NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf)", re.IGNORECASE)


class Word2vecSource:
    """Read a word2vec binary.

    Parameters
    ----------
    stream : ByteStream
        At its start; closed with the source.
    count_mismatch : {"error", "warn"}, default "error"
        Whether to refuse a file that goes on after the announced number of records or ends before it (between
        two records), or to warn and keep no more than was announced.

    Raises
    ------
    FormatError
        The header is not one, or announces more than the file can hold.
    """

    def __init__(self, stream: ByteStream, *, count_mismatch: CountMismatch = "error") -> None:
        self._stream = stream
        self._lenient = count_mismatch == "warn"
        self.departures: list[str] = []
        head = bytearray(_HEADER_LIMIT)
        del head[stream.fill(memoryview(head)) :]
        match = WORD2VEC_HEADER.match(head)
        if not match:
            line = bytes(head).split(b"\n")[0]
            raise FormatError(
                f"{stream.place}: byte 0: expected a word2vec header 'count dim', found {line!r}; "
                "this is not a word2vec binary"
            )
        self.expected, self.dim = int(match[1]), int(match[2])
        self._start = match.end()
        self._head = bytes(head[match.end() :])
        self._check_header(match[0])

    def _check_header(self, header: bytes) -> None:
        found = f"{self._stream.place}: byte 0: the header {header!r}"
        if self.expected == 0 or self.dim == 0:
            raise FormatError(f"{found} announces nothing: expected at least one record of one number")
        if self.dim > DIM_LIMIT:
            raise FormatError(f"{found} announces vectors of {self.dim:,} numbers: expected at most {DIM_LIMIT:,}")
        records = 1 if self._lenient else self.expected
        least = self._start + records * (1 + 4 * self.dim)
        if least > self._stream.most:
            raise FormatError(
                f"{found} announces {self.expected:,} records of {self.dim:,} numbers, at least {least:,} bytes: "
                f"found {self._stream.most:,} at most; the file is cut short, or is not a word2vec binary"
            )
        if _is_text(self._head):
            raise FormatError(
                f"{self._stream.place}: byte {self._start}: expected binary numbers after the first key, "
                f"found {self._head[:40]!r}; this is word2vec text, not binary"
            )

    @property
    def description(self) -> Source:
        """The file's name, size and kind."""
        return self._stream.describe("word2vec")

    @property
    def done(self) -> int:
        """Bytes of the file that were read, as it lies on disk."""
        return self._stream.done

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def locate(self, record: int, position: int) -> str:
        """Say where a record is."""
        return f"{self._stream.place}: record {record + 1:,}, byte {position:,}"

    def blocks(self) -> Iterator[Block]:
        """Read the records, a few megabytes at a time.

        Raises
        ------
        FormatError
            The file ends within a record or before the announced number, goes on after it, or lost its step.
        """
        width = 4 * self.dim
        buffer = np.empty(max(_BLOCK_BYTES, 2 * (width + KEY_LIMIT + 2)), np.uint8)
        view = buffer.data
        held = len(self._head)
        view[:held] = self._head
        position = self._start  # of buffer[0] in the file
        records, newlines, ended = 0, False, False
        data = np.empty(len(buffer), np.uint8)
        most = len(buffer) // (width + 1) + 1
        spare = SpareArrays((most, self.dim), np.float32)
        stopped = np.empty(2, np.int64)
        while records < self.expected:
            if not ended:
                count = self._stream.fill(view[held:])
                ended = count < len(view) - held
                held += count
            # The habit shows between the first record and the second, so the first is a block of its own.
            room = min(most, self.expected - records) if records else 1
            offsets, positions = np.empty(room + 1, np.int64), np.empty(room, np.int64)
            vectors = spare.take()[:room]
            n = cut_records(
                buffer,
                0,
                held,
                width,
                room,
                newlines,
                data,
                offsets,
                vectors.view(np.uint8).reshape(-1),
                positions,
                stopped,
            )
            end, status = stopped.tolist()
            if status != MORE:
                raise self._lost(status, records + n, position + end, bytes(buffer[end : min(end + 40, held)]))
            if n:
                used = int(offsets[n])
                yield Block(data[:used].copy(), offsets[: n + 1], vectors[:n], positions[:n] + position, records)
            del vectors
            if not records and n:
                newlines = bool(end < held and buffer[end] == ord("\n"))
            records += n
            position += end
            held -= end
            buffer[:held] = buffer[end : end + held].copy()
            if ended and not n:
                self._check_rest(bytes(buffer[:held]), records, position)
                return
        rest = bytes(buffer[:held])
        while not rest.strip(b"\n") and (count := self._stream.fill(view)):
            position += len(rest)
            rest = bytes(buffer[:count])
        self._check_after(rest, position)

    def _lost(self, status: int, record: int, position: int, found: bytes) -> FormatError:
        where = self.locate(record, position)
        if status == LONG_KEY:
            return FormatError(
                f"{where}: expected a key of at most {KEY_LIMIT:,} bytes and a space, found {found!r}...; "
                "the file is damaged, or is not a word2vec binary"
            )
        expected = "a newline before the key, as after the first record" if status == NO_NEWLINE else "a key"
        return FormatError(
            f"{where}: expected {expected}, found {found!r}; the file is damaged, or an earlier key "
            "holds a space, which this format cannot hold"
        )

    def _check_rest(self, rest: bytes, records: int, position: int) -> None:
        """Judge a file that ended before the announced number of records."""
        key, space, vector = rest.lstrip(b"\n").partition(b" ")
        where = self.locate(records, position)
        if space:
            raise FormatError(
                f"{where}: expected {4 * self.dim:,} bytes of vector after key {key!r:.80}, found {len(vector):,}; "
                "the file is cut short"
            )
        if key:
            raise FormatError(f"{where}: expected a key and a space, found {key!r:.80}; the file is cut short")
        self._differs(f"{where}: expected {self.expected:,} records, found the end after {records:,}")

    def _check_after(self, rest: bytes, position: int) -> None:
        """Judge what follows the announced number of records."""
        if rest.strip(b"\n"):
            self._differs(
                f"{self._stream.place}: byte {position:,}: expected the end after {self.expected:,} records, "
                f"found {rest[:40]!r}..."
            )

    def _differs(self, message: str) -> None:
        if not self._lenient:
            raise FormatError(f"{message}; to keep what the header promises: count_mismatch='warn'")
        self.departures.append(message)


def _is_text(head: bytes) -> bool:
    """Say whether the first record, of which `head` is the start, is a line of text."""
    line, newline, _ = head.lstrip(b"\n").partition(b"\n")
    fields = line.removesuffix(b"\r").split(b" ")[1 : None if newline else -1]  # the last may be cut off
    numbers = [field for field in fields if field]
    return bool(numbers) and all(_NUMBER.fullmatch(number) for number in numbers)
