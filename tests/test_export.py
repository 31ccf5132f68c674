import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from files import left_in, numbered, word2vec_bytes

import vecstore
from vecstore.export import export, exported_files
from vecstore.progress import Progress

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gensim.models import KeyedVectors

ODD_KEYS = ["</s>", "", "a\0b", "\u00a0", "\u0085", "\u3000", "a\rb", "größe", "日本語", "🙂"]
NAMES = {"word2vec": "out.bin", "word2vec-text": "out.vec", "glove": "out.txt", "npy": "out.npy", "gensim": "out.kv"}
FILES = {name: {name} for name in NAMES.values()}
FILES["out.npy"] |= {"out.keys.txt"}
FILES["out.kv"] |= {"out.kv.vectors.npy"}
formats = pytest.mark.parametrize("format", NAMES)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1]), "COLUMNS": "100"}
BIG = 20_000, 50


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to write to."""
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> vecstore.VectorStore:
    """A store of odd keys and numbers that every format can hold."""
    vectors = numbered(len(ODD_KEYS), 3)[1]
    vectors[0], vectors[1] = [0, -0.0, 1e-45], [np.nan, np.inf, -np.inf]
    path = tmp_path_factory.mktemp("odd") / "odd.vecstore"
    vecstore.convert((ODD_KEYS, vectors), path)
    return vecstore.open(path)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> vecstore.VectorStore:
    path = tmp_path_factory.mktemp("big") / "big.vecstore"
    vecstore.convert(numbered(*BIG), path)
    return vecstore.open(path)


def assert_same(found: vecstore.VectorStore, expected: vecstore.VectorStore) -> None:
    assert list(found.keys) == list(expected.keys)
    np.testing.assert_array_equal(found.vectors.view(np.uint32), expected.vectors.view(np.uint32))


def gensim_reads(path: Path, format: str) -> KeyedVectors:
    if format == "gensim":
        return KeyedVectors.load(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # without a header it opens the file twice, and closes it once
        return KeyedVectors.load_word2vec_format(str(path), binary=format == "word2vec", no_header=format == "glove")


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text", "glove", "npy"])
@pytest.mark.parametrize("store", ["odd", "glove"])
def test_what_is_exported_converts_to_the_same_store(folder, format, store, request):
    store = request.getfixturevalue(store)
    path = export(store, folder / NAMES[format], format=format)
    assert path == folder / NAMES[format]
    assert left_in(folder) == FILES[path.name]
    vecstore.convert(path, folder / "again")
    assert vecstore.open(folder / "again").metadata.source.format == format
    assert_same(vecstore.open(folder / "again"), store)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
@formats
def test_stores_of_every_type_are_exported_as_float32(folder, tmp_path, format, dtype):
    keys, vectors = numbered(30_000, 50)
    vecstore.convert((keys, vectors), tmp_path / "store", dtype=dtype)
    store = vecstore.open(tmp_path / "store")
    served = store.gather(np.arange(len(store)))
    assert (served != vectors).any()
    path = export(store, folder / NAMES[format], format=format)
    if format == "gensim":
        found = KeyedVectors.load(str(path)).vectors
    else:
        vecstore.convert(path, folder / "again")
        found = vecstore.open(folder / "again").vectors
    assert found.dtype == np.float32
    assert found.tobytes() == served.tobytes()


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text", "glove", "gensim"])
@pytest.mark.parametrize("store", ["odd", "big"])
def test_gensim_reads_what_is_exported(folder, format, store, request):
    store = request.getfixturevalue(store)
    path = export(store, folder / NAMES[format], format=format)
    found = gensim_reads(path, format)
    assert found.index_to_key == list(store.keys)
    np.testing.assert_array_equal(found.vectors.view(np.uint32), store.vectors.view(np.uint32))


@pytest.mark.parametrize("newlines", [False, True], ids=["bare", "newlines"])
def test_a_binary_comes_back_byte_for_byte(tmp_path, newlines):
    keys, vectors = [key.encode() for key in ODD_KEYS], numbered(len(ODD_KEYS), 7)[1]
    data = word2vec_bytes(keys, vectors, newlines=newlines)
    (tmp_path / "in.bin").write_bytes(data)
    vecstore.convert(tmp_path / "in.bin", tmp_path / "store")
    export(tmp_path / "store", tmp_path / "out.bin", newlines=newlines)
    assert (tmp_path / "out.bin").read_bytes() == data


def test_text_that_gensim_wrote_comes_back_byte_for_byte(folder, glove_keys, glove_vectors):
    written = KeyedVectors(50)
    written.add_vectors(glove_keys[:5000], glove_vectors[:5000])
    written.save_word2vec_format(str(folder / "theirs.vec"))
    vecstore.convert(folder / "theirs.vec", folder / "store")
    export(folder / "store", folder / "ours.vec")
    assert (folder / "ours.vec").read_bytes() == (folder / "theirs.vec").read_bytes()


def test_gensims_format_holds_any_key_and_maps(tmp_path):
    keys = ["a b", "a\nb", "\ufeff", "b ", "x" * 5000]
    vecstore.convert((keys, numbered(5, 3)[1]), tmp_path / "store")
    path = export(tmp_path / "store", tmp_path / "out.kv")
    loaded = KeyedVectors.load(str(path), mmap="r")
    assert loaded.index_to_key == keys
    assert isinstance(loaded.vectors, np.memmap)
    np.testing.assert_array_equal(loaded.vectors, vecstore.open(tmp_path / "store").vectors)


def test_exports_of_gensims_format_are_equal(odd, folder):
    first, second = (export(odd, folder / name) for name in ("first.kv", "second.kv"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("name", ["out.bin", "out.vec", "out.npy", "out.kv"])
def test_the_suffix_says_the_format(odd, folder, name):
    format = {path: format for format, path in NAMES.items()}[name]
    export(odd, folder / name)
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(expected) == FILES[name] == {path.name for path in exported_files(Path(name))}
    shutil.rmtree(folder)
    folder.mkdir()
    export(odd, folder / name, format=format)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected


@pytest.mark.parametrize("name", ["out.txt", "out", "out.bin.gz", "out.BIN"])
def test_another_suffix_needs_a_format(odd, folder, name):
    message = (
        rf"{name}: expected a suffix that says the format \(\.bin, \.vec, \.npy, \.kv\), found '.*'; "
        r"name the format: format= \(--format\), one of word2vec, word2vec-text, glove, npy, gensim"
    )
    with pytest.raises(ValueError, match=message):
        export(odd, folder / name)
    assert left_in(folder) == set()
    for format in NAMES:
        export(odd, folder / name, format=format, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "fasttext"}, "format: expected one of auto, word2vec, .*, gensim, found 'fasttext'"),
        (
            {"format": "glove", "newlines": True},
            "newlines: expected them for a word2vec binary alone, found .* 'glove'",
        ),
    ],
)
def test_unknown_options_are_refused(odd, folder, options, message):
    with pytest.raises(ValueError, match=message):
        export(odd, folder / "out.bin", **options)
    assert left_in(folder) == set()


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("out.bin", "a b", "word2vec binary cannot hold a space in a key"),
        ("out.vec", "a\nb", "text cannot hold a newline in a key"),
        ("out.npy", "a\nb", "a key a line cannot hold a newline in a key"),
    ],
)
def test_a_key_that_the_format_cannot_hold_is_named(tmp_path, folder, name, key, message):
    vecstore.convert((["a", key], np.ones((2, 3), np.float32)), tmp_path / "odd.vecstore")
    message = rf"odd\.vecstore: row 1: key {re.escape(repr(key))}: {message}"
    with pytest.raises(vecstore.FormatError, match=message):
        export(tmp_path / "odd.vecstore", folder / name)
    assert left_in(folder) == set()


@formats
def test_each_file_that_exists_is_refused_unless_it_may_be_replaced(odd, folder, format):
    target = folder / NAMES[format]
    for name in FILES[target.name]:
        (folder / name).write_bytes(b"old")
        with pytest.raises(vecstore.TargetError, match=rf"{name}: exists already; to replace it: --overwrite"):
            export(odd, target, format=format)
        assert left_in(folder) == {name}
        assert (folder / name).read_bytes() == b"old"
        (folder / name).unlink()
    for name in FILES[target.name]:
        (folder / name).write_bytes(b"old")
    export(odd, target, format=format, overwrite=True)
    assert left_in(folder) == FILES[target.name]
    assert all((folder / name).read_bytes() != b"old" for name in FILES[target.name])


@formats
def test_a_file_that_appears_meanwhile_is_kept(big, folder, format):
    def appear(progress: Progress) -> None:
        (folder / NAMES[format]).write_bytes(b"other")

    with pytest.raises(vecstore.TargetError, match="exists already"):
        export(big, folder / NAMES[format], format=format, progress=appear)
    assert left_in(folder) == {NAMES[format]}
    assert (folder / NAMES[format]).read_bytes() == b"other"


def test_targets_that_are_no_place_for_a_file_are_refused(odd, folder):
    with pytest.raises(vecstore.TargetError, match="folder: expected a file to write, found a folder"):
        export(odd, folder, format="word2vec", overwrite=True)
    (folder / "out.keys.txt").mkdir()
    with pytest.raises(vecstore.TargetError, match=r"out\.keys\.txt: expected a file to write, found a folder"):
        export(odd, folder / "out.npy", overwrite=True)
    with pytest.raises(vecstore.TargetError, match=r"no/out\.bin: cannot be written: No such file or directory"):
        export(odd, folder / "no" / "out.bin")
    assert left_in(folder) == {"out.keys.txt"}


@formats
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_an_interrupted_export_leaves_what_was_there(big, folder, format, error):
    def stop(progress: Progress) -> None:
        raise error

    with pytest.raises(error):
        export(big, folder / NAMES[format], format=format, progress=stop)
    assert left_in(folder) == set()
    for name in FILES[NAMES[format]]:
        (folder / name).write_bytes(b"old")
    with pytest.raises(error):
        export(big, folder / NAMES[format], format=format, overwrite=True, progress=stop)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == dict.fromkeys(FILES[NAMES[format]], b"old")


@pytest.mark.parametrize("name", ["out.npy", "out.kv"])
def test_several_files_appear_together_or_not_at_all(odd, folder, name, monkeypatch):
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if path.parent.parent == folder and path.name == name:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(odd, folder / name)
    assert left_in(folder) == set()


@formats
def test_progress_tells_how_many_keys_are_written(big, folder, format):
    shown: list[Progress] = []
    export(big, folder / NAMES[format], format=format, progress=shown.append)
    assert shown[-1] == Progress("writing", BIG[0], BIG[0], "keys")
    assert [progress.done for progress in shown] == sorted({progress.done for progress in shown})


def test_exported_files_have_usual_permissions(odd, folder):
    for format, name in NAMES.items():
        export(odd, folder / name, format=format)
    mask = os.umask(0)
    os.umask(mask)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o666 & ~mask}


def test_an_open_store_is_exported_although_another_has_taken_its_place(tmp_path):
    vecstore.convert((["old"], np.ones((1, 2), np.float32)), tmp_path / "store")
    store = vecstore.open(tmp_path / "store")
    vecstore.convert((["new"], np.zeros((1, 2), np.float32)), tmp_path / "store", overwrite=True)
    export(store, tmp_path / "out.vec")
    assert (tmp_path / "out.vec").read_text() == "1 2\nold 1.0 1.0\n"


def test_damaged_offsets_are_an_error(tmp_path, folder):
    vecstore.convert(numbered(3, 2), tmp_path / "store")
    path = tmp_path / "store" / "offsets.npy"
    data = bytearray(path.read_bytes())
    data[-16:-8] = (2**40).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(vecstore.StoreError, match=r"store: the keys are damaged: .*; `vecstore verify` tells more"):
        export(tmp_path / "store", folder / "out.bin")
    assert left_in(folder) == set()


def command(folder: Path, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vecstore", "export", *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        **options,
    )


@formats
def test_command_exports_and_says_so_in_a_line(odd, folder, format):
    ran = command(folder, odd.path, NAMES[format], "--format", format)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{NAMES[format]}: 10 keys x 3, 0.0 MB\n", "")
    assert left_in(folder) == FILES[NAMES[format]]


def test_command_passes_its_options_on(big, folder):
    export(big, folder / "expected.bin", newlines=True)
    (folder / "out.bin").write_bytes(b"old")
    ran = command(folder, big.path, "out.bin", "--newlines", "--overwrite")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "out.bin: 20,000 keys x 50, 4.1 MB\n", "")
    assert (folder / "out.bin").read_bytes() == (folder / "expected.bin").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["STORE", "out.txt"], "out.txt: expected a suffix that says the format"),
        (["STORE", "old.bin"], "old.bin: exists already; to replace it: --overwrite"),
        (["STORE", "no/out.bin"], "no/out.bin: cannot be written: No such file or directory"),
        (["missing", "out.bin"], "missing: no such store"),
        (["STORE", "out.vec", "--newlines"], "newlines: expected them for a word2vec binary alone"),
        (["spaces", "out.bin"], "spaces: row 0: key 'a b': word2vec binary cannot hold a space in a key"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(odd, folder, arguments, says):
    vecstore.convert((["a b"], np.ones((1, 2), np.float32)), folder / "spaces")
    (folder / "old.bin").write_bytes(b"old")
    ran = command(folder, *(str(odd.path) if text == "STORE" else text for text in arguments))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("vecstore: ")
    assert says in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert left_in(folder) == {"spaces", "old.bin"}


@formats
def test_a_full_disk_is_one_line_and_leaves_nothing(big, folder, format):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    ran = command(folder, big.path, NAMES[format], "--format", format, preexec_fn=limit)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"vecstore: {folder / NAMES[format]}: cannot be written: ")
    assert "File too large" in ran.stderr or "took a part" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert left_in(folder) == set()


def test_ctrl_c_is_one_line_and_leaves_nothing(folder, tmp_path):
    vecstore.convert(numbered(200_000, 100), tmp_path / "store")
    process = subprocess.Popen(
        [sys.executable, "-m", "vecstore", "export", str(tmp_path / "store"), "out.vec"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        while process.poll() is None and not any(path.stat().st_size for path in folder.glob(".*.partial/.*.partial")):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"vecstore: interrupted\n")
    assert left_in(folder) == set()
