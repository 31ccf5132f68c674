"""Commands on files of texts: to a vocabulary, to ids, to vectors."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import vecstore
from vecstore.batches import BatchFunction
from vecstore.choices import BadRows, CorpusFormat, PoolingName, Side
from vecstore.cli.app import Overwrite, Store, VocabularyFile, app, open_store, progress_bar
from vecstore.threads import num_threads
from vecstore.tokenizer import FILTERS

__all__ = ["embed", "encode", "vocab"]

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT", help="A file or a folder of files: Parquet, CSV, JSON lines, text with a text a line."
    ),
]
Target = Annotated[
    Path, typer.Option("--out", "-o", metavar="OUT", help="NAME.parquet, NAME.npy, or a folder for Parquet files.")
]
Column = Annotated[str, typer.Option("--column", "-c", metavar="NAME", help="The column of texts.")]
InputFormat = Annotated[CorpusFormat, typer.Option("--format", help="Of the input; auto: by the names of files.")]
Delimiter = Annotated[str | None, typer.Option(help="Of CSV. [a comma; a tab in .tsv]", show_default=False)]
Keep = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="A column to keep, and no others but these. [all]")
]
OnBadRows = Annotated[BadRows, typer.Option("--bad-rows", help="Stop at a row that cannot be read, or leave it out.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes that work. [one for each CPU]", show_default=False)]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew, even if parts are there.")]
Filters = Annotated[str, typer.Option(help="Characters that separate tokens.", show_default="as Keras's Tokenizer")]
Lower = Annotated[bool, typer.Option("--lower/--no-lower", help="Lower-case texts first.")]
Split = Annotated[str, typer.Option(help="What separates tokens too.", show_default="a space")]


@app.command()
def vocab(
    source: Input,
    target: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT", help="Counts, NAME.parquet; or a vocabulary, NAME.json or NAME.txt."
        ),
    ],
    column: Column = "text",
    min_count: Annotated[int, typer.Option(min=1, help="Occurrences that a key of a vocabulary needs.")] = 1,
    max_size: Annotated[int | None, typer.Option(min=0, help="Keys of a vocabulary at most.")] = None,
    filters: Filters = FILTERS,
    lower: Lower = True,
    split: Split = " ",
    format: InputFormat = "auto",
    delimiter: Delimiter = None,
    bad_rows: OnBadRows = "error",
    workers: Workers = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
) -> None:
    """Count the tokens of texts; write the counts, or the vocabulary with the most frequent token first."""
    tokenizer = vecstore.Tokenizer(filters=filters, lower=lower, split=split)
    _process(
        vecstore.CountTexts(column=column, tokenizer=tokenizer),
        source,
        target,
        keep=[],
        min_count=min_count,
        max_size=max_size,
        format=format,
        delimiter=delimiter,
        bad_rows=bad_rows,
        workers=workers,
        overwrite=overwrite,
        restart=restart,
    )


@app.command()
def encode(
    vocabulary: VocabularyFile,
    source: Input,
    target: Target,
    column: Column = "text",
    length: Annotated[int | None, typer.Option(min=1, help="Ids of each text. [as many as tokens]")] = None,
    padding: Annotated[Side, typer.Option(help="Where shorter texts are filled up.")] = "pre",
    truncating: Annotated[Side, typer.Option(help="Where longer texts are cut.")] = "pre",
    value: Annotated[int, typer.Option(help="What fills up.")] = 0,
    num_words: Annotated[int | None, typer.Option(min=1, help="Ids from this on are out of vocabulary.")] = None,
    oov_token: Annotated[str | None, typer.Option(help="The key whose id tokens out of vocabulary get.")] = None,
    into: Annotated[str, typer.Option(metavar="NAME", help="The column of ids.")] = "ids",
    keep: Keep = None,
    filters: Filters = FILTERS,
    lower: Lower = True,
    split: Split = " ",
    format: InputFormat = "auto",
    delimiter: Delimiter = None,
    bad_rows: OnBadRows = "error",
    workers: Workers = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
) -> None:
    """Write the ids of the tokens of texts, as Keras's texts_to_sequences and pad_sequences give them."""
    function = vecstore.EncodeTexts(
        vocabulary=vocabulary.absolute(),
        column=column,
        tokenizer=vecstore.Tokenizer(filters=filters, lower=lower, split=split),
        into=into,
        length=length,
        padding=padding,
        truncating=truncating,
        value=value,
        num_words=num_words,
        oov_token=oov_token,
    )
    _process(
        function,
        source,
        target,
        keep=keep,
        format=format,
        delimiter=delimiter,
        bad_rows=bad_rows,
        workers=workers,
        overwrite=overwrite,
        restart=restart,
    )


@app.command()
def embed(
    path: Store,
    source: Input,
    target: Target,
    column: Column = "text",
    pooling: Annotated[PoolingName, typer.Option(help="How a text's vectors become one.")] = "mean",
    counts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of --pooling sif: counts that `vecstore vocab` wrote.")
    ] = None,
    a: Annotated[float, typer.Option("--a", help="Of --pooling sif.")] = 1e-3,
    normalize: Annotated[bool, typer.Option("--normalize", help="Divide each vector by its length.")] = False,
    into: Annotated[str, typer.Option(metavar="NAME", help="The column of vectors.")] = "vector",
    known_into: Annotated[
        str | None, typer.Option(metavar="NAME", help="A column for how many tokens of each text are known.")
    ] = None,
    keep: Keep = None,
    filters: Filters = FILTERS,
    lower: Lower = True,
    split: Split = " ",
    format: InputFormat = "auto",
    delimiter: Delimiter = None,
    bad_rows: OnBadRows = "error",
    workers: Workers = None,
    overwrite: Overwrite = False,
    restart: Restart = False,
) -> None:
    """Write a vector for each text, made of the vectors of its known tokens; without one, zeros."""
    store = open_store(path)
    function = vecstore.EmbedTexts(
        store=store.address or str(store.path),
        column=column,
        tokenizer=vecstore.Tokenizer(filters=filters, lower=lower, split=split),
        into=into,
        pooling=pooling,
        counts=None if counts is None else str(counts.absolute()),
        a=a,
        normalize=normalize,
        known_into=known_into,
    )
    _process(
        function,
        source,
        target,
        keep=keep,
        format=format,
        delimiter=delimiter,
        bad_rows=bad_rows,
        workers=workers,
        overwrite=overwrite,
        restart=restart,
    )


def _process(function: BatchFunction, source: Path, target: Path, *, workers: int | None, **options: Any) -> None:
    with progress_bar() as progress, _telling_what_stays(target):
        report = vecstore.process_files(
            function, source, target, workers=workers or num_threads(), progress=progress, **options
        )
    print(report)


@contextmanager
def _telling_what_stays(target: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from vecstore.jobs.parts import unfinished

        if unfinished(target).exists():
            print(f"vecstore: {unfinished(target)} keeps the finished parts; the same command goes on", file=sys.stderr)
        raise
