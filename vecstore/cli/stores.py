"""Commands on stores: made, described, looked up, checked, written as other files."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

import vecstore
from vecstore.choices import CountMismatch, Duplicates, EncodingErrors, Format, Storage
from vecstore.cli.app import Overwrite, Store, VocabularyFile, app, open_store, progress_bar
from vecstore.export import ExportFormat, exported_files
from vecstore.staging import staged_file
from vecstore.vocabulary import read_vocabulary

__all__ = ["convert", "coverage", "demo", "export", "get", "info", "matrix", "verify"]


@app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="word2vec, GloVe, fastText .vec, .npy, safetensors or a model2vec folder, also packed (gzip, zip, "
            "bz2, xz, zstd); archive.zip::member; - for standard input.",
        ),
    ],
    target: Annotated[Path, typer.Argument(metavar="STORE", help="The folder to make.")],
    format: Annotated[Format, typer.Option(help="The format of the source.")] = "auto",
    dtype: Annotated[
        Storage,
        typer.Option(help="How numbers are stored; auto: the smallest type that holds all of them bit for bit."),
    ] = "float32",
    limit: Annotated[int | None, typer.Option(min=1, help="Read this many records and no more.")] = None,
    keys: Annotated[Path | None, typer.Option(metavar="FILE", help="Store the keys in FILE alone, one a line.")] = None,
    row_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The keys of a matrix's rows, one a line. [NAME.keys.txt]")
    ] = None,
    duplicates: Annotated[Duplicates, typer.Option(help="Which vector a repeated key gets.")] = "first",
    encoding_errors: Annotated[EncodingErrors, typer.Option(help="What to do with a key not in UTF-8.")] = "strict",
    count_mismatch: Annotated[
        CountMismatch, typer.Option(help="When there are more or fewer records than the header announces.")
    ] = "error",
    overwrite: Overwrite = False,
) -> None:
    """Turn a published file of word vectors into a store."""
    with progress_bar() as progress:
        report = vecstore.convert(
            source,
            target,
            format=format,
            dtype=dtype,
            limit=limit,
            keys=keys,
            row_keys=row_keys,
            duplicates=duplicates,
            encoding_errors=encoding_errors,
            count_mismatch=count_mismatch,
            overwrite=overwrite,
            progress=progress,
        )
    print(report)


@app.command()
def export(
    path: Store,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file to make.")],
    format: Annotated[ExportFormat, typer.Option(help="auto: by suffix, .bin, .vec, .npy or .kv.")] = "auto",
    newlines: Annotated[
        bool, typer.Option("--newlines", help="Put one after each vector of a word2vec binary.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a store as a file that other programs read."""
    store = open_store(path)
    with progress_bar() as progress:
        vecstore.export(store, target, format=format, newlines=newlines, overwrite=overwrite, progress=progress)
    size = sum(file.stat().st_size for file in exported_files(target, format))
    print(f"{target}: {len(store):,} keys x {store.dim}, {size / 1e6:,.1f} MB")


@app.command()
def info(path: Store) -> None:
    """Say what a store holds and where it came from."""
    store = open_store(path)
    metadata = store.metadata
    size = {name.removesuffix(".npy"): file["size"] / 1e6 for name, file in metadata.files.items()}
    vectors = size["vectors"] + size.get("scales", 0)
    source = metadata.source
    compression = f", {source.compression}" if source.compression else ""
    lines = {
        "keys": f"{len(store):,}",
        "dim": f"{store.dim}",
        "dtype": metadata.dtype,
        "on disk": f"{sum(size.values()):,.1f} MB (vectors {vectors:,.1f}, index {size['index']:,.1f}, "
        f"keys {size['keys'] + size['offsets']:,.1f})",
        "source": f"{source.name!r} ({source.format}{compression}, {source.size / 1e6:,.1f} MB)",
        "dropped": ", ".join(f"{count:,} {name}" for name, count in metadata.dropped.items()),
        "unusual": ", ".join(f"{count:,} {name}" for name, count in metadata.unusual.items()),
        "first keys": " ".join(map(repr, store.keys[:8])),
        "last keys": " ".join(map(repr, store.keys[-8:])),
        "written by": f"{metadata.writer}, format version {metadata.version}",
    }
    print(store.path)
    for name, text in lines.items():
        print(f"  {name:<11}{text}")


@app.command()
def get(path: Store, keys: Annotated[list[str], typer.Argument(metavar="KEY...")]) -> None:
    """Print the vectors of keys, one a line: the key, then its numbers."""
    store = open_store(path)
    for key, vector in zip(keys, store[keys], strict=True):
        print(key, *vector)


@app.command()
def coverage(path: Store, vocabulary: VocabularyFile) -> None:
    """Say how many keys of a vocabulary a store has, and which are missing."""
    print(open_store(path).matrix(read_vocabulary(vocabulary)))


@app.command()
def matrix(
    path: Store,
    vocabulary: VocabularyFile,
    out: Annotated[Path, typer.Argument(metavar="OUT.npy", help="The array to write: (rows, dim) float32.")],
    oov: Annotated[
        Literal["zeros", "mean", "normal"], typer.Option(help="The vector of a key that the store does not have.")
    ] = "zeros",
    seed: Annotated[int, typer.Option(min=0, help="Of --oov normal.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write the vectors of a vocabulary, in its row order, as a .npy file."""
    with staged_file(out, overwrite=overwrite) as file:
        result = open_store(path).matrix(read_vocabulary(vocabulary), oov=oov, seed=seed)
        np.save(file, result.vectors, allow_pickle=False)
    print(f"{out}: {result!r}")


@app.command()
def verify(path: Store) -> None:
    """Read a whole store and name each file that is damaged."""
    with progress_bar() as progress:
        problems = vecstore.verify(path, progress=progress)
    for problem in problems:
        print(f"{path}: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)
    print(f"{path}: sound")


@app.command()
def demo(
    source: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own word2vec binary instead of GloVe 6B 50d.")
    ] = None,
) -> None:
    """Convert, open, align and train on real vectors, beside gensim's way. Needs vecstore[demo]."""
    from vecstore.demo import run

    run(source, progress=progress_bar)
