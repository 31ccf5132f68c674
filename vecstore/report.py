"""What long work did, for a person and for a program: a conversion, a job over files."""

from dataclasses import dataclass
from pathlib import Path

from vecstore.layout import Source
from vecstore.storage import STORAGE_TYPES

__all__ = ["ConversionReport", "JobReport", "RoundingErrors"]


@dataclass(frozen=True, slots=True)
class RoundingErrors:
    """How far the vectors of a store are from those of its source.

    Infinities and NaN, which stay what they are, have no error; rows with one have no cosine.

    Attributes
    ----------
    largest, mean : float
        Of the absolute errors of all numbers.
    cosine : float
        The lowest between a row and what is stored of it.
    """

    largest: float
    mean: float
    cosine: float


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion did.

    Attributes
    ----------
    path : Path
        The store.
    rows, dim : int
        Its shape.
    size : int
        Its size on disk in bytes.
    seconds : float
        Wall time.
    source : Source
        The file that was read.
    dropped : dict
        Records that were left out: "duplicates" of another one, "undecodable" keys, "unwanted" ones that are not
        among the `keys` asked for.
    unusual : dict
        Rows of the store with a "nan", "infinite", all "zero", with a "huge" number beyond 1e15.
    dtype : str
        How the vectors are stored.
    exact_dtype : str
        The smallest storage type that holds every number of the source bit for bit.
    errors : RoundingErrors
        All 0, and the cosine 1, if that was so with `dtype`.
    """

    path: Path
    rows: int
    dim: int
    size: int
    seconds: float
    source: Source
    dropped: dict[str, int]
    unusual: dict[str, int]
    dtype: str
    exact_dtype: str
    errors: RoundingErrors

    def __str__(self) -> str:
        rate = self.size / max(self.seconds, 1e-9) / 1e6
        dropped = ", ".join(f"{count:,} {name}" for name, count in self.dropped.items())
        unusual = ", ".join(f"{count:,} {name}" for name, count in self.unusual.items())
        return (
            f"{self.path}\n"
            f"  {self.rows:,} keys x {self.dim} {self.dtype}, {self.size / 1e6:,.1f} MB\n"
            f"  from {self.source.name} in {self.seconds:.1f} s ({rate:,.0f} MB/s)\n"
            f"  records dropped: {dropped}\n"
            f"  unusual rows kept: {unusual}"
            f"{self._judge_type()}"
        )

    def _judge_type(self) -> str:
        """Say what storing cost in precision, and what another type would save."""
        lines = []
        if self.errors.largest:
            lines.append(
                f"rounded to {self.dtype}: largest error {self.errors.largest:.3g}, mean {self.errors.mean:.3g}, "
                f"lowest cosine of a row {self.errors.cosine:.6f}"
            )
        now, exact = (self.rows * STORAGE_TYPES[name].row_bytes(self.dim) for name in (self.dtype, self.exact_dtype))
        if exact < now:
            lines.append(
                f"every value fits {self.exact_dtype} exactly: --dtype auto would store {_in_bytes(exact)} of vectors "
                f"instead of {_in_bytes(now)}"
            )
        elif self.errors.largest and exact == now:
            lines.append(f"every value fits {self.exact_dtype} exactly, in as many bytes: --dtype auto")
        return "".join(f"\n  {line}" for line in lines)


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a job over files did, in all of its runs.

    Attributes
    ----------
    path : Path
        The target.
    rows, tokens : int
        Of the result; all tokens of its texts.
    known : int or None
        Tokens that the store has; None where nobody asked.
    zeros : int or None
        Rows without a known token, whose vectors are zeros; None where nobody asked.
    bad_rows : int
        Rows that were left out.
    bad_places : tuple of str
        Where a few of those of this run are, and what is wrong with them.
    parts, parts_found : int
        How many parts there were, and how many of them an earlier run had finished.
    seconds : float
        Wall time of this run.
    """

    path: Path
    rows: int
    tokens: int
    known: int | None
    zeros: int | None
    bad_rows: int
    bad_places: tuple[str, ...]
    parts: int
    parts_found: int
    seconds: float

    def __str__(self) -> str:
        found = f", {self.parts_found:,} of {self.parts:,} parts from before" if self.parts_found else ""
        lines = [str(self.path), f"{self.rows:,} rows, {self.tokens:,} tokens in {self.seconds:.1f} s{found}"]
        if self.known is not None and self.zeros is not None:
            share = f" ({self.known / self.tokens:.1%})" if self.tokens else ""
            lines.append(
                f"{self.known:,} tokens known{share}; {self.zeros:,} rows without one, their vectors are zeros"
            )
        if self.bad_rows:
            lines += [f"{self.bad_rows:,} bad rows left out, such as:", *(f"  {place}" for place in self.bad_places)]
        return "\n  ".join(lines)


def _in_bytes(size: int) -> str:
    for unit, scale in ("GB", 1e9), ("MB", 1e6):
        if size >= scale:
            return f"{size / scale:,.2f} {unit}"
    return f"{size:,} bytes"
