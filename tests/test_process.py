import csv
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files import left_in

import vecstore
from vecstore.errors import FormatError, TargetError, VecstoreError
from vecstore.jobs import corpus, records

TEXTS = ["Nice, great work!", None, "", "qwertzuiop", "Größe und Größe", 'a "quoted"\nline', "stop the lies"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Make many parts of few rows; workers, which are new processes, are sent what was cut."""
    for module in (records, corpus):
        monkeypatch.setattr(module, "BLOCK_ROWS", 40)


@pytest.fixture(scope="module")
def rows():
    rng = random.Random(0)
    return [{"id": i, "text": rng.choice(TEXTS) if i % 3 else " ".join(["nice", "work"] * i)} for i in range(200)]


@pytest.fixture(scope="module")
def sources(rows, tmp_path_factory) -> Path:
    """A folder with the same rows in every format."""
    folder = tmp_path_factory.mktemp("sources")
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *([row["id"], row["text"]] for row in rows)])
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "rows.txt").write_text("".join((row["text"] or "").replace("\n", " ") + "\n" for row in rows), "utf-8")
    (folder / "parts").mkdir()
    table = pa.Table.from_pylist(rows)
    for i, start in enumerate(range(0, 200, 70)):
        pq.write_table(table.slice(start, 70), folder / "parts" / f"{i}.parquet")
    return folder


@pytest.fixture(scope="module")
def texts(rows):
    return [row["text"] for row in rows]


@pytest.fixture(scope="module")
def embed(glove):
    return vecstore.EmbedTexts(store=glove.path, known_into="known")


SOURCES = ["rows.parquet", "rows.csv", "rows.jsonl.gz", "rows.txt", "parts"]


def vectors_in(path):
    if path.suffix == ".npy":
        return np.load(path)
    values = pq.read_table(path)["vector"].combine_chunks()
    return values.values.to_numpy().reshape(len(values), values.type.list_size)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", ["out.npy", "out.parquet", "out"])
def test_every_format_gives_the_vectors_of_a_call(tmp_path, sources, texts, glove, embed, source, target):
    report = vecstore.process_files(embed, sources / source, tmp_path / target)
    expected, known = glove.embed(texts, return_counts=True)
    np.testing.assert_array_equal(vectors_in(tmp_path / target), expected)
    assert left_in(tmp_path) == {target}
    assert (report.path, report.rows, report.bad_rows) == (tmp_path / target, 200, 0)
    assert (report.known, report.zeros) == (known.sum(), (known == 0).sum())
    assert report.tokens == len(glove.embed_ragged(texts).values)
    if target != "out.npy":
        table = pq.read_table(tmp_path / target)
        assert table["known"].to_pylist() == known.tolist()
        if source != "rows.txt":
            assert list(map(int, table["id"].to_pylist())) == list(range(200))
    if target == "out":
        assert report.parts == len(left_in(tmp_path / target)) > 4


def test_the_number_of_workers_changes_no_byte(tmp_path, sources, embed):
    for workers in (1, 2):
        for target in ("out.npy", "out.parquet"):
            vecstore.process_files(embed, sources / "rows.csv", tmp_path / f"{workers}{target}", workers=workers)
    for target in ("out.npy", "out.parquet"):
        assert (tmp_path / f"1{target}").read_bytes() == (tmp_path / f"2{target}").read_bytes()


def test_ids_are_those_of_encode(tmp_path, sources, texts):
    index = vecstore.count(texts).word_index()
    encode = vecstore.EncodeTexts(vocabulary=index, length=5, truncating="post")
    report = vecstore.process_files(encode, sources / "rows.csv", tmp_path / "ids.npy", workers=2)
    np.testing.assert_array_equal(
        np.load(tmp_path / "ids.npy"), vecstore.encode(texts, index, length=5, truncating="post")
    )
    assert (report.known, report.zeros) == (None, None)
    ragged = vecstore.EncodeTexts(vocabulary=index)
    vecstore.process_files(ragged, sources / "parts", tmp_path / "ids")
    assert pq.read_table(tmp_path / "ids")["ids"].to_pylist() == vecstore.encode_ragged(texts, index).to_pylist()
    with pytest.raises(
        ValueError, match=r"more.npy: expected rows of one length for an array, found list.*give a length"
    ):
        vecstore.process_files(ragged, sources / "parts", tmp_path / "more.npy")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [1, 2])
def test_counts_are_those_of_count(tmp_path, sources, texts, source, workers):
    count, expected = vecstore.CountTexts(), vecstore.count(texts)
    report = vecstore.process_files(count, sources / source, tmp_path / "counts.parquet", workers=workers)
    found = vecstore.Counts.load(tmp_path / "counts.parquet")
    assert found.word_counts() == expected.word_counts()
    assert list(found.word_counts()) == list(expected.word_counts())
    assert (found.documents, report.rows, report.tokens) == (200, 200, expected.tokens)


def test_a_vocabulary_is_that_of_the_counts(tmp_path, sources, texts):
    expected = vecstore.count(texts)
    count = vecstore.CountTexts()
    vecstore.process_files(count, sources / "rows.csv", tmp_path / "v.json", min_count=2)
    kept = expected.vocabulary(min_count=2)
    assert json.loads((tmp_path / "v.json").read_text("utf-8")) == {key: i for i, key in enumerate(kept, 1)}
    vecstore.process_files(count, sources / "rows.csv", tmp_path / "v.txt", max_size=3)
    assert (tmp_path / "v.txt").read_text("utf-8") == "\n" + "".join(
        f"{key}\n" for key in expected.vocabulary(max_size=3)
    )
    for name, keys in ("v.json", kept), ("v.txt", kept[:3]):  # both lead to the rows that the counts give
        encode = vecstore.EncodeTexts(vocabulary=tmp_path / name, length=3)
        rows = vecstore.encode(texts, {key: i for i, key in enumerate(keys, 1)}, length=3)
        assert encode(pa.table({"text": texts}))["ids"].to_pylist() == rows.tolist()
    for name, options in ("c.parquet", {"min_count": 2}), ("c.npy", {}):
        with pytest.raises(ValueError, match=r"min_count, max_size|expected .parquet for counts"):
            vecstore.process_files(count, sources / "rows.csv", tmp_path / name, **options)


def stop_after(parts):
    """Return what is called with progress and stops the job when so many parts are there."""
    seen = []

    def progress(progress):
        seen.append(progress)
        if len(seen) >= parts:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    ("source", "target", "workers"),
    [
        ("rows.parquet", "out.npy", 1),
        ("rows.jsonl.gz", "out.parquet", 1),
        ("parts", "out", 1),
        ("rows.csv", "out.npy", 2),
        ("rows.parquet", "out", 2),
    ],
)
def test_a_job_that_was_stopped_goes_on(tmp_path, sources, embed, source, target, workers, monkeypatch):
    monkeypatch.setattr("vecstore.jobs.run._EVERY", 0)
    whole, path = tmp_path / "whole", tmp_path / target
    vecstore.process_files(embed, sources / source, whole.with_suffix(path.suffix))
    with pytest.raises(KeyboardInterrupt):
        vecstore.process_files(embed, sources / source, path, workers=workers, progress=stop_after(2))
    assert not path.exists()
    kept = {part: part.stat().st_mtime_ns for part in (tmp_path / f"{target}.unfinished" / "_job").glob("part-*")}
    assert len(kept) >= 2
    report = vecstore.process_files(embed, sources / source, path, workers=workers)
    assert report.parts_found == len(kept)
    assert report.rows == 200
    if target == "out":
        files = {name: (path / name).read_bytes() for name in left_in(path)}
        assert files == {name: (whole / name).read_bytes() for name in left_in(whole)}
    else:
        assert path.read_bytes() == whole.with_suffix(path.suffix).read_bytes()
    assert left_in(tmp_path) == {target, whole.with_suffix(path.suffix).name}


def test_parts_depend_on_the_store_the_vocabulary_and_the_files(tmp_path, sources, embed, store, monkeypatch):
    monkeypatch.setattr("vecstore.jobs.run._EVERY", 0)
    source = tmp_path / "rows.csv"
    source.write_bytes((sources / "rows.csv").read_bytes())

    def stopped(function):
        with pytest.raises(KeyboardInterrupt):
            vecstore.process_files(function, source, tmp_path / "out", progress=stop_after(2), restart=True)

    def refused(function, says):
        with pytest.raises(TargetError, match=says):
            vecstore.process_files(function, source, tmp_path / "out")

    stopped(embed)
    refused(vecstore.EmbedTexts(store=store.path, known_into="known"), "with store ")
    refused(vecstore.EmbedTexts(store=embed.store), "with columns|with known_into")
    tokenizer = vecstore.Tokenizer(lower=False)
    refused(vecstore.EmbedTexts(store=embed.store, known_into="known", tokenizer=tokenizer), "with tokenizer ")
    os.utime(source, ns=(0, 0))
    refused(embed, "with other files")
    stopped(vecstore.EncodeTexts(vocabulary=["nice", "work"]))
    refused(vecstore.EncodeTexts(vocabulary=["work", "nice"]), "with vocabulary ")


def test_bad_rows_stop_the_job_or_are_left_out(tmp_path, embed):
    source = tmp_path / "rows.csv"
    lines = [b"id,text", *(b"%d,nice" % i for i in range(1, 101))]
    lines[50], lines[90], lines[91] = b"50,\xff", b"90", b"91,a,b"
    source.write_bytes(b"\n".join(lines))
    for workers in (1, 2):
        with pytest.raises(FormatError, match=r"rows.csv, row (50|90): .*; to leave out such rows: --bad-rows skip"):
            vecstore.process_files(embed, source, tmp_path / "out.npy", workers=workers)
    report = vecstore.process_files(embed, source, tmp_path / "out.npy", bad_rows="skip", workers=2)
    assert (report.rows, report.bad_rows, len(report.bad_places)) == (97, 3, 3)
    assert any("rows.csv, row 50: " in place for place in report.bad_places)
    assert "3 bad rows left out, such as:" in str(report)
    assert len(np.load(tmp_path / "out.npy")) == 97


def test_parts_without_bad_rows_are_good_whatever_becomes_of_such_rows(tmp_path, embed, monkeypatch):
    monkeypatch.setattr("vecstore.jobs.run._EVERY", 0)
    source = tmp_path / "rows.jsonl"
    lines = [b'{"text": "nice"}'] * 100
    lines[70] = b'{"text": 5}'
    source.write_bytes(b"\n".join(lines))
    with pytest.raises(FormatError, match="row 71"):
        vecstore.process_files(embed, source, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        vecstore.process_files(embed, source, tmp_path / "out", bad_rows="skip", progress=stop_after(1))
    with pytest.raises(TargetError, match=r"from which 1 bad rows were left out; go on in the same way"):
        vecstore.process_files(embed, source, tmp_path / "out")
    report = vecstore.process_files(embed, source, tmp_path / "out", bad_rows="skip")
    assert (report.rows, report.bad_rows, report.parts, report.parts_found) == (99, 1, 3, 2)


KILLED = """
import sys
import vecstore
from vecstore.jobs import corpus, records
for module in (records, corpus):
    module.BLOCK_ROWS = 40
if __name__ == "__main__":
    source, store, target = sys.argv[1:]
    print("begun", flush=True)
    vecstore.process_files(vecstore.EmbedTexts(store=store), source, target, workers=2)
"""


@pytest.mark.parametrize("target", ["out.npy", "out"])
def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path, sources, glove, target):
    script, path = tmp_path / "script.py", tmp_path / target
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}
    command = [sys.executable, script, sources / "rows.parquet", glove.path, path]
    rng, found = random.Random(0), set()
    for _ in range(100):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            process.stdout.readline()
            before = len(found)
            # Killed when it has made a part more, or a while after.
            while process.poll() is None and len(found) <= before:
                found |= left_in(tmp_path / f"{target}.unfinished" / "_job") if is_at_work(path) else set()
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        assert path.exists() or process.returncode == -signal.SIGKILL
        if path.exists():
            break
    assert len([name for name in found if name.startswith("part-") and name.endswith(".json")]) >= 2
    if process.returncode != 0:  # killed after the target had its name
        assert subprocess.run(command, env=environment, stderr=subprocess.DEVNULL).returncode == 1
    vecstore.process_files(vecstore.EmbedTexts(store=glove.path), sources / "rows.parquet", tmp_path / f"whole{target}")
    if target == "out":
        assert left_in(path) - {"_job"} == left_in(tmp_path / "wholeout")
        for name in left_in(tmp_path / "wholeout"):
            assert (path / name).read_bytes() == (tmp_path / "wholeout" / name).read_bytes()
    else:
        assert path.read_bytes() == (tmp_path / "wholeout.npy").read_bytes()


def is_at_work(path):
    return path.with_name(f"{path.name}.unfinished").joinpath("_job").exists()


def test_progress_tells_rows_speed_and_an_end(tmp_path, sources, embed, monkeypatch):
    monkeypatch.setattr("vecstore.jobs.run._EVERY", 0)
    seen = []
    vecstore.process_files(embed, sources / "parts", tmp_path / "out", progress=seen.append)
    working = [progress for progress in seen if progress.stage == "working"]
    done = [progress.done for progress in working]
    assert done == sorted(done)
    assert (done[-1], working[-1].total) == (
        working[-1].total,
        sum(f.stat().st_size for f in (sources / "parts").iterdir()),
    )
    assert working[-1].note.startswith("200 rows, ")
    assert working[-1].note.endswith(" M tokens/s")


def test_kept_columns_are_those_that_are_named(tmp_path, sources, embed):
    vecstore.process_files(embed, sources / "rows.parquet", tmp_path / "out.parquet", keep=["id"])
    assert pq.read_schema(tmp_path / "out.parquet").names == ["id", "text", "vector", "known"]
    with pytest.raises(ValueError, match="column 'id' of the result is there already"):
        vecstore.process_files(
            vecstore.EmbedTexts(store=embed.store, into="id"), sources / "rows.parquet", tmp_path / "more.parquet"
        )


def test_tokens_that_are_cut_already_are_taken_as_they_are(tmp_path, glove):
    table = pa.table({"tokens": [["nice", "work!"], [], None, ["great"]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    embed = vecstore.EmbedTexts(store=glove.path, column="tokens")
    vecstore.process_files(embed, tmp_path / "rows.parquet", tmp_path / "out.npy")
    expected = glove.embed(vecstore.Tokens.of([["nice", "work!"], [], [], ["great"]]))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


@pytest.mark.parametrize("target", ["out.npy", "out.parquet", "out"])
def test_a_corpus_without_rows_makes_a_target_without_rows(tmp_path, embed, target):
    (tmp_path / "rows.csv").write_text("id,text\n")
    assert vecstore.process_files(embed, tmp_path / "rows.csv", tmp_path / target).rows == 0
    assert vectors_in(tmp_path / target).shape[0] == 0
    if target == "out.npy":
        assert np.load(tmp_path / target).shape == (0, 50)


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path, sources, embed):
    source, target = sources / "rows.parquet", tmp_path / "out.npy"
    for options, error, says in [
        ({"workers": 0}, ValueError, "workers: expected a number of 1 or more, found 0"),
        ({"bad_rows": "ignore"}, ValueError, "bad_rows: expected 'error' or 'skip', found 'ignore'"),
        ({"keep": "id"}, TypeError, "keep: expected names of columns, found one str: 'id'"),
        ({"keep": ["nope"]}, KeyError, "expected a column 'nope'"),
        ({"min_count": 2}, ValueError, "have no effect but on a vocabulary"),
    ]:
        with pytest.raises(error, match=says):
            vecstore.process_files(embed, source, target, **options)
    for taken in (source, sources / "parts" / "out", sources / "parts" / "more" / "out.npy"):
        within = source if taken == source else sources / "parts"
        with pytest.raises(ValueError, match=r"expected a target that is neither .* nor in it"):
            vecstore.process_files(embed, within, taken, overwrite=True)
    for name in ("out.csv", "out.txt", "out.jsonl"):
        with pytest.raises(ValueError, match=rf"{name}: expected .parquet, .npy, or the name of a folder"):
            vecstore.process_files(embed, source, tmp_path / name)
    numbers = vecstore.EmbedTexts(store=embed.store, column="id")
    with pytest.raises(FormatError, match="column 'id': expected strings or lists of strings, found int64"):
        vecstore.process_files(numbers, source, target)
    assert left_in(tmp_path) == set()


def test_a_full_disk_is_an_error_and_leaves_what_was_finished(tmp_path, sources, embed, monkeypatch):
    from vecstore.jobs.outputs import ArrayOutput

    write, written = ArrayOutput.write, []

    def fill_up(self, path, tables):
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        return write(self, path, tables)

    monkeypatch.setattr(ArrayOutput, "write", fill_up)
    with pytest.raises(OSError, match="No space left on device"):
        vecstore.process_files(embed, sources / "rows.csv", tmp_path / "out.npy")
    monkeypatch.undo()
    for module in (records, corpus):
        monkeypatch.setattr(module, "BLOCK_ROWS", 40)
    assert vecstore.process_files(embed, sources / "rows.csv", tmp_path / "out.npy").parts_found == 2


def test_a_killed_worker_is_an_error_and_the_job_can_go_on(tmp_path, sources, glove):
    kill = vecstore.EmbedTexts(store=glove.path, tokenizer=vecstore.Tokenizer(analyzer=kill_at_lies))
    with pytest.raises(VecstoreError, match="a worker ended with exit code -9"):
        vecstore.process_files(kill, sources / "rows.csv", tmp_path / "out.npy", workers=2)
    assert not (tmp_path / "out.npy").exists()


def kill_at_lies(text):
    if "lies" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    return text.split()
