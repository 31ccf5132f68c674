"""What a process of its own does, one thread each: embeds a Parquet file, gathers from a cold store, counts.

python -m benchmarks.scaling.worker TASK ARGUMENTS    # prints "ready", waits for a line, prints JSON
"""

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import vecstore
from benchmarks.datasets import numbered_keys
from benchmarks.scaling.timing import anonymous, peak_of


def wait() -> None:
    """Tell the parent that all is ready, and go when it says so."""
    print("ready", flush=True)
    sys.stdin.readline()


def embed(store: str, source: str, target: str, batch_rows: str) -> dict[str, Any]:
    """Read texts, embed them, write id and vector: the whole work of a worker."""
    function = vecstore.EmbedTexts(store=store)
    chain(function, source, target, int(batch_rows))  # opens the store, loads the kernels, touches the rows
    wait()
    start, used = time.perf_counter(), time.process_time()
    documents, highest = chain(function, source, target, int(batch_rows))
    return {
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - used,
        "documents": documents,
        "anonymous": highest,
        "written": Path(target).stat().st_size,
    }


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


def idle(store: str) -> dict[str, Any]:
    """Open a store and find a key."""
    vecstore.open(store).find(["the"])
    wait()
    return {"anonymous": anonymous()}


def cold(store: str, rows: str) -> dict[str, Any]:
    """Gather random rows of a store that lies in no cache, all of them asked for at once."""
    wait()
    opened = vecstore.open(store)
    chosen = np.random.default_rng(0).integers(0, len(opened), int(rows))
    start = time.perf_counter()
    opened.gather(chosen)
    return {"seconds": time.perf_counter() - start}


def counts(distinct: str) -> dict[str, Any]:
    """Count so many distinct tokens, twice, half of them the same; then merge the two."""
    number = int(distinct)
    wait()
    vecstore.count(vecstore.Tokens.of([["warm"]])) + vecstore.count(["warm"])
    parts, peaks, kept, seconds = [], [], [], []
    for first in (0, number // 2):
        keys = numbered_keys(np.arange(first, first + number))
        offsets = np.frombuffer(keys.buffers()[1], np.int64)
        data = np.frombuffer(keys.buffers()[2], np.uint8)
        batch = vecstore.Tokens(vecstore.keys.KeyBatch.from_offsets(data, offsets), [0, number])
        gc.collect()
        before = anonymous()
        counted, peak, taken = peak_of(lambda batch=batch: vecstore.count(batch))
        gc.collect()
        parts.append(counted)
        kept.append(anonymous() - before)
        peaks.append(peak)
        seconds.append(taken)
    total, merge_peak, merge_seconds = peak_of(lambda: parts[0] + parts[1])
    assert len(total) == number + number // 2
    return {
        "distinct": number,
        "peak": max(peaks),
        "kept": max(kept),
        "seconds": min(seconds),
        "merged": 2 * number,
        "merge_peak": merge_peak,
        "merge_seconds": merge_seconds,
    }


if __name__ == "__main__":
    os.environ["VECSTORE_NUM_THREADS"] = "1"
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    task = {"embed": embed, "idle": idle, "cold": cold, "counts": counts}[sys.argv[1]]
    print(json.dumps(task(*sys.argv[2:])))
