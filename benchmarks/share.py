"""What a plain process does with its share of a corpus; imports no more than such a process would."""

from pathlib import Path

import pyarrow.parquet as pq

BATCH = 2_000  # rows: Ray hands out 1,024 at a time, Spark 10,000


def embed_file(embed, source, target):
    """Embed a Parquet file into another, and return the anonymous memory of this process in bytes."""
    with pq.ParquetFile(source) as file, pq.ParquetWriter(target, embed.schema(file.schema_arrow)) as writer:
        for batch in file.iter_batches(BATCH, use_threads=False):
            writer.write_batch(embed(batch))
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024
