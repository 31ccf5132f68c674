"""What one core does, and what two do: the parts of a job over texts, and a worker's whole chain."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vecstore
from benchmarks.scaling import corpora
from benchmarks.scaling.tables import duration, percent, rate, size, table
from benchmarks.scaling.timing import on, times
from vecstore.threads import split

LENGTHS = (20, 50, 200)
VOCABULARY = 50_000
BATCH_ROWS = 8_192
ROW_GROUP = 16_384
ROOT = Path(__file__).parents[2]


def measure(folder: Path, store: Path, keys: list[str], tokens: int, turns: int) -> dict[str, Any]:
    """Measure all parts; `tokens` is the size of each corpus."""
    parts = {}
    chains = {}
    for length in LENGTHS:
        texts = corpora.zipf_texts(keys, tokens // length, length)
        path = folder / f"texts{length}.parquet"
        ids = pa.array(np.arange(len(texts)))
        pq.write_table(pa.table({"id": ids, "text": texts}), path, compression="zstd", row_group_size=ROW_GROUP)
        parts[length] = {
            "documents": len(texts),
            "tokens": tokens,
            "bytes": int(np.frombuffer(texts.buffers()[1], np.int64)[-1]),
            "compressed": path.stat().st_size,
            "seconds": _time_parts(store, path, texts, length, turns),
        }
        chains[length] = _time_chains(folder, store, path, turns)
    dim = vecstore.open(store).dim
    return {"parts": parts, "chains": chains, "writes": _time_writes(folder, tokens // LENGTHS[0], dim, turns)}


def _time_parts(store: Path, path: Path, texts: pa.Array, length: int, turns: int) -> dict[str, dict[str, float]]:
    opened = vecstore.open(store)
    corpus = pa.table({"text": texts})
    encode = vecstore.EncodeTexts(vocabulary=vecstore.count(texts).vocabulary(max_size=VOCABULARY), length=length)
    works = {
        "read Parquet, zstd": lambda: pq.read_table(path, columns=["text"], use_threads=_several(), pre_buffer=False),
        "count": lambda: vecstore.count(texts),
        f"encode, {VOCABULARY:,} words": lambda: encode(corpus),
        "embed, mean": lambda: opened.embed(texts),
    }
    timed = [times({name: on(number, work) for name, work in works.items()}, turns) for number in (1, 2)]
    return {
        name: {"processor": timed[0][name].processor, "threads": timed[0][name].shortest / timed[1][name].shortest}
        for name in works
    }


def _several() -> bool:
    return os.environ["VECSTORE_NUM_THREADS"] != "1"


def _time_writes(folder: Path, rows: int, dim: int, turns: int) -> dict[str, Any]:
    vectors = np.random.default_rng(0).standard_normal((rows, dim), np.float32)
    batch = pa.table({"vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)})
    target = np.empty_like(vectors)

    def copy(start: int, stop: int) -> None:
        np.copyto(target[start:stop], vectors[start:stop])

    def synced() -> None:
        with (folder / "synced").open("wb") as file:
            file.write(vectors.data)
            file.flush()
            os.fsync(file.fileno())

    works = {
        "write Parquet, plain": lambda: pq.write_table(
            batch, folder / "plain.parquet", compression="none", use_dictionary=False
        ),
        "write Parquet, zstd": lambda: pq.write_table(
            batch, folder / "zstd.parquet", compression="zstd", use_dictionary=False
        ),
        "write .npy": lambda: np.save(folder / "vectors.npy", vectors),
        "write, fsync": synced,
        "copy in memory, 1 thread": on(1, lambda: split(copy, rows, 1)),
        "copy in memory, 2 threads": on(2, lambda: split(copy, rows, 1)),
    }
    seconds = {name: timed.shortest for name, timed in times(works, turns).items()}
    written = {name: (folder / f"{name}.parquet").stat().st_size for name in ("plain", "zstd")}
    return {"rows": rows, "bytes": vectors.nbytes, "seconds": seconds, "written": written}


class Worker:
    """A process of its own that is ready; see `worker`."""

    def __init__(self, task: str, *arguments: object) -> None:
        command = [sys.executable, "-m", "benchmarks.scaling.worker", task, *map(str, arguments)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._read()
        if line != "ready\n":
            raise RuntimeError(f"worker {task}: expected 'ready', found {line!r}")

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def go(self) -> None:
        """Set it to work."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what it says."""
        answer: dict[str, Any] = json.loads(self._read())
        return answer

    def end(self) -> None:
        """Send it home."""
        self._process.communicate()


def ask_worker(task: str, *arguments: object, before: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Return what a new process says, set to work once it is ready and after `before`."""
    worker = Worker(task, *arguments)
    before()
    worker.go()
    answer = worker.answer()
    worker.end()
    return answer


def _time_chains(folder: Path, store: Path, source: Path, turns: int) -> list[dict[str, Any]]:
    """Return what one process takes, and what each of two takes that are at work at once."""
    both = [Worker("embed", store, source, folder / f"out{i}.parquet", BATCH_ROWS) for i in range(2)]
    answers: list[list[list[dict[str, Any]]]] = [[], []]
    for turn in range(turns):
        for number in (1, 2) if turn % 2 else (2, 1):
            for worker in both[:number]:
                worker.go()
            answers[number - 1].append([worker.answer() for worker in both[:number]])
    for worker in both:
        worker.end()
    return [_summary(turns_of) for turns_of in answers]


def _summary(turns: list[list[dict[str, Any]]]) -> dict[str, Any]:
    documents = turns[0][0]["documents"]
    return {
        "documents": documents * len(turns[0]),
        "seconds": min(max(answer["seconds"] for answer in turn) for turn in turns),
        "processor": statistics.median(answer["processor"] / documents for turn in turns for answer in turn),
        "written": turns[0][0]["written"] / documents,
        "anonymous": max(answer["anonymous"] for turn in turns for answer in turn),
    }


def render(found: dict[str, Any]) -> dict[str, str]:
    """Return the tables."""
    rows = []
    for name in next(iter(found["parts"].values()))["seconds"]:
        for length, part in found["parts"].items():
            took = part["seconds"][name]
            seconds = took["processor"]
            rates = [
                rate(part[what] / seconds, unit) for what, unit in (("documents", ""), ("tokens", ""), ("bytes", "B"))
            ]
            rows.append([name, str(length), *rates, f"{took['threads']:.2f}x"])
    head = ["one thread", "tokens a document", "documents", "tokens", "bytes of text", "two threads"]
    writes = found["writes"]
    written = []
    for name, seconds in writes["seconds"].items():
        packed = writes["written"].get(name.removeprefix("write Parquet, "))
        share = percent(packed / writes["bytes"]) if packed else ""
        written.append([name, rate(writes["rows"] / seconds), rate(writes["bytes"] / seconds, "B"), share])
    chains = []
    for length, (one, two) in found["chains"].items():
        part = found["parts"][length]
        chains.append(
            [
                str(length),
                rate(1 / one["processor"]),
                rate(int(length) / one["processor"]),
                duration(one["processor"]),
                duration(two["processor"]),
                f"{2 * one['seconds'] / two['seconds']:.2f}x",
                size(part["compressed"] / part["documents"]),
                size(one["written"]),
            ]
        )
    return {
        "parts": table(head, rows),
        "writes": table(["vectors of 300 float32", "vectors", "bytes of vectors", "written"], written),
        "chain": table(
            [
                "tokens a document",
                "documents",
                "tokens",
                "a document takes",
                "with two at work",
                "two processes",
                "read a document",
                "written a document",
            ],
            chains,
        ),
    }


def seconds_per_document(found: dict[str, Any], length: int) -> float:
    """Return the processor time of a document where every core that was measured is at work."""
    seconds: float = found["chains"][length][1]["processor"]
    return seconds
