"""The files of a corpus: which there are, what they were when the job began, and of which format they are.

Files, and the columns that the names of folders give (``lang=en/``), are those that ``pyarrow.dataset`` finds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from vecstore.choices import CorpusFormat
from vecstore.errors import FormatError

__all__ = ["FORMATS", "CorpusFile", "find_files", "format_of"]

_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip"}
FORMATS: dict[str, CorpusFormat] = {
    **{".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "text"},
    **{".jsonl": "json", ".ndjson": "json", ".json": "json"},
}
"""What the suffix of a file's name says of its format."""


@dataclass(frozen=True)
class CorpusFile:
    """A file as it was when the job began, and the columns that the names of its folders give."""

    path: str
    size: int
    modified: int
    constants: dict[str, Any] = field(default_factory=dict)


def find_files(source: Path) -> tuple[list[CorpusFile], pa.Schema]:
    """Return the files of a corpus in the order of their names, and the columns that the names of folders give."""
    source = source.absolute()
    if not source.exists():
        raise FileNotFoundError(2, "No such file or folder", str(source))
    if not source.is_dir():
        state = source.stat()
        return [CorpusFile(str(source), state.st_size, state.st_mtime_ns)], pa.schema([])
    # Imported here, as it imports pandas, 33 MB: workers do without, and so do jobs on one file.
    from pyarrow import dataset, fs

    factory = dataset.FileSystemDatasetFactory(
        fs.LocalFileSystem(),
        fs.FileSelector(str(source), recursive=True),
        dataset.ParquetFileFormat(),  # of which only the names are looked at
        dataset.FileSystemFactoryOptions(
            partition_base_dir=str(source), partitioning=dataset.HivePartitioning.discover()
        ),
    )
    constants = factory.inspect(fragments=0)
    files = []
    for fragment in factory.finish(constants).get_fragments():
        state = Path(fragment.path).stat()
        keys = dataset.get_partition_keys(fragment.partition_expression)
        files.append(CorpusFile(fragment.path, state.st_size, state.st_mtime_ns, keys))
    if not files:
        raise FormatError(f"{source}: expected files of texts, found none; those that begin with . or _ are left out")
    return sorted(files, key=lambda file: file.path), constants


def format_of(files: Sequence[CorpusFile], source: Path) -> CorpusFormat:
    """Return the format that the names of all files say."""
    formats: dict[CorpusFormat, str] = {}
    for file in files:
        suffixes = [suffix.lower() for suffix in Path(file.path).suffixes]
        if suffixes and suffixes[-1] in _PACKED:
            suffixes.pop()
        if not suffixes or suffixes[-1] not in FORMATS:
            known = ", ".join(FORMATS)
            raise FormatError(
                f"{file.path}: expected one of {known}; for another name say what it is: --format (format=)"
            )
        formats.setdefault(FORMATS[suffixes[-1]], file.path)
    if len(formats) > 1:
        raise FormatError(f"{source}: expected files of one format, found {' and '.join(formats.values())}")
    return next(iter(formats))
