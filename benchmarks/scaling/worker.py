"""What a process of its own does, one thread each: embeds a Parquet file, gathers from a cold store, counts.

python -m benchmarks.scaling.worker TASK ARGUMENTS    # prints "ready", waits for a line, prints JSON
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vecstore
from benchmarks.datasets import numbered_keys
from benchmarks.scaling.timing import anonymous, peak_of, times

MERGES = 3
Task = Callable[[], dict[str, Any]]


def embed(store: str, source: str, target: str, batch_rows: str) -> Task:
    """Read texts, embed them, write id and vector: the whole work of a worker, once before it is measured."""
    function = vecstore.EmbedTexts(store=store)
    chain(function, source, target, int(batch_rows))

    def run() -> dict[str, Any]:
        start, used = time.perf_counter(), time.process_time()
        documents, highest = chain(function, source, target, int(batch_rows))
        return {
            "seconds": time.perf_counter() - start,
            "processor": time.process_time() - used,
            "documents": documents,
            "anonymous": highest,
            "written": Path(target).stat().st_size,
        }

    return run


def chain(function: vecstore.EmbedTexts, source: str, target: str, batch_rows: int) -> tuple[int, int]:
    """Return the number of documents and the most anonymous memory after a batch."""
    documents = highest = 0
    writer = None
    with pq.ParquetFile(source, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_rows, use_threads=False):
            table = function(pa.Table.from_batches([batch])).drop_columns(["text"])
            writer = writer or pq.ParquetWriter(target, table.schema, compression="none", use_dictionary=False)
            writer.write_table(table)
            documents += len(table)
            highest = max(highest, anonymous())
    assert writer is not None
    writer.close()
    return documents, highest


def idle(store: str) -> Task:
    """Open a store and find a key."""
    vecstore.open(store).find(["the"])
    return lambda: {"anonymous": anonymous()}


def cold(store: str, rows: str) -> Task:
    """Gather random rows of a store that lies in no cache, all of them asked for at once."""

    def run() -> dict[str, Any]:
        opened = vecstore.open(store)
        chosen = np.random.default_rng(0).integers(0, len(opened), int(rows))
        start = time.perf_counter()
        opened.gather(chosen)
        return {"seconds": time.perf_counter() - start}

    return run


def counts(distinct: str) -> Task:
    """Count so many distinct tokens, twice, half of them the same; then merge the two."""
    return lambda: count_and_merge(int(distinct))


def count_and_merge(number: int) -> dict[str, Any]:
    """Return the memory and the time of both."""
    vecstore.count(vecstore.Tokens.of([["warm"]])) + vecstore.count(["warm"])
    parts, peaks, kept = [], [], []
    for first in (0, number // 2):
        keys = numbered_keys(np.arange(first, first + number))
        offsets = np.frombuffer(keys.buffers()[1], np.int64)
        data = np.frombuffer(keys.buffers()[2], np.uint8)
        batch = vecstore.Tokens(vecstore.keys.KeyBatch.from_offsets(data, offsets), [0, number])
        gc.collect()
        before = anonymous()
        counted, peak = peak_of(lambda batch=batch: vecstore.count(batch))
        gc.collect()
        parts.append(counted)
        kept.append(anonymous() - before)
        peaks.append(peak)
    total, merge_peak = peak_of(lambda: parts[0] + parts[1])
    assert len(total) == number + number // 2
    return {
        "distinct": number,
        "peak": max(peaks),
        "kept": max(kept),
        "merged": 2 * number,
        "merge_peak": merge_peak,
        "merge_seconds": times({"merge": lambda: parts[0] + parts[1]}, MERGES)["merge"].processor,
    }


if __name__ == "__main__":
    os.environ["VECSTORE_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    task = {"embed": embed, "idle": idle, "cold": cold, "counts": counts}[sys.argv[1]](*sys.argv[2:])
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(task()), flush=True)
