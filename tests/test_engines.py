"""The functions of batches on the engines themselves, each with two worker processes, offline and on loopback.

Whatever runs them, rows are bit for bit those of one process. Each class starts its engine and stops it at its end.
"""

import inspect
import multiprocessing
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vecstore
from vecstore import functions
from vecstore.functions import CountTexts, EmbedTexts, EncodeTexts

os.environ.update(HF_HUB_OFFLINE="1", RAY_USAGE_STATS_ENABLED="0")  # read when they are imported
import datasets

TEXTS, WORDS, LENGTH = 3_000, 20_000, 12
FILES = 6
VOCABULARY = 5_000

Run = Callable[..., list[Any]]


@pytest.fixture(scope="module")
def corpus(glove_keys: list[str]) -> pa.Table:
    """Texts of GloVe's words, nulls, empty ones, and words that are not in GloVe; and their tokens."""
    rng = np.random.default_rng(0)
    others = [key for key in glove_keys if not key.isascii()][:1_000]
    words = np.array([*glove_keys[:WORDS], *others, "qwertzuiop", "Σίσυφος", "🙂"], object)
    chances = 1 / np.arange(1, len(words) + 1)
    rng.shuffle(chances[100:])
    texts: list[str | None] = []
    for i, length in enumerate(rng.integers(0, 40, TEXTS).tolist()):
        drawn = rng.choice(words, length, p=chances / chances.sum())
        texts.append(None if i % 17 == 5 else "" if i % 23 == 5 else ", ".join(drawn).capitalize() + "!")
    tokens = [None if text is None else text.split() for text in texts]
    return pa.table({"id": range(TEXTS), "text": texts, "tokens": tokens})


@pytest.fixture(scope="module")
def files(corpus: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The corpus as Parquet files, which sort in its order."""
    folder, size = tmp_path_factory.mktemp("corpus"), TEXTS // FILES
    for i in range(FILES):
        pq.write_table(corpus.slice(i * size, size), folder / f"{i}.parquet")
    return sorted(map(str, folder.iterdir()))


def as_table(results: list[Any]) -> pa.Table:
    """Return what an engine gave as one table, in the order of the corpus."""
    tables = [result if isinstance(result, pa.Table) else pa.Table.from_pandas(result) for result in results]
    return pa.concat_tables(table.replace_schema_metadata() for table in tables).sort_by("id")


def matrix_of(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)


def everything(counts: vecstore.Counts) -> tuple[object, ...]:
    return counts.word_counts(), counts.vocabulary(), counts.document_counts.tolist(), counts.documents


def watched(function: Any, folder: Path) -> Callable[[Any], Any]:
    """Return a function that also notes how many stores a call opened, and how often the process has it mapped.

    Engines pickle a function that is defined within another one by its code: their workers need not find this file.
    """
    address = function.store

    def note(before: int) -> None:
        opened = functions._opened_once.cache_info().misses - before
        maps = Path("/proc/self/maps").read_text().count(f"{address}/vectors.npy")
        with (folder / str(os.getpid())).open("a") as file:
            file.write(f"{opened} {maps}\n")

    def all_of(results: Any, before: int) -> Any:
        yield from results
        note(before)

    def call(batch: Any) -> Any:
        before = functions._opened_once.cache_info().misses
        result = function(batch)
        if isinstance(result, Iterator):
            return all_of(result, before)
        note(before)
        return result

    call.__wrapped__ = function  # type: ignore[attr-defined]
    return call


class OnAnEngine:
    """What holds on every engine: `run` gives the results of a function for the corpus, in the corpus's order."""

    @pytest.mark.parametrize("column", ["text", "tokens"])
    def test_vectors_are_those_of_one_process(self, run: Run, corpus: pa.Table, glove: Any, column: str) -> None:
        result = as_table(run(EmbedTexts(store=glove, column=column, known_into="known")))
        texts = corpus[column] if column == "text" else vecstore.Tokens.of(corpus[column])
        vectors, known = glove.embed(texts, return_counts=True)
        assert result.column_names == [*corpus.column_names, "vector", "known"]
        assert matrix_of(result["vector"]).tobytes() == vectors.tobytes()
        assert result["known"].to_pylist() == known.tolist()
        assert result["text"].to_pylist() == corpus["text"].to_pylist()

    def test_ids_are_those_of_one_process(self, run: Run, corpus: pa.Table) -> None:
        words = vecstore.count(corpus["text"]).vocabulary(max_size=VOCABULARY)
        result = as_table(run(EncodeTexts(vocabulary=words, length=LENGTH)))
        assert matrix_of(result["ids"]).tobytes() == vecstore.encode(corpus["text"], words, length=LENGTH).tobytes()
        result = as_table(run(EncodeTexts(vocabulary=words)))
        assert result["ids"].to_pylist() == vecstore.encode_ragged(corpus["text"], words).to_pylist()

    def test_counts_add_up_to_those_of_one_process(self, run: Run, corpus: pa.Table) -> None:
        results = run(CountTexts())
        assert sum(map(len, results)) > 2 * WORDS // 20  # of several batches, with what they share
        assert everything(CountTexts.reduce(results)) == everything(vecstore.count(corpus["text"]))

    def test_each_worker_opens_the_store_once(self, run: Run, glove: Any, tmp_path: Path) -> None:
        # At an address of its own, which the parent of a forked worker has not opened either.
        path = shutil.copytree(glove.path, tmp_path / "own.vecstore", copy_function=os.link)
        (tmp_path / "notes").mkdir()
        embed = EmbedTexts(store=path)
        assert as_table(run(watched(embed, tmp_path / "notes"))).num_rows == TEXTS
        notes = {
            int(file.name): [line.split() for line in file.read_text().splitlines()]
            for file in (tmp_path / "notes").iterdir()
        }
        assert notes
        for lines in notes.values():
            assert sum(int(opened) for opened, _ in lines) == 1
            assert {maps for _, maps in lines} == {"1"}


def call_pickled(pickled: bytes, batch: Any) -> Any:
    return cloudpickle.loads(pickled)(batch)


@pytest.fixture(scope="class")
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


class TestProcesses(OnAnEngine):
    """A pool of processes, one task a batch; test_batches.py tries every start method."""

    @pytest.fixture
    def run(self, executor: ProcessPoolExecutor, corpus: pa.Table) -> Run:
        def run(function: Any) -> list[Any]:
            pickled, parts = cloudpickle.dumps(function), corpus.to_batches(max_chunksize=TEXTS // FILES)
            results = executor.map(call_pickled, [pickled] * len(parts), parts)
            return [pa.Table.from_batches([result]) for result in results]

        return run


@pytest.fixture(scope="class")
def data(files: list[str]) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own imports
        import ray
        import ray.data
    ray.init(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 << 20,
        _node_ip_address="127.0.0.1",
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    yield ray.data.read_parquet(files)
    ray.shutdown()


# Ray sets these of its settings itself.
@pytest.mark.filterwarnings(r"ignore:.use_\w+. is deprecated:DeprecationWarning")
class TestRay(OnAnEngine):
    @pytest.fixture
    def run(self, data: Any) -> Run:
        import ray

        def run(function: Any, **settings: Any) -> list[Any]:
            result = data.map_batches(function, batch_format="pyarrow", batch_size=TEXTS // FILES, **settings)
            return ray.get(result.to_arrow_refs())

        return run

    def test_actors_make_the_function_themselves(self, run: Run, corpus: pa.Table, glove: Any) -> None:
        settings = {"store": str(glove.path), "normalize": True}
        # An actor keeps its CPU, and somebody has to read: two would wait for ever.
        result = as_table(run(EmbedTexts, fn_constructor_kwargs=settings, concurrency=1))
        assert matrix_of(result["vector"]).tobytes() == glove.embed(corpus["text"], normalize=True).tobytes()

    def test_default_batches_are_an_error_that_says_what_to_ask_for(self, data: Any) -> None:
        import ray.exceptions

        with pytest.raises(ray.exceptions.RayTaskError, match="found dict; Ray Data: batch_format='pyarrow'"):
            data.map_batches(CountTexts()).take_all()


@pytest.fixture(scope="class")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        reason = "Spark needs a Java: put java on the PATH or name one with JAVA_HOME"
        (pytest.fail if os.environ.get("CI") or os.environ.get("VECSTORE_TEST_ALL") else pytest.skip)(reason)
    from pyspark.sql import SparkSession

    folder = tmp_path_factory.mktemp("spark")
    builder = SparkSession.builder.master("local[2]").config("spark.driver.memory", "1g")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": folder / "warehouse",
        "spark.sql.execution.arrow.maxRecordsPerBatch": TEXTS // FILES // 2,
    }.items():
        builder = builder.config(name, str(value))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
            patch.setenv(name, sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        yield session
        session.stop()


# It says so of pandas 3, of which nothing is used here but the class DataFrame.
@pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning")
class TestSpark(OnAnEngine):
    @pytest.fixture
    def run(self, spark: Any, corpus: pa.Table) -> Run:
        frame = spark.createDataFrame(corpus)

        def run(function: Any) -> list[Any]:
            return [frame.mapInArrow(function, inspect.unwrap(function).spark_schema(frame.schema)).toArrow()]

        return run

    def test_other_columns_are_whatever_spark_has(self, spark: Any, glove: Any) -> None:
        frame = spark.sql(
            "SELECT 'nice' AS text, TIMESTAMP'2024-01-01' AS moment, TIMESTAMP_NTZ'2024-01-01 00:00:00' AS local,"
            " CAST(1 AS DECIMAL(10, 2)) AS price, INTERVAL 1 DAY AS span, NAMED_STRUCT('a', 1) AS nested"
        ).withMetadata("moment", {"comment": "kept"})
        embed = EmbedTexts(store=glove, known_into="known")
        schema = embed.spark_schema(frame.schema)
        assert schema.fields[:6] == frame.schema.fields
        assert [field.simpleString() for field in schema.fields[6:]] == ["vector:array<float>", "known:bigint"]
        result = frame.mapInArrow(embed, schema)
        assert result.drop("vector", "known").collect() == frame.collect()
        assert np.array_equal(np.array(result.first().vector, np.float32), glove["nice"])

    def test_schema_of_what_is_no_texts_is_an_error(self, spark: Any, glove: Any) -> None:
        frame = spark.sql("SELECT 1L AS text, 'a' AS body, 'b' AS vector, NULL AS nothing")
        for function in (EmbedTexts(store=glove), EncodeTexts(vocabulary={}), CountTexts()):
            with pytest.raises(TypeError, match="'text': expected strings or lists of strings, found bigint"):
                function.spark_schema(frame.schema)
            with pytest.raises(KeyError, match="column 'text': expected one of that name, found 0 among 'body'"):
                function.spark_schema(frame.select("body").schema)
        with pytest.raises(ValueError, match="column 'vector' of the result is there already"):
            EmbedTexts(store=glove, column="body").spark_schema(frame.schema)
        count = CountTexts(column="nothing")
        (counted,) = frame.mapInArrow(count, count.spark_schema(frame.schema)).collect()
        assert counted.asDict() == {"key": None, "count": 0, "documents": 1}

    def test_counts_of_a_partition_are_one(self, spark: Any, corpus: pa.Table) -> None:
        frame, count = spark.createDataFrame(corpus), CountTexts()
        counted = frame.mapInArrow(count, count.spark_schema(frame.schema)).toArrow()
        assert counted["key"].null_count == frame.rdd.getNumPartitions() < TEXTS // FILES
        assert everything(CountTexts.reduce([counted])) == everything(vecstore.count(corpus["text"]))

    def test_spark_can_add_counts_up_itself(self, spark: Any, corpus: pa.Table) -> None:
        frame, count = spark.createDataFrame(corpus), CountTexts()
        counted = frame.mapInArrow(count, count.spark_schema(frame.schema)).groupBy("key").sum()
        counted = counted.withColumnsRenamed({"sum(count)": "count", "sum(documents)": "documents"}).toArrow()
        assert CountTexts.reduce([counted]).word_counts() == vecstore.count(corpus["text"]).word_counts()


@pytest.fixture(scope="class")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=str(tmp_path_factory.mktemp("dask")),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


class TestDask(OnAnEngine):
    @pytest.fixture
    def frame(self, client: Any, files: list[str]) -> Any:
        import dask.dataframe

        return dask.dataframe.read_parquet(files)

    @pytest.fixture
    def run(self, client: Any, frame: Any) -> Run:
        def run(function: Any) -> list[Any]:
            mapped = frame.map_partitions(function, meta=inspect.unwrap(function)(frame._meta))
            return client.gather(client.compute(mapped.to_delayed()))

        return run

    def test_dask_finds_out_what_comes_by_itself(self, frame: Any, corpus: pa.Table, glove: Any) -> None:
        mapped = frame.map_partitions(EmbedTexts(store=glove))
        computed = mapped.compute()
        assert mapped.dtypes.equals(computed.dtypes)
        assert str(mapped.dtypes["vector"]) == "fixed_size_list<item: float>[50][pyarrow]"
        vectors = matrix_of(as_table([computed])["vector"])
        assert vectors.tobytes() == glove.embed(corpus["text"]).tobytes()

    def test_task_is_the_same_for_the_same_settings(self, frame: Any, glove: Any) -> None:
        one, other = (frame.map_partitions(EmbedTexts(store=glove)) for _ in range(2))
        assert one._name == other._name != frame.map_partitions(EmbedTexts(store=glove, normalize=True))._name


FINGERPRINT = """
import sys
import vecstore
from datasets import Dataset
from datasets.fingerprint import Hasher

embed = vecstore.EmbedTexts(store=sys.argv[1])
dataset = Dataset.from_dict({"text": ["nice", None]}).with_format("arrow")
print(Hasher.hash(embed), dataset.map(embed, batched=True, keep_in_memory=True)._fingerprint)
"""


@pytest.fixture(scope="class")
def dataset(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    datasets.disable_progress_bars()
    return datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path_factory.mktemp("cache"))).with_format("arrow")


class TestDatasets(OnAnEngine):
    @pytest.fixture(params=[None, 2], ids=["one process", "two"])
    def run(self, dataset: Any, request: pytest.FixtureRequest) -> Run:
        def run(function: Any) -> list[Any]:
            removed = dataset.column_names if isinstance(function, CountTexts) else None
            settings = {"batch_size": TEXTS // FILES, "num_proc": request.param, "remove_columns": removed}
            return [dataset.map(function, batched=True, **settings)[:]]

        return run

    def test_result_is_taken_from_the_cache(self, dataset: Any, glove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        made = dataset.map(EmbedTexts(store=glove, into="cached"), batched=True)
        monkeypatch.setattr(EmbedTexts, "table", None)
        again = dataset.map(EmbedTexts(store=glove, into="cached"), batched=True)
        assert again[:].equals(made[:])
        with pytest.raises(TypeError, match="'NoneType' object is not callable"):
            dataset.map(EmbedTexts(store=glove, into="cached", normalize=True), batched=True)

    def test_fingerprint_is_the_same_in_every_process(self, run_python: Callable[..., str], glove: Any) -> None:
        seeds = ({"PYTHONHASHSEED": seed, "HF_HUB_OFFLINE": "1"} for seed in "12")
        one, other = (run_python(FINGERPRINT, glove.path, **seed) for seed in seeds)
        assert one == other

    def test_fingerprint_is_that_of_the_settings_alone(self, glove: Any) -> None:
        from datasets.fingerprint import Hasher

        used = EncodeTexts(vocabulary={"nice": 1})
        used(pa.table({"text": ["nice"]}))
        assert Hasher.hash(used) == Hasher.hash(EncodeTexts(vocabulary={"nice": 1}))
        settings = [{}, {"normalize": True}, {"into": "v"}, {"pooling": "max"}, {"column": "body"}]
        hashes = {Hasher.hash(EmbedTexts(store=glove, **setting)) for setting in settings}
        assert len(hashes) == len(settings)

    def test_plain_format_is_an_error_that_says_what_to_ask_for(self, dataset: Any) -> None:
        with pytest.raises(TypeError, match=r"found LazyBatch.*Hugging Face datasets: with_format\('arrow'\)"):
            dataset.with_format(None).map(CountTexts(), batched=True)
