"""Tables in Markdown, and numbers as people read them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


def number(value: float, digits: int = 2) -> str:
    """Return a number with so many significant digits, without an exponent."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.12f}".rstrip("0").rstrip(".") if abs(rounded) >= 1e-4 or not rounded else f"{rounded:.1e}"


def scaled(value: float, unit: str = "", digits: int = 2) -> str:
    """Return a number with k, M, G or T before its unit."""
    rounded = float(f"{value:.{digits}g}")
    scale, prefix = next(((s, p) for s, p in _UNITS if rounded >= s), (1, ""))
    return f"{number(value / scale, digits)} {prefix}{unit}".rstrip()


def size(value: float) -> str:
    """Return bytes."""
    return scaled(value, "B", 3)


def rate(value: float, unit: str = "") -> str:
    """Return so many a second."""
    return f"{scaled(value, unit)}/s"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    units = ((86400 * 2, 86400, "days"), (7200, 3600, "h"), (120, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"))
    for least, scale, unit in (*units, (1e-6, 1e-6, "µs")):
        if seconds >= least:
            return f"{number(seconds / scale)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def percent(share: float) -> str:
    """Return a share in per cent."""
    return f"{number(100 * share)}%"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, its first column to the left, the others to the right."""
    lines = [_line(head), "|---" + "|---:" * (len(head) - 1) + "|", *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_between(path: Path, tables: dict[str, str]) -> None:
    """Put each table between the lines ``<!-- name -->`` and ``<!-- /name -->`` of a file.

    Raises
    ------
    ValueError
        A table has no place, or a place no table.
    """
    text = path.read_text(encoding="utf-8")
    for name, content in tables.items():
        start, stop = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(stop)
        if not (found and closed):
            raise ValueError(f"{path}: expected lines {start.strip()} and {stop.strip()}")
        text = f"{before}{start}\n{content}\n\n{stop}{after}"
    places = text.count("<!-- /")
    if places != len(tables):
        raise ValueError(f"{path}: expected a table for each place, found {len(tables)} for {places}")
    path.write_text(text, encoding="utf-8")
