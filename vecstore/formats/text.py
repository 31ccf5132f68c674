r"""Text: one record a line, a key and then its numbers, as word2vec, GloVe and fastText (``.vec``) are published.

word2vec text and ``.vec`` begin with a line ``count dim``; GloVe does not. Fields are separated by ASCII spaces and
tabs alone, since keys hold other blanks (U+00A0, U+0085, U+3000). The *last* dim fields are the numbers, since keys
hold spaces too (GloVe 840B has ``. . .``). A UTF-8 BOM, carriage returns, blanks at a line's end, a missing last
newline and empty lines at the end of the file are accepted.

The kernels of ``vecstore.kernels.text`` read nearly every line. A line that they mark is read again, field by field,
by `_parse_line`, which has the last word.
"""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vecstore.choices import CountMismatch
from vecstore.errors import FormatError
from vecstore.formats.lines import BLANKS, BOM, HEADER, NUMBER, count_last_numbers, with_commas
from vecstore.formats.source import Block
from vecstore.formats.stream import ByteStream
from vecstore.formats.word2vec import DIM_LIMIT
from vecstore.kernels.records import KEY_LIMIT
from vecstore.kernels.text import MAX_NUMBERS_IN_KEY, POWERS, find_lines, parse_lines
from vecstore.keys import KeyBatch
from vecstore.layout import Source
from vecstore.threads import split

__all__ = ["TextSource"]

_BLOCK_BYTES = 1 << 22  # and no line is longer
_SAMPLE_BYTES, _SAMPLE_LINES = 1 << 16, 100
_PADDING = 8  # bytes that the kernels may read after a block
_GRAIN_BYTES = 1 << 16  # that are worth a thread


class TextSource:
    """Read word vectors in text.

    Parameters
    ----------
    stream : ByteStream
        At its start; closed with the source.
    header : bool
        Whether a line ``count dim`` comes first.
    count_mismatch : {"error", "warn"}, default "error"
        Whether to refuse a file with more or fewer records than its header announces, or to warn and keep no
        more than was announced.

    Raises
    ------
    FormatError
        The first line is not a header, or announces more than the file can hold; or there is none, and the first
        lines do not agree on the number of their fields.
    """

    def __init__(self, stream: ByteStream, *, header: bool, count_mismatch: CountMismatch = "error") -> None:
        self._stream = stream
        self._header = header
        self._lenient = count_mismatch == "warn"
        self.departures: list[str] = []
        self._start = len(BOM) if stream.peek(len(BOM)) == BOM else 0
        stream.fill(memoryview(bytearray(self._start)))
        if header:
            self.expected, self.dim = self._read_header()
            self._check_dim()
        else:
            self.expected, self.dim = 0, self._guess_dim()

    def _read_header(self) -> tuple[int, int]:
        line = self._stream.peek(_SAMPLE_BYTES).partition(b"\n")[0]
        found = f"{self._stream.place}: line 1, byte {self._start}"
        match = HEADER.fullmatch(line)
        if not match:
            raise FormatError(
                f"{found}: expected a header 'count dim', found {line[:80]!r}; "
                "if the file has none: format='glove' (--format glove)"
            )
        count, dim = int(match[1]), int(match[2])
        if count == 0 or dim == 0:
            raise FormatError(f"{found}: the header {line!r} announces nothing")
        if dim > DIM_LIMIT:
            raise FormatError(f"{found}: the header {line!r} announces vectors of more than {DIM_LIMIT:,} numbers")
        least = (1 if self._lenient else count) * 2 * dim
        if least > self._stream.most:
            raise FormatError(
                f"{found}: the header announces {count:,} records of {dim:,} numbers, at least {least:,} bytes: "
                f"found {self._stream.most:,} at most; the file is cut short, or is not word2vec text"
            )
        self._start += self._stream.fill(memoryview(bytearray(len(line) + 1)))
        return count, dim

    def _check_dim(self) -> None:
        """Refuse a header of too small a dim, which would make numbers a part of each key."""
        counts = Counter(map(count_last_numbers, self._sample()))
        common, lines = counts.most_common(1)[0] if counts else (0, 0)
        if common > self.dim and lines > 1:
            raise FormatError(
                f"{self._stream.place}: line 2, byte {self._start}: expected a header of the lines after it, "
                f"found vectors of {self.dim:,} numbers announced, and lines that end with {common:,}"
            )

    def _guess_dim(self) -> int:
        """Return how many numbers most of the first lines end with.

        A key that ends in numbers makes one line longer, a line cut short makes one shorter; where they are as
        many, the longer is taken, so that the shorter is an error and not a key of half the numbers.
        """
        lines = self._sample()
        counts = Counter(map(count_last_numbers, lines))
        dim = max(counts, key=lambda dim: (counts[dim], dim), default=0)
        if not 0 < dim <= DIM_LIMIT:
            raise FormatError(
                f"{self._stream.place}: line 1, byte {self._start}: expected a key and its numbers, separated by "
                f"spaces or tabs, found {self._stream.peek(80)!r}"
            )
        if 2 * sum(map(with_commas, lines)) > len(lines):
            raise FormatError(
                f"{self._stream.place}: line 1, byte {self._start}: expected numbers such as 0.5, separated "
                f"by spaces or tabs alone, found {lines[0][:80]!r}"
            )
        return dim

    def _sample(self) -> list[bytes]:
        """Return some of the first lines."""
        sample, size = self._stream.peek(_SAMPLE_BYTES), _SAMPLE_BYTES
        while b"\n" not in sample and size < _BLOCK_BYTES and len(sample) == size:
            size *= 2
            sample = self._stream.peek(size)
        whole = sample if len(sample) < size else sample.rpartition(b"\n")[0]
        return [line for line in whole.split(b"\n")[:_SAMPLE_LINES] if line.strip(b" \t\r")]

    @property
    def description(self) -> Source:
        """The file's name, size and kind."""
        return self._stream.describe("word2vec-text" if self._header else "glove")

    @property
    def done(self) -> int:
        """Bytes of the file that were read, as it lies on disk."""
        return self._stream.done

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def locate(self, record: int, position: int) -> str:
        """Say where a record is: its line and byte."""
        return f"{self._stream.place}: line {record + 1 + self._header:,}, byte {position:,}"

    def blocks(self) -> Iterator[Block]:
        """Read the records, a few megabytes at a time.

        Raises
        ------
        FormatError
            A line has too few numbers or is too long, or there are more or fewer lines than announced.
        """
        buffer = np.zeros(_BLOCK_BYTES + 1 + _PADDING, np.uint8)  # the last line may lack its newline
        # No more lines than can be whole, so that wide vectors are not asked for by short lines.
        ends = np.empty(_BLOCK_BYTES // (2 * self.dim + 1) + 1, np.int64)
        held, position, records, ended = 0, self._start, 0, False
        while held or not ended:
            if not ended:
                count = self._stream.fill(buffer.data[held:_BLOCK_BYTES])
                ended = count < _BLOCK_BYTES - held
                held += count
                if ended and held and buffer[held - 1] != ord("\n"):
                    buffer[held] = ord("\n")
                    held += 1
            lines = find_lines(buffer, 0, held, ends)
            if not lines and held:
                raise FormatError(
                    f"{self.locate(records, position)}: expected a line of at most {_BLOCK_BYTES:,} bytes, found "
                    f"{buffer[:40].tobytes()!r}...; this is not text with a record a line"
                )
            if self.expected:
                lines = min(lines, self.expected - records)
            stops = ends[:lines]
            starts = np.concatenate([[0], stops[:-1] + 1])[:lines]
            block, blank = self._parse(buffer, starts, stops, records, position)
            if len(block):
                yield block
            used = int(stops[-1]) + 1 if lines else 0
            if blank or (self.expected and records + len(block) == self.expected):
                used = int(starts[len(block)]) if blank else used
                self._check_end(buffer, used, held, records + len(block), position)
                return
            records += lines
            position += used
            held -= used
            buffer[:held] = buffer[used : used + held].copy()
        if records < self.expected:
            self._differs(
                f"{self.locate(records, position)}: expected {self.expected:,} records, found the end after {records:,}"
            )

    def _parse(
        self,
        buffer: NDArray[np.uint8],
        starts: NDArray[np.int64],
        stops: NDArray[np.int64],
        records: int,
        position: int,
    ) -> tuple[Block, bool]:
        """Parse lines up to an empty one; say whether there was one."""
        n = len(starts)
        key_starts, key_stops = np.empty(n, np.int64), np.empty(n, np.int64)
        marked = np.empty(n, np.uint8)
        vectors = np.empty((n, self.dim), np.float32)

        def parse(start: int, stop: int) -> None:
            parse_lines(buffer, starts, stops, start, stop, POWERS, key_starts, key_stops, marked, vectors)

        split(parse, n, max(1, _GRAIN_BYTES // (1 + int(stops[-1]) // n)) if n else 1)
        blank = False
        for i in np.flatnonzero(marked | (key_stops - key_starts > KEY_LIMIT)):
            line = buffer[starts[i] : stops[i]].tobytes()
            if not line.strip(b" \t\r"):
                n, blank = int(i), True
                break
            key_length, vectors[i] = self._parse_line(line, records + int(i), position + int(starts[i]))
            key_starts[i], key_stops[i] = starts[i], starts[i] + key_length
        data, offsets = KeyBatch(buffer, key_starts[:n], key_stops[:n]).packed()
        return Block(data, offsets, vectors[:n], starts[:n] + position, records), blank

    def _parse_line(self, line: bytes, record: int, position: int) -> tuple[int, NDArray[np.float32]]:
        """Return the length of a line's key, and its numbers as ``np.float32(text)`` gives them."""
        where = self.locate(record, position)
        text = line.removesuffix(b"\r").rstrip(b" \t")
        *fields, key = (field[::-1] for field in BLANKS.split(text[::-1], maxsplit=self.dim))
        if len(fields) < self.dim:
            raise FormatError(
                f"{where}: expected {self.dim:,} numbers after key {BLANKS.split(text, maxsplit=1)[0]!r:.80}, "
                f"found {len(fields):,} fields; the line is cut short"
            )
        if len(key) > KEY_LIMIT:
            raise FormatError(f"{where}: expected a key of at most {KEY_LIMIT:,} bytes, found {len(key):,}")
        numbers = fields[::-1]
        for number in numbers:
            if not NUMBER.fullmatch(number):
                raise FormatError(
                    f"{where}: expected {self.dim:,} numbers after key {key!r:.80}, found {number!r:.80} among them"
                )
        within = sum(bool(NUMBER.fullmatch(field)) for field in BLANKS.split(key)[1:])
        if within > min(MAX_NUMBERS_IN_KEY, max(self.dim - 2, 3)):
            raise FormatError(
                f"{where}: expected a key and {self.dim:,} numbers, found {within + self.dim:,} numbers; "
                "a newline is missing in the line"
            )
        with np.errstate(over="ignore"):
            return len(key), np.array([float(number) for number in numbers]).astype(np.float32)

    def _check_end(self, buffer: NDArray[np.uint8], used: int, held: int, records: int, position: int) -> None:
        """Judge what follows the last record, or an empty line."""
        rest = buffer[used:held].tobytes()
        place = position + used
        while not (text := rest.lstrip(b" \t\r\n")) and (count := self._stream.fill(buffer.data)):
            place += len(rest)
            rest = buffer[:count].tobytes()
        place += len(rest) - len(text)
        if text and records == self.expected:
            self._differs(
                f"{self.locate(records, place)}: expected the end after {self.expected:,} records, "
                f"found {text[:40]!r}..."
            )
        elif text:
            raise FormatError(
                f"{self.locate(records, position + used)}: expected a key and {self.dim:,} numbers, found an empty line"
            )
        elif records < self.expected:
            self._differs(
                f"{self.locate(records, place)}: expected {self.expected:,} records, found the end after {records:,}"
            )

    def _differs(self, message: str) -> None:
        if not self._lenient:
            raise FormatError(f"{message}; to keep what the header promises: count_mismatch='warn'")
        self.departures.append(message)
