"""Files of texts to files of vectors, ids or counts: the same functions that engines run, on one machine."""

import os
from collections.abc import Sequence
from pathlib import Path

from vecstore.batches import BatchFunction
from vecstore.choices import BadRows, CorpusFormat
from vecstore.progress import ProgressCallback
from vecstore.report import JobReport

__all__ = ["process_files"]


def process_files(
    function: BatchFunction,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    keep: Sequence[str] | None = None,
    format: CorpusFormat = "auto",
    delimiter: str | None = None,
    bad_rows: BadRows = "error",
    min_count: int = 1,
    max_size: int | None = None,
    workers: int = 1,
    overwrite: bool = False,
    restart: bool = False,
    progress: ProgressCallback | None = None,
) -> JobReport:
    """Apply a function to all rows of a file or folder.

    Memory does not grow with the corpus. The corpus is cut into parts of at most 32,768 rows, which are kept in the
    folder ``TARGET.unfinished`` until all are there. If the process is killed or stopped, the same call goes on with
    them, and the result is the same, byte for byte, as it is with any number of workers. Parts of other settings, of
    another store or of files that changed are an error; of a tokenizer's `analyzer` the name alone is compared.

    Parameters
    ----------
    function : EmbedTexts, EncodeTexts or CountTexts
        Says in which column the texts are, and what is made of them.
    source : path
        A file or a folder of files: Parquet, CSV with a header, JSON lines, text with a text a line; all but Parquet
        also packed. Columns in the names of folders (``lang=en/``) are read; files that begin with ``.`` or ``_`` are
        not.
    target : path
        ``NAME.parquet``, one file; ``NAME.npy``, an array (n, d) of float32 or (n, length) of int32 with the
        function's column alone; any other name, a folder of Parquet files. Of `CountTexts`: ``NAME.parquet``, as
        `Counts.save` writes it, or a vocabulary, ``NAME.json`` or ``NAME.txt``, as `Counts.vocabulary` orders it.
    keep : sequence of str, optional
        The columns that the result has too; by default all. Without it a file with other columns than the first is an
        error.
    format : {"auto", "parquet", "csv", "json", "text"}
        By default what the names of files end in.
    delimiter : str, optional
        Of CSV; by default a comma, a tab in ``.tsv``.
    bad_rows : {"error", "skip"}
        What to do with a row that is no UTF-8, has other columns or types than the first rows have, or cannot be read.
    min_count, max_size
        Of a vocabulary: as in `Counts.vocabulary`.
    workers : int, default 1
        Processes that work. One is this process, with all its threads; several are new ones, which share the threads
        among them and the store's pages. A script then has to call this under ``if __name__ == "__main__":``.
    overwrite : bool, default False
        Whether a target that is there is replaced, once the new one is complete.
    restart : bool, default False
        Whether parts that are there are removed, whatever job they are of.
    progress : callable, optional
        Called with a `Progress` several times a second.

    Returns
    -------
    JobReport

    Raises
    ------
    FileNotFoundError
        Nothing is at `source`.
    FormatError
        A file or a row cannot be read, which it names; or the column holds no texts.
    KeyError
        A column is missing.
    ValueError
        The target cannot hold the result, or an option is wrong.
    TargetError
        The target exists or cannot be written, another process is at work on it, or there are parts of another job.
    VecstoreError
        A worker was killed.

    Examples
    --------
    >>> embed = vecstore.EmbedTexts(store="glove.vecstore", column="review")
    >>> report = vecstore.process_files(embed, "reviews.csv", "vectors.npy")
    >>> report.rows, report.known
    (2, 4)
    """
    from vecstore.jobs.corpus import Corpus
    from vecstore.jobs.outputs import output_for
    from vecstore.jobs.run import run

    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers: expected a number of 1 or more, found {workers!r}")
    if isinstance(keep, str):
        raise TypeError(f"keep: expected names of columns, found one str: {keep!r}")
    if bad_rows not in ("error", "skip"):
        raise ValueError(f"bad_rows: expected 'error' or 'skip', found {bad_rows!r}")
    path = Path(target).absolute()
    if Path(source).resolve() in (path.resolve(), *path.resolve().parents):
        raise ValueError(f"{target}: expected a target that is neither {source} nor in it, where it would be input")
    corpus = Corpus.of(Path(source), function.column, keep=keep, format=format, delimiter=delimiter)
    return run(
        function,
        corpus,
        output_for(function, corpus.schema, path, min_count, max_size),
        path,
        bad_rows=bad_rows,
        workers=workers,
        overwrite=overwrite,
        restart=restart,
        progress=progress or (lambda progress: None),
    )
