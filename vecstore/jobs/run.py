"""A job, from the corpus to the target: blocks to workers, parts noted, the target made of them."""

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecstore.batches import BatchFunction
from vecstore.choices import BadRows
from vecstore.errors import FormatError, TargetError
from vecstore.functions import EmbedTexts
from vecstore.jobs.corpus import Block, Corpus
from vecstore.jobs.outputs import Output
from vecstore.jobs.parts import Parts
from vecstore.jobs.workers import work_on
from vecstore.progress import Progress, ProgressCallback
from vecstore.report import JobReport

__all__ = ["run"]

_VERSION = 1  # of how a corpus is cut and parts are written: parts of another are not gone on with
_EVERY = 0.2  # seconds between two looks at progress
_SHOWN = 3  # bad rows whose places are reported

_Task = tuple[Block, Path]


def run(
    function: BatchFunction,
    corpus: Corpus,
    output: Output,
    target: Path,
    *,
    bad_rows: BadRows,
    workers: int,
    overwrite: bool,
    restart: bool,
    progress: ProgressCallback,
) -> JobReport:
    """Make `target`; `vecstore.process_files` says more."""
    start = time.monotonic()
    job = _describe(function, corpus, output)
    options = {"is_folder": output.is_folder, "overwrite": overwrite, "restart": restart}
    with Parts(target, job, output.suffix, **options) as parts:
        found = len(parts.finished)
        total = Counter[str]()
        for figures in parts.finished.values():
            total += figures
        if bad_rows == "error" and total["bad"]:
            raise TargetError(
                f"{parts.folder}: holds parts from which {total['bad']:,} bad rows were left out; "
                "go on in the same way, or begin anew: --restart (restart=True)"
            )
        meter = _Meter(corpus.size, total, progress)
        places: list[str] = []
        work = _Work(corpus, output, bad_rows)
        tasks = ((block, parts.new_path(block.number)) for block in corpus.blocks(frozenset(parts.finished)))
        with closing(work_on(tasks, work, workers)) as done:
            for (block, _), (figures, bad) in done:
                parts.add(block.number, figures)
                total += figures
                places += bad[: _SHOWN - len(places)]
                meter.show(block.done, total)
        progress(Progress("joining parts", 0, 0))
        parts.publish(output.join(parts.paths(), parts.folder))
    return JobReport(
        path=target,
        rows=total["rows"],
        tokens=total["tokens"],
        known=total["known"] if isinstance(function, EmbedTexts) else None,
        zeros=total["zeros"] if isinstance(function, EmbedTexts) else None,
        bad_rows=total["bad"],
        bad_places=tuple(places),
        parts=len(parts.finished),
        parts_found=found,
        seconds=time.monotonic() - start,
    )


@dataclass(frozen=True)
class _Work:
    """What a worker does with a block: write its part; return figures, and the places of a few bad rows."""

    corpus: Corpus
    output: Output
    bad_rows: BadRows

    def __call__(self, task: _Task) -> tuple[Counter[str], list[str]]:
        block, path = task
        bad: list[str] = []
        skipped = 0

        def note(row: int, reason: str) -> None:
            nonlocal skipped
            place = f"{block.file.path}, row {row:,}: {reason}"
            if self.bad_rows == "error":
                raise FormatError(f"{place}; to leave out such rows: --bad-rows skip (bad_rows='skip')")
            skipped += 1
            if len(bad) < _SHOWN:
                bad.append(place)

        figures = self.output.write(path, self.corpus.tables(block, note))
        if skipped:
            figures["bad"] = skipped
        return figures, bad


class _Meter:
    """Tells how far a job is, how many rows there were and how fast tokens go by."""

    def __init__(self, size: int, before: Counter[str], progress: ProgressCallback) -> None:
        self._size, self._progress = size, progress
        self._tokens = before["tokens"]
        self._start = time.monotonic()
        self._next = 0.0
        self._done = 0

    def show(self, done: int, total: Counter[str]) -> None:
        self._done = max(self._done, done)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        rate = (total["tokens"] - self._tokens) / max(now - self._start, 1e-9)
        note = f"{total['rows']:,} rows, {rate / 1e6:,.1f} M tokens/s"
        self._progress(Progress("working", self._done, self._size, note=note))


def _describe(function: BatchFunction, corpus: Corpus, output: Output) -> dict[str, Any]:
    """Return all that parts depend on, as JSON has it."""
    files = [[file.path, file.size, file.modified] for file in corpus.files]
    return {
        "version": _VERSION,
        "function": type(function).__name__,
        **function.describe(),
        "format": corpus.format,
        "delimiter": corpus.delimiter if corpus.format == "csv" else None,
        "columns": str(corpus.schema),
        "parts": output.suffix,
        "files": files,
    }
