"""The command's application, which other modules add commands to, and what these share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import rich.progress
import typer
from rich.console import Console

import vecstore
from vecstore.progress import Progress, ProgressCallback

__all__ = ["Overwrite", "Store", "VocabularyFile", "app", "open_store", "progress_bar"]

app = typer.Typer(
    help="A memory-mapped store for pre-trained word vectors.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Store = Annotated[
    str,
    typer.Argument(metavar="STORE", help="A folder that `vecstore convert` made, or its address, such as s3://..."),
]
VocabularyFile = Annotated[
    Path,
    typer.Argument(
        metavar="VOCABULARY", help="Text with a key a line; or .json: a word_index, a list, Tokenizer.to_json()."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def open_store(path: str) -> vecstore.VectorStore:
    """Open a store; if it is to be copied first, with a progress bar."""
    with progress_bar() as progress:
        return vecstore.open(path, progress=progress)


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Show progress on stderr while the context lasts, if stderr is a terminal."""
    console = Console(stderr=True)
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("{task.fields[amount]}"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(progress: Progress) -> None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bar.add_task(progress.stage, total=progress.total or None, amount="")
            task = tasks[progress.stage]
            bar.update(task, completed=progress.done, amount=_amount(progress, bar.tasks[task].speed))

        yield show


def _amount(progress: Progress, speed: float | None) -> str:
    """Say how much is done, and how fast."""
    if progress.unit != "bytes":
        return f"{progress.done:,}/{progress.total:,} {progress.unit}"
    rate = f", {progress.note}" if progress.note else f", {speed / 1e6:,.0f} MB/s" if speed else ""
    total = f"/{progress.total / 1e6:,.0f}" if progress.total else ""
    return f"{progress.done / 1e6:,.0f}{total} MB{rate}"
