"""A corpus embedded on two cores by each engine's workers, beside plain processes: what an engine itself costs.

All do the same: read Parquet files, call the same function on one CPU a worker, write Parquet files. Engines run and
have read their imports before any time is taken; all of them are up all the time.
"""

import os
import shutil
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from share import embed_file

import vecstore
from vecstore.demo import glove_6b_50d

TEXTS = 200_000
TOKENS = 50
WORDS = 50_000
UNTIMED_TEXTS = 2_000
FILES = 8
WORKERS = 2
OBJECTS = 1 << 30  # bytes that Ray keeps at most


class Processes:
    """A contestant: plain processes, a file at a time."""

    def __init__(self, stack, workers, sources):
        self.pool = stack.enter_context(ProcessPoolExecutor(workers, get_context("spawn")))
        self.sources, self.memory = sources, 0

    def __call__(self, embed, target):
        """Embed every file into `target`."""
        target.mkdir()
        targets = [target / source.name for source in self.sources]
        self.memory = max(self.pool.map(embed_file, [embed] * len(targets), self.sources, targets))


def ray(stack, sources):
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    settings = {"log_to_driver": False, "logging_level": "ERROR", "object_store_memory": OBJECTS}
    ray.init("local", num_cpus=WORKERS, include_dashboard=False, _node_ip_address="127.0.0.1", **settings)
    stack.callback(ray.shutdown)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    def run(embed, target):
        ray.data.read_parquet(list(map(str, sources))).map_batches(embed, batch_format="pyarrow").write_parquet(target)

    return run


def spark(stack, sources):
    from pyspark.sql import SparkSession

    os.environ.update(PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
    builder = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.driver.memory", "2g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    session = builder.getOrCreate()
    stack.callback(session.stop)
    session.sparkContext.setLogLevel("ERROR")

    def run(embed, target):
        frame = session.read.parquet(*map(str, sources))
        frame.mapInArrow(embed, embed.spark_schema(frame.schema)).write.parquet(str(target))

    return run


def dask(stack, sources):
    import dask.dataframe
    from dask.distributed import Client, LocalCluster

    own = {"host": "127.0.0.1", "dashboard_address": None, "local_directory": stack.enter_context(_folder())}
    cluster = stack.enter_context(LocalCluster(n_workers=WORKERS, threads_per_worker=1, **own))
    stack.enter_context(Client(cluster))

    def run(embed, target):
        frame = dask.dataframe.read_parquet(list(map(str, sources)))
        frame.map_partitions(embed).to_parquet(str(target), write_index=False)

    return run


def _folder():
    return tempfile.TemporaryDirectory(prefix="vecstore-", ignore_cleanup_errors=True)


@pytest.fixture(scope="module")
def corpus(folder, pytestconfig):
    """Write texts of GloVe's words, as Zipf's law has it, to Parquet files; return these and the texts."""
    count = UNTIMED_TEXTS if pytestconfig.getoption("benchmark_disable") else TEXTS
    keys = np.array([key for key in glove_6b_50d()[0][:WORDS] if key.isalpha()], object)
    chances = 1 / np.arange(1, len(keys) + 1)
    words = keys[np.random.default_rng(0).choice(len(keys), (count, TOKENS), p=chances / chances.sum())]
    table = pa.table({"id": range(count), "text": [" ".join(text) for text in words.tolist()]})
    sources = [folder / "corpus" / f"{i}.parquet" for i in range(FILES)]
    sources[0].parent.mkdir()
    for i, source in enumerate(sources):
        pq.write_table(table.slice(i * count // FILES, count // FILES), source)
    return sources, table["text"]


@pytest.fixture
def contestants(corpus, pytestconfig, monkeypatch):
    """Start everyone, with a thread a worker."""
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "1")
    sources, _ = corpus
    started = {"Ray Data": ray, "Dask": dask}
    if shutil.which("java") or pytestconfig.getoption("complete"):
        started["Spark"] = spark
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the engines' own
        plain = {f"{WORKERS} processes": Processes(stack, WORKERS, sources), "1 process": Processes(stack, 1, sources)}
        engines = {}
        for name, start in started.items():
            # Dask sets in this process what its workers are to have (MALLOC_TRIM_THRESHOLD_), and all would inherit it.
            with patch.dict(os.environ):
                engines[name] = start(stack, sources)
        yield plain | engines


def test_engines(contest, contestants, corpus, store, folder):
    _, texts = corpus
    embed = vecstore.EmbedTexts(store=store)
    expected = store.embed(texts)

    def same(target):
        vectors = pq.read_table(target, columns=["id", "vector"]).sort_by("id")["vector"]
        assert vectors.combine_chunks().flatten().to_numpy().tobytes() == expected.tobytes()

    def empty():
        shutil.rmtree(folder / "embedded", ignore_errors=True)
        return folder / "embedded"

    def turn(run):
        def call(target):
            run(embed, target)
            return target

        return call

    info = contest(
        "embed on an engine",
        f"{TEXTS:,} texts of {TOKENS} tokens, Parquet to Parquet, {WORKERS} workers of one thread",
        {name: turn(run) for name, run in contestants.items()},
        check=same,
        prepare=empty,
        rounds=7,
        patience=30,
        targets={"1 process": 1.8},
    )
    plain = next(iter(contestants))
    info["memory"] = {f"{plain}, most of either": contestants[plain].memory}
    info["memory_note"] = "Anonymous memory of a worker, its share of the corpus and the result included"
    info["memory_targets"] = {f"{plain}, most of either": 150e6}
    if "times" in info:
        info["rows_per_second"] = {name: len(texts) / time["median"] for name, time in info["times"].items()}
    empty()
