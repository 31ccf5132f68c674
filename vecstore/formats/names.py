"""What the name of a source says: an archive and its member, and the files that are read; nothing of them is read."""

import os
from pathlib import Path

__all__ = ["STANDARD_INPUT", "files_of", "keys_path", "split_member"]

STANDARD_INPUT = Path("-")
"""The path that stands for standard input."""


def split_member(source: Path) -> tuple[Path, str | None]:
    """Split ``archive::member``; a path that exists as it is has no member."""
    archive, separator, member = str(source).partition("::")
    if not separator or os.path.exists(source) or not os.path.exists(archive):  # Path.exists raises for long names
        return source, None
    return Path(archive), member


def keys_path(path: Path) -> Path:
    """Return where the keys of a matrix are: ``NAME.keys.txt`` beside ``NAME.npy``."""
    return path.with_suffix(".keys.txt")


def files_of(source: Path, row_keys: Path | None = None) -> list[Path]:
    """Return the files that a source is read from, the one with the vectors first; nothing of them is read."""
    path, _ = split_member(source)
    if path.is_dir():
        return [path / "model.safetensors", path / "tokenizer.json"]
    beside = row_keys or keys_path(path)
    return [path, beside] if os.path.isfile(beside) else [path]  # Path.is_file raises for long names
