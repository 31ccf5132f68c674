"""Tokenizer: text to tokens, exactly as the ``Tokenizer`` of Keras cuts it.

The reference is ``text_to_word_sequence`` in Keras's ``legacy.preprocessing.text``: lower-case the text, put `split` in
the place of each character of `filters`, split at `split`, and drop empty tokens. With a `split` of one character this
means to cut wherever the lowered text has one of a set of characters, which a kernel does. The few texts that hold a
character whose lower case is not one code point (İ) or depends on its neighbours (Σ at the end of a word) go through
Python's own str; so does everything if `split` is longer, as filters next to each other can then make new separators.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, islice
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.kernels.cutting import SEPARATES, SEPARATOR, SPECIAL, cut_texts
from vecstore.keys import KeyBatch, Keys, frozen
from vecstore.texts import Texts
from vecstore.threads import num_threads, split
from vecstore.tokens import Tokens

__all__ = ["FILTERS", "Tokenizer", "each_piece", "tables"]

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
"""What Keras filters: ASCII's punctuation but the apostrophe, tabs and newlines."""

_BLOCK_BYTES = 1 << 25  # of texts that are converted at a time
_PIECE_BYTES = 1 << 18  # of texts that one call of a kernel cuts: their tokens stay in the cache
_PIECE_TOKENS = 1 << 16
_SHARES = 4  # pieces that each thread takes of a small batch
_LEAST = 8  # a piece is not smaller than this part of the above, for the call's sake
_TAKEN = 1 << 10  # texts of a list that are made bytes at a time, 0.3 ms in which no other thread runs Python
_PLANES = 0x110000
_PAGE = 256
_SIGMA = 0x3A3  # the one character whose lower case in Python depends on those around it


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    r"""How a text is cut into tokens; equal ones compare equal, and it pickles if `analyzer` does.

    Parameters
    ----------
    filters : str, default '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
        Characters that separate tokens and belong to none.
    lower : bool, default True
        Whether texts are lower-cased, as `str.lower` does, before anything else.
    split : str, default " "
        What separates tokens. One of several characters is handled by Python's str, at its speed.
    analyzer : callable, optional
        From str to an iterable of str: called with each text instead of all of the above, on the caller's thread.

    Raises
    ------
    ValueError
        `split` is empty or has no UTF-8.
    TypeError
        An argument is of another type.

    Examples
    --------
    >>> Tokenizer().tokenize(["Nice, nice work!", "Don't"]).lists()
    [['nice', 'nice', 'work'], ["don't"]]
    """

    filters: str = FILTERS
    lower: bool = True
    split: str = " "
    analyzer: Callable[[str], Iterable[str]] | None = None

    def __post_init__(self) -> None:
        for name in ("filters", "split"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name}: expected str, found {type(getattr(self, name)).__name__}")
        if not self.split:
            raise ValueError("split: expected at least one character, found ''")
        try:
            self.split.encode()
        except UnicodeEncodeError:
            raise ValueError(f"split: expected Unicode text, found a lone surrogate: {self.split!r}") from None
        if self.analyzer is not None and not callable(self.analyzer):
            raise TypeError(f"analyzer: expected a function, found {type(self.analyzer).__name__}")

    def tokenize(self, texts: Keys) -> Tokens:
        """Return the tokens of `texts`: whatever `Texts.of` takes; a null text has none.

        Large batches run on several threads. Memory is that of the texts, and 16 bytes a token.

        Raises
        ------
        ValueError
            A text, or a token of `analyzer`, has no UTF-8.
        TypeError
            `texts` is one str, or holds something that is no text.
        """
        pieces: dict[int, Tokens] = {}
        each_piece(texts, self, pieces.__setitem__)
        return Tokens.joined([pieces[first] for first in sorted(pieces)])

    def words(self, text: str) -> list[str]:
        """Return the tokens of one text, as Python's str cuts it."""
        if self.analyzer is not None:
            return list(self.analyzer(text))
        text = text.lower() if self.lower else text
        text = text.translate(dict.fromkeys(map(ord, self.filters), self.split))
        return [word for word in text.split(self.split) if word]

    @property
    def is_compiled(self) -> bool:
        """Whether a kernel cuts texts: without `analyzer`, at one character."""
        return self.analyzer is None and len(self.split) == 1

    def cut(self, texts: Texts, start: int, stop: int) -> Tokens:
        """Return the tokens of texts start <= i < stop, cut on this thread."""
        if not self.is_compiled:
            return Tokens.of([self._words_of(texts, i) for i in range(start, stop)])
        size = int((texts.stops[start:stop] - texts.starts[start:stop]).sum())
        out = np.empty(size, np.uint8)
        starts, stops = (np.empty((size + stop - start) // 2 + 2, np.int64) for _ in range(2))
        counts = np.empty(stop - start, np.int64)
        lookups = tables(self.filters, self.lower, self.split)
        tokens = cut_texts(texts.data, texts.starts, texts.stops, *lookups, start, stop, out, starts, stops, counts)
        batch = KeyBatch(frozen(out), frozen(starts[:tokens]), frozen(stops[:tokens]))
        marked = np.flatnonzero(counts < 0)
        if len(marked):
            others = Tokens.of([self._words_of(texts, start + i) for i in marked.tolist()])
            counts[marked] = np.diff(others.offsets)
            batch = _with_others(batch, others.batch, np.repeat(np.isin(np.arange(stop - start), marked), counts))
        bounds = np.zeros(stop - start + 1, np.int64)
        np.cumsum(counts, out=bounds[1:])
        return Tokens(batch, frozen(bounds))

    def _words_of(self, texts: Texts, i: int) -> list[str]:
        try:
            return self.words(texts[i])
        except UnicodeDecodeError as error:
            raise ValueError(f"text {i}: expected UTF-8, found byte {error.object[error.start]:#x}") from None


def each_piece(texts: Keys | Tokens, tokenizer: Tokenizer, work: Callable[[int, Tokens], object]) -> int:
    """Call ``work(first, tokens)`` on pieces of at most some hundred kilobytes; return how many documents there are.

    `first` is the number of a piece's first document. The pieces come in any order and on several threads at a
    time, those of one thread in ascending order. `Tokens` are taken as they are, all else is text. In memory are a
    block of the texts and a piece a thread.
    """
    if isinstance(texts, Tokens):
        return _each(_parts(texts, num_threads()), num_threads(), work)
    threads = num_threads() if tokenizer.is_compiled else 1
    if isinstance(texts, list | tuple):
        # Whichever thread comes for a piece makes the next few str bytes, while the others go on.
        sharers = threads if len(texts) <= _TAKEN else 1
        return _each(_cut(Texts.stream(texts, _BLOCK_BYTES, _TAKEN), tokenizer, sharers, 0), threads, work)
    documents = 0
    for block in Texts.stream(texts, _BLOCK_BYTES):  # here, as an iterator may keep to the thread that made it
        documents += _each(_cut(iter([block]), tokenizer, threads, documents), threads, work)
    return documents


_Piece = tuple[int, int, Callable[[], Tokens]]
"""The number of the first document of a piece, how many it has, and a function that returns its tokens."""


def _parts(tokens: Tokens, threads: int) -> Iterator[_Piece]:
    for low, high in tokens.cuts(_fair(int(tokens.offsets[-1]), threads, _PIECE_TOKENS)):
        yield low, high - low, partial(tokens.part, low, high)


def _cut(blocks: Iterator[Texts], tokenizer: Tokenizer, sharers: int, first: int) -> Iterator[_Piece]:
    for block in blocks:
        size = int((block.stops - block.starts).sum())
        for low, high in block.cuts(_fair(size, sharers, _PIECE_BYTES)):
            yield first + low, high - low, partial(tokenizer.cut, block, low, high)
        first += len(block)


def _fair(size: int, threads: int, most: int) -> int:
    """Return the size of pieces that keep all threads busy until the end, but for pieces hardly worth the call."""
    return min(max(size // (_SHARES * threads), most // _LEAST), most) if threads > 1 else most


def _each(pieces: Iterator[_Piece], threads: int, work: Callable[[int, Tokens], object]) -> int:
    lock = Lock()
    first_two = list(islice(pieces, 2))
    rest = chain(first_two, pieces)
    documents = 0

    def run(start: int, stop: int) -> None:
        # Each thread takes the next piece when it is free, whichever of the pool it is.
        nonlocal documents, rest
        try:
            while True:
                with lock:
                    piece = next(rest, None)
                    documents += piece[1] if piece else 0
                if piece is None:
                    return
                first, _, tokens = piece
                work(first, tokens())
        except BaseException:
            rest = chain()  # for the others to stop
            raise

    split(run, threads if len(first_two) > 1 else len(first_two), 1)
    return documents


def _with_others(batch: KeyBatch, others: KeyBatch, places: NDArray[np.bool_]) -> KeyBatch:
    """Return the tokens of two batches as one: those of `others` where `places` (t,) says so."""
    base = len(batch.data)
    starts, stops = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
    starts[places], stops[places] = others.starts + base, others.stops + base
    starts[~places], stops[~places] = batch.starts, batch.stops
    return KeyBatch(frozen(np.concatenate([batch.data, others.data])), frozen(starts), frozen(stops))


@lru_cache(64)
def tables(filters: str, lower: bool, split: str) -> tuple[NDArray[Any], ...]:
    """Return letters, ranges, pages and codes, as `cut_texts` reads them."""
    lowered = dict(_lowered()) if lower else {}
    # The lowered text is what is filtered, and no character of it has an upper case's code point.
    separators = {ord(character) for character in filters + split if not 0xD800 <= ord(character) < 0xE000}
    for code in separators:
        if code not in lowered:
            lowered[code] = SEPARATES
    for code, to in list(lowered.items()):
        if to in separators:
            lowered[code] = SEPARATES
    letters = np.arange(256, dtype=np.uint8)
    pages = np.zeros(_PLANES // _PAGE, np.uint16)
    numbers = {page: i for i, page in enumerate(sorted({code // _PAGE for code in lowered if code >= 128}), 1)}
    codes = np.empty((len(numbers) + 1, _PAGE), np.uint32)
    for page, i in numbers.items():
        pages[page] = i
        codes[i] = np.arange(page * _PAGE, (page + 1) * _PAGE)
    for code, to in lowered.items():
        if code < 128:
            letters[code] = SEPARATOR if to == SEPARATES else to
        else:
            codes[pages[code // _PAGE], code % _PAGE] = to
    codes[0] = 0
    return frozen(letters), _ranges(letters, lower), frozen(pages), frozen(codes.ravel())


def _ranges(letters: NDArray[np.uint8], lower: bool) -> NDArray[np.uint8]:
    """Return what is to be lower-cased, and each run of separators: first byte and number of bytes (r, 2)."""
    edges = np.flatnonzero(np.diff(letters[:128] == SEPARATOR, prepend=False, append=False))
    runs = [(first, stop - first) for first, stop in edges.reshape(-1, 2)]
    return frozen([(ord("A"), 26 if lower else 0), *runs], np.uint8)


@lru_cache(1)
def _lowered() -> dict[int, int]:
    """Return the lower case of each code point that has another, or `SPECIAL`; 17 ms."""
    found = {}
    characters = str(np.arange(_PLANES, dtype="<u4").tobytes(), "utf-32-le", "surrogatepass")
    for start in range(0, _PLANES, _PAGE):
        page = characters[start : start + _PAGE]
        if page.lower() != page:
            for code in range(start, start + _PAGE):
                to = chr(code).lower()
                if to != chr(code):
                    # A longer one, such as Ⱥ's, would not fit where the kernel writes.
                    fits = len(to) == 1 and len(to.encode()) <= len(chr(code).encode()) and code != _SIGMA
                    found[code] = ord(to) if fits else SPECIAL
    return found
