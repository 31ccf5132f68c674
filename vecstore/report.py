"""ConversionReport: what a conversion did, for a person and for a program."""

from dataclasses import dataclass
from pathlib import Path

from vecstore.layout import Source
from vecstore.storage import STORAGE_TYPES

__all__ = ["ConversionReport", "RoundingErrors"]


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


def _in_bytes(size: int) -> str:
    for unit, scale in ("GB", 1e9), ("MB", 1e6):
        if size >= scale:
            return f"{size / scale:,.2f} {unit}"
    return f"{size:,} bytes"
