import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import ENVIRONMENT, assert_fails, run, shown_on_a_terminal, start
from files import left_in, numbered, word2vec_bytes

import vecstore

KEYS = ["</s>", "nice", "größe", "", "日本語"]
VECTORS = np.array([[0, 0], [1, -2.5], [0.1, np.nan], [np.inf, 1e-45], [-1, 7]], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with vectors.bin, and its store under the name store."""
    (tmp_path / "vectors.bin").write_bytes(word2vec_bytes([key.encode() for key in KEYS], VECTORS))
    vecstore.convert(tmp_path / "vectors.bin", tmp_path / "store")
    return tmp_path


def test_convert_makes_a_store_and_says_what_it_did(folder):
    code, out, err = run(folder, "convert", "vectors.bin", "new")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(folder / "new")
    assert lines[1].startswith("  5 keys x 2 float32, 0.0 MB")
    assert lines[2].startswith("  from vectors.bin in ")
    assert lines[3:] == [
        "  records dropped: 0 duplicates, 0 undecodable, 0 unwanted",
        "  unusual rows kept: 1 nan, 1 infinite, 1 zero, 0 huge",
    ]
    assert vecstore.verify(folder / "new") == []


def test_convert_passes_its_options_on(folder):
    keys = [b"a", b"a", b"b\xff", b"c", b"d"]
    (folder / "vectors.bin").write_bytes(word2vec_bytes(keys, VECTORS, header=b"4 2\n"))
    options = ["--duplicates=last", "--encoding-errors=replace", "--count-mismatch=warn", "--limit=4", "--overwrite"]
    code, out, _ = run(folder, "convert", "--format", "word2vec", *options, "vectors.bin", "store")
    assert code == 0
    assert "3 keys" in out
    assert "1 duplicates" in out
    store = vecstore.open(folder / "store")
    assert list(store.keys) == ["a", "b\ufffd", "c"]
    np.testing.assert_array_equal(store["a"], VECTORS[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "auto"])
def test_convert_and_info_name_the_storage_type(folder, dtype):
    vectors = np.float32([[0, 0], [1, -2.5], [0.1, 0.7], [8, 1e-4], [-1, 7]])
    (folder / "vectors.bin").write_bytes(word2vec_bytes([key.encode() for key in KEYS], vectors))
    code, out, err = run(folder, "convert", "vectors.bin", "new", "--dtype", dtype)
    stored = {"auto": "float32"}.get(dtype, dtype)
    assert (code, err) == (0, "")
    assert f"\n  5 keys x 2 {stored}, 0.0 MB\n" in out
    assert (f"\n  rounded to {dtype}: largest error " in out) == (dtype != "auto")
    code, out, err = run(folder, "info", "new")
    assert (code, err) == (0, "")
    assert f"\n  dtype      {stored}\n" in out
    assert out.endswith(f", format version {1 if dtype == 'auto' else 2}\n")
    code, out, err = run(folder, "get", "new", "nice")
    assert (code, out.split()[0]) == (0, "nice")
    store = vecstore.open(folder / "new")
    np.testing.assert_array_equal(np.array(out.split()[1:], np.float32), store["nice"])
    assert run(folder, "verify", "new") == (0, "new: sound\n", "")


def test_convert_says_what_another_type_would_save(folder):
    (folder / "vectors.bin").write_bytes(word2vec_bytes([b"a", b"b"], [[1, 2], [0.5, -3]]))
    code, out, err = run(folder, "convert", "vectors.bin", "new")
    assert (code, err) == (0, "")
    saving = "every value fits bfloat16 exactly: --dtype auto would store 8 bytes of vectors instead of 16 bytes"
    assert out.splitlines()[-1] == f"  {saving}"


def test_convert_warns_in_one_line(folder):
    (folder / "vectors.bin").write_bytes(word2vec_bytes([b"a", b"b"], VECTORS[:2], header=b"3 2\n"))
    code, _, err = run(folder, "convert", "vectors.bin", "new", "--count-mismatch", "warn")
    assert code == 0
    assert err.startswith("vecstore: warning: vectors.bin: record 3, byte ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convert", "missing.bin", "new"], "missing.bin: No such file or directory"),
        (["convert", "vectors.bin", "store"], "store: exists already; to replace it: --overwrite"),
        (["convert", "vectors.bin", "vectors.bin", "--overwrite"], "vectors.bin: exists and is not a store"),
        (["convert", "store", "new"], "store: expected a file of word vectors, found a store already"),
        (["convert", "vectors.bin", "no/new"], "there is no folder"),
        (
            ["convert", "vectors.bin", "new", "--dtype", "int8"],
            "vectors.bin: row 2: key 'größe': expected numbers that int8 can hold, found nan at position 1; "
            "name another type: dtype= (--dtype), 'float32' or 'auto'",
        ),
        (
            ["convert", "words.txt", "new"],
            "words.txt: byte 0: expected a word2vec header 'count dim', a line of text with a key and its numbers",
        ),
        (["info", "missing"], "missing: no such store"),
        (["info", "vectors.bin"], "vectors.bin: not a store but a file"),
        (["info", "."], "not a store: it holds no metadata.json"),
        (["get", "store", "absent"], "1 of 1 keys are out of vocabulary: 'absent'"),
        (["get", "store", "nice", "absent", "none"], "2 of 3 keys are out of vocabulary: 'absent', 'none'"),
        (["get", "store", b"caf\xe9"], "1 of 1 keys are out of vocabulary"),
        (["get", "missing", "nice"], "missing: no such store"),
        (["coverage", "store", "missing.txt"], "missing.txt: No such file or directory"),
        (["coverage", "store", "vectors.bin"], "vectors.bin: expected UTF-8 text"),
        (["coverage", "store", "bad.json"], "bad.json: expected JSON"),
        (["coverage", "store", "shared.json"], "shared.json: keys 'a' and 'b' share row 1"),
        (["matrix", "store", "words.txt", "words.txt"], "words.txt: exists already; to replace it: --overwrite"),
        (["matrix", "store", "words.txt", "no/matrix.npy"], "no/matrix.npy: cannot be written"),
        (["matrix", "store", "words.txt", "store", "--overwrite"], "store: "),
        (["verify", "missing"], "missing: no such store"),
        (["demo", "--source", "missing.bin"], "missing.bin: No such file or directory"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line_and_exit_code_1(folder, arguments, says):
    (folder / "words.txt").write_text("nice\n")
    (folder / "bad.json").write_text("{")
    (folder / "shared.json").write_text('{"a": 1, "b": 1}')
    before = left_in(folder)
    assert_fails(folder, *arguments, says=says)
    assert left_in(folder) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["convert", "vectors.bin"], "Missing argument 'STORE'"),
        (["convert", "vectors.bin", "new", "--limit", "0"], "Invalid value for '--limit'"),
        (["convert", "vectors.bin", "new", "--duplicates", "all"], "Invalid value for '--duplicates'"),
        (["get", "store"], "Missing argument 'KEY...'"),
        (["matrix", "store", "words.txt", "out.npy", "--oov", "ones"], "Invalid value for '--oov'"),
        (["matrix", "store", "words.txt", "out.npy", "--seed", "-1"], "Invalid value for '--seed'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["--frobnicate"], "No such option: --frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_explained_with_exit_code_2(folder, arguments, says):
    assert_fails(folder, *arguments, code=2, says=says)


def test_no_arguments_show_the_help(folder):
    code, out, err = run(folder)
    assert code in (0, 2)
    text = out + err
    assert "A memory-mapped store for pre-trained word vectors." in text
    for command in "convert", "export", "info", "get", "coverage", "matrix", "verify", "demo":
        assert f"\n  {command} " in text


@pytest.mark.parametrize("command", ["convert", "export", "info", "get", "coverage", "matrix", "verify", "demo"])
def test_each_command_has_help(folder, command):
    code, out, err = run(folder, command, "--help")
    assert (code, err) == (0, "")
    assert out.lstrip().startswith("Usage: ")
    assert command in out


def test_info_says_what_a_person_wants_to_know(folder):
    code, out, err = run(folder, "info", "store")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(folder / "store")
    fields = {line[2:13].strip(): line[13:] for line in lines[1:]}
    assert fields.pop("on disk").startswith("0.0 MB (vectors 0.0, index 0.0, keys 0.0)")
    assert fields == {
        "keys": "5",
        "dim": "2",
        "dtype": "float32",
        "source": "'vectors.bin' (word2vec, 0.0 MB)",
        "dropped": "0 duplicates, 0 undecodable, 0 unwanted",
        "unusual": "1 nan, 1 infinite, 1 zero, 0 huge",
        "first keys": " ".join(map(repr, KEYS)),
        "last keys": " ".join(map(repr, KEYS)),
        "written by": f"vecstore {vecstore.__version__}, format version 1",
    }


def test_get_prints_numbers_that_read_back(folder):
    code, out, err = run(folder, "get", "store", *KEYS)
    assert (code, err) == (0, "")
    rows = [line.split(" ") for line in out.removesuffix("\n").split("\n")]
    assert [row[0] for row in rows] == KEYS
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), VECTORS)


def test_get_takes_keys_that_look_like_options(tmp_path):
    (tmp_path / "vectors.bin").write_bytes(word2vec_bytes([b"--help", b"-"], VECTORS[:2]))
    vecstore.convert(tmp_path / "vectors.bin", tmp_path / "store")
    assert run(tmp_path, "get", "store", "--", "--help", "-") == (0, "--help 0.0 0.0\n- 1.0 -2.5\n", "")


@pytest.mark.parametrize("command", ["get", "info"])
def test_output_does_not_depend_on_the_terminals_encoding(folder, command):
    arguments = ["get", "store", "日本語"] if command == "get" else ["info", "store"]
    code, out, err = run(folder, *arguments, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"})
    assert (code, err) == (0, "")
    assert r"\u65e5\u672c\u8a9e" in out


VOCABULARIES = {
    "words.txt": "nice\ngröße\nabsent\n",
    "list.json": json.dumps(["", "[UNK]", "nice", "absent"]),
    "index.json": json.dumps({"nice": 3, "absent": 1}),
    "tokenizer.json": json.dumps(
        {"class_name": "Tokenizer", "config": {"word_index": json.dumps({"nice": 1, "absent": 2}), "num_words": None}}
    ),
}
VOCABULARY_OBJECTS = {
    "words.txt": ["nice", "größe", "absent"],
    "list.json": ["", "[UNK]", "nice", "absent"],
    "index.json": {"nice": 3, "absent": 1},
    "tokenizer.json": {"nice": 1, "absent": 2},
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_coverage_says_it_in_words(folder, name):
    (folder / name).write_text(VOCABULARIES[name])
    expected = str(vecstore.open(folder / "store").matrix(VOCABULARY_OBJECTS[name]))
    assert run(folder, "coverage", "store", name) == (0, f"{expected}\n", "")
    assert "missing: 'absent'" in expected


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize(("oov", "seed"), [("zeros", 0), ("mean", 0), ("normal", 7)])
def test_matrix_writes_what_the_library_returns(folder, name, oov, seed):
    (folder / name).write_text(VOCABULARIES[name])
    code, out, err = run(folder, "matrix", "store", name, "out.npy", "--oov", oov, "--seed", str(seed))
    expected = vecstore.open(folder / "store").matrix(VOCABULARY_OBJECTS[name], oov=oov, seed=seed)
    assert (code, out, err) == (0, f"out.npy: {expected!r}\n", "")
    np.testing.assert_array_equal(np.load(folder / "out.npy"), expected.vectors, strict=True)


def test_matrix_replaces_a_file_if_told(folder):
    (folder / "words.txt").write_text("nice\n")
    (folder / "out.npy").write_text("old")
    assert run(folder, "matrix", "store", "words.txt", "out.npy", "--overwrite")[0] == 0
    np.testing.assert_array_equal(np.load(folder / "out.npy"), VECTORS[[1]])


def test_verify_says_that_a_store_is_sound(folder):
    assert run(folder, "verify", "store") == (0, "store: sound\n", "")


def test_verify_names_each_damaged_file(folder):
    for name in "vectors.npy", "keys.npy":
        content = bytearray((folder / "store" / name).read_bytes())
        content[-1] ^= 0x40
        (folder / "store" / name).write_bytes(content)
    code, out, err = run(folder, "verify", "store")
    assert (code, out) == (1, "")
    assert "store: vectors.npy: its checksum is wrong: expected " in err
    assert "store: keys.npy: its checksum is wrong: expected " in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [["info", "store"], ["get", "store", *["nice"] * 20_000]], ids=["short", "long"])
def test_a_closed_pipe_is_no_mistake(folder, command):
    with start(folder, *command) as process:
        process.stdout.close()
        err = process.stderr.read().decode()
    assert "Traceback" not in err
    assert "Exception" not in err


def test_no_output_at_all_is_no_mistake(folder):
    with start(folder, "info", "store", preexec_fn=lambda: os.close(1)) as process:
        err = process.stderr.read().decode()
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("command", [["info", "store"], ["get", "store", *["nice"] * 20_000]], ids=["short", "long"])
def test_a_full_disk_under_the_output_is_told(folder, command):
    with open("/dev/full", "w") as full, start(folder, *command, stdout=full) as process:
        err = process.stderr.read().decode()
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("vecstore: ")
    assert "No space left on device" in err
    assert err.count("\n") == 1


def converting(folder: Path, **options: object) -> subprocess.Popen:
    """Start a conversion and return once its partial folder is there."""
    (folder / "big.bin").write_bytes(word2vec_bytes(*numbered(50_000, 300)))
    process = start(folder, "convert", "big.bin", "new", **options)
    while process.poll() is None and not any((path / "keys.npy").exists() for path in folder.glob(".*.partial")):
        os.sched_yield()
    return process


def test_ctrl_c_is_one_line_and_leaves_nothing(folder):
    with converting(folder) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.decode()) == (130, b"", "vecstore: interrupted\n")
    assert left_in(folder) == {"vectors.bin", "store", "big.bin"}


def test_progress_is_shown_on_a_terminal_alone(folder):
    (folder / "big.bin").write_bytes(word2vec_bytes(*numbered(20_000, 300)))
    code, out, shown = shown_on_a_terminal(folder, "convert", "big.bin", "new")
    assert code == 0
    assert out.splitlines()[1].startswith("  20,000 keys x 300")
    assert "reading" in shown
    assert "%" in shown
    assert run(folder, "convert", "big.bin", "other")[2] == ""
    assert run(folder, "verify", "other")[2] == ""
    assert "verifying" in shown_on_a_terminal(folder, "verify", "new")[2]
