import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import assert_fails, run, shown_on_a_terminal, start
from files import left_in, word2vec_bytes

import vecstore

KEYS = ["nice", "work", "größe", "the", "lies"]
VECTORS = np.arange(10, dtype=np.float32).reshape(5, 2)
TEXTS = ["Nice, nice work!", "", "Die GRÖSSE", "größe", "the lies"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store, and the same texts as rows.csv and rows.txt."""
    (tmp_path / "vectors.bin").write_bytes(word2vec_bytes([key.encode() for key in KEYS], VECTORS))
    vecstore.convert(tmp_path / "vectors.bin", tmp_path / "store")
    lines = ["id,text", *(f'{i},"{text}"' for i, text in enumerate(TEXTS)), ""]
    (tmp_path / "rows.csv").write_text("\n".join(lines), "utf-8")
    (tmp_path / "rows.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    return tmp_path


def test_embed_writes_vectors_and_says_what_it_found(folder):
    code, out, err = run(folder, "embed", "store", "rows.csv", "-o", "out.npy")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(folder / "out.npy")
    assert lines[1].startswith("  5 rows, 8 tokens in ")
    assert lines[2] == "  6 tokens known (75.0%); 2 rows without one, their vectors are zeros"
    expected = vecstore.open(folder / "store").embed(TEXTS)
    np.testing.assert_array_equal(np.load(folder / "out.npy"), expected)


def test_embed_keeps_columns_and_takes_options(folder):
    options = ["--pooling", "max", "--normalize", "--into", "v", "--known-into", "n", "--keep", "id", "--workers", "1"]
    assert run(folder, "embed", "store", "rows.csv", "-o", "out.parquet", *options)[0] == 0
    table = pq.read_table(folder / "out.parquet")
    assert table.column_names == ["id", "text", "v", "n"]
    expected, known = vecstore.open(folder / "store").embed(TEXTS, pooling="max", normalize=True, return_counts=True)
    assert table["v"].to_pylist() == expected.tolist()
    assert table["n"].to_pylist() == known.tolist()
    assert table["v"].type == pa.list_(pa.field("element", pa.float32()), 2)


def test_vocab_then_encode_then_weighted_embed(folder):
    for name in ("counts.parquet", "words.json", "words.txt"):
        code, out, err = run(folder, "vocab", "rows.txt", "-o", name)
        assert (code, err) == (0, "")
        assert out.splitlines()[1].startswith("  5 rows, 8 tokens in ")
    counts = vecstore.count(TEXTS)
    assert json.loads((folder / "words.json").read_text("utf-8")) == counts.word_index()
    for name in ("words.json", "words.txt"):
        assert run(folder, "encode", name, "rows.txt", "-o", "ids.npy", "--length", "3", "--overwrite")[0] == 0
        np.testing.assert_array_equal(
            np.load(folder / "ids.npy"), vecstore.encode(TEXTS, counts.word_index(), length=3)
        )
    arguments = ["embed", "store", "rows.txt", "-o", "out.npy", "--pooling", "sif", "--counts", "counts.parquet"]
    assert run(folder, *arguments, "--a", "0.01")[0] == 0
    store = vecstore.open(folder / "store")
    expected = store.embed(TEXTS, pooling=store.sif_weights(counts.word_counts(), a=0.01))
    np.testing.assert_array_equal(np.load(folder / "out.npy"), expected)


def test_texts_are_cut_as_the_options_say(folder):
    (folder / "more.txt").write_text("Nice|work, the\n")
    arguments = ["vocab", "more.txt", "-o", "words.json", "--no-lower", "--filters", ",", "--split", "|"]
    assert run(folder, *arguments)[0] == 0
    tokenizer = vecstore.Tokenizer(lower=False, filters=",", split="|")
    expected = vecstore.count(["Nice|work, the"], tokenizer).word_index()
    assert json.loads((folder / "words.json").read_text()) == expected


def test_mistakes_are_one_line_and_leave_nothing(folder):
    before = left_in(folder)
    (folder / "numbers.jsonl").write_text('{"text": 5}\n')
    (folder / "bad.csv").write_bytes(b"id,text\n1,nice\n2,\xff\n")
    for source, says, *options in [
        ("absent.csv", "absent.csv: No such file or folder"),
        ("rows.csv", "expected a column 'nope', found id, text", "-c", "nope"),
        ("rows.csv", "expected a column 'nope', found id, text", "--keep", "nope"),
        ("numbers.jsonl", "column 'text': expected strings or lists of strings, found int64"),
        ("bad.csv", "bad.csv, row 2: "),
        ("rows.csv", "with the pooling 'sif' and no other", "--pooling", "sif"),
        ("rows.csv", "counts.parquet", "--pooling", "sif", "--counts", "counts.parquet"),
        ("store", "expected one of .parquet"),
        ("rows.csv", "delimiter: expected one ASCII character", "--delimiter", ",,"),
    ]:
        assert_fails(folder, "embed", "store", source, "-o", "out.npy", *options, says=says)
    assert_fails(folder, "embed", "absent", "rows.csv", "-o", "out.npy", says="absent")
    assert_fails(folder, "encode", "absent.json", "rows.csv", "-o", "out.npy", "--length", "3", says="absent.json")
    assert_fails(folder, "encode", "rows.txt", "rows.csv", "-o", "out.npy", says="give a length")
    assert_fails(folder, "vocab", "rows.csv", "-o", "out.npy", says="expected .parquet for counts")
    assert_fails(folder, "embed", "store", "rows.csv", "-o", "rows.txt/out.npy", says="there is no folder")
    assert_fails(folder, "embed", "store", "rows.csv", "-o", "vectors.bin", says="exists already")
    assert_fails(folder, "embed", "store", "rows.csv", code=2, says="--out")
    assert_fails(folder, "embed", "store", "rows.csv", "-o", "out.npy", "--workers", "0", code=2, says="--workers")
    assert left_in(folder) == before | {"numbers.jsonl", "bad.csv"}


def test_bad_rows_are_left_out_on_request(folder):
    (folder / "bad.csv").write_bytes(b"id,text\n1,nice\n2,\xff\n3,work\n")
    code, out, _ = run(folder, "embed", "store", "bad.csv", "-o", "out.npy", "--bad-rows", "skip")
    assert code == 0
    assert "1 bad rows left out, such as:" in out
    assert f"{folder / 'bad.csv'}, row 2: " in out
    assert len(np.load(folder / "out.npy")) == 2


def many_rows(folder):
    table = pa.table({"text": ["nice work the lies " * 20] * 200_000})
    pq.write_table(table, folder / "many.parquet")
    return table


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_keeps_finished_parts_and_the_same_command_goes_on(folder, workers):
    table = many_rows(folder)
    arguments = ["embed", "store", "many.parquet", "-o", "out.npy", "--workers", workers]
    with start(folder, *arguments, start_new_session=True) as process:
        while not list(folder.glob("out.npy.unfinished/_job/part-*.json")):
            assert process.poll() is None
            time.sleep(0.001)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert err.decode().splitlines() == [
        "vecstore: out.npy.unfinished keeps the finished parts; the same command goes on",
        "vecstore: interrupted",
    ]
    assert not (folder / "out.npy").exists()
    code, out, err = run(folder, *arguments)
    assert (code, err) == (0, "")
    assert "parts from before" in out
    np.testing.assert_array_equal(np.load(folder / "out.npy"), vecstore.open(folder / "store").embed(table["text"]))
    assert "out.npy.unfinished" not in left_in(folder)


def test_ctrl_c_in_the_first_instants_is_one_line_too(folder):
    many_rows(folder)
    interrupted = 0
    for wait in np.arange(0.2, 20, 0.2).tolist():
        arguments = ["embed", "store", "many.parquet", "-o", "out.npy", "--workers", "2", "--overwrite"]
        with start(folder, *arguments, start_new_session=True) as process:
            time.sleep(wait)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate()
        if process.returncode == -signal.SIGINT:  # before there was a command to take it
            continue
        if process.returncode == 0:
            break
        assert process.returncode == 130
        assert err.decode().splitlines()[-1] == "vecstore: interrupted"
        assert "Traceback" not in err.decode()
        interrupted += 1
        if interrupted == 5:
            break
    assert interrupted


def test_progress_tells_rows_and_tokens_on_a_terminal(folder):
    many_rows(folder)
    code, out, shown = shown_on_a_terminal(folder, "embed", "store", "many.parquet", "-o", "out.npy", "--workers", "1")
    assert code == 0
    assert "200,000 rows" in out
    assert "working" in shown
    assert "M tokens/s" in shown
    assert re.search(r"\d:\d\d:\d\d", shown)  # the time that is left
    assert "rows" in shown


def test_help_names_the_commands(folder):
    help_text = subprocess.list2cmdline([run(folder, "--help")[1]])
    assert all(f"  {command}  " in help_text for command in ("vocab", "encode", "embed"))
