import contextlib
import errno
import gzip
import os
import re
import subprocess
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import reference
from files import GZIP, left_in, numbered, word2vec_bytes
from hypothesis import example, given, settings
from hypothesis import strategies as st

import vecstore
from vecstore import writer
from vecstore.layout import ARRAYS, METADATA, SCALES, Source

compressions = pytest.mark.parametrize("packed", GZIP.values(), ids=GZIP)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound word2vec binary of 3 records."""
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes([b"one", b"two", b"three"], np.arange(6).reshape(3, 2)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "vectors.vecstore"


def converted(folder: Path, keys, vectors, **options):
    """Convert a file made of `keys` and `vectors`; return the report and the store's contents."""
    (folder / "vectors.bin").write_bytes(word2vec_bytes(keys, vectors))
    report = vecstore.convert(folder / "vectors.bin", folder / "vectors.vecstore", **options)
    assert vecstore.verify(folder / "vectors.vecstore") == []
    with vecstore.open(folder / "vectors.vecstore") as store:
        return report, contents(store)


def contents(store: vecstore.VectorStore) -> list[tuple[str, bytes]]:
    """Each key with the bits of the vector that a lookup of it gives, in row order."""
    keys = list(store.keys)
    assert store.find(keys).tolist() == list(range(len(keys)))
    return [(key, row.tobytes()) for key, row in zip(keys, store.lookup(keys), strict=True)]


def in_bits(keys, vectors) -> list[tuple[str, bytes]]:
    return [(key, row.tobytes()) for key, row in zip(keys, np.asarray(vectors, np.float32), strict=True)]


def test_report_says_what_was_done(source, target):
    report = vecstore.convert(source, target)
    assert report.path == target
    assert (report.rows, report.dim) == (3, 2)
    assert report.size == sum(path.stat().st_size for path in target.iterdir())
    assert report.seconds > 0
    assert report.source == Source("vectors.bin", source.stat().st_size, "word2vec", None, source.stat().st_mtime_ns)
    assert report.dropped == {"duplicates": 0, "undecodable": 0, "unwanted": 0}
    assert report.unusual == {"nan": 0, "infinite": 0, "zero": 0, "huge": 0}
    assert re.fullmatch(
        rf"{re.escape(str(target))}\n"
        r"  3 keys x 2 float32, [\d.,]+ MB\n"
        r"  from vectors.bin in [\d.]+ s \([\d,]+ MB/s\)\n"
        r"  records dropped: 0 duplicates, 0 undecodable, 0 unwanted\n"
        r"  unusual rows kept: 0 nan, 0 infinite, 0 zero, 0 huge\n"
        r"  every value fits bfloat16 exactly: --dtype auto would store 12 bytes of vectors instead of 24 bytes",
        str(report),
    )


def test_metadata_agrees_with_the_report(source, target):
    report = vecstore.convert(source, target)
    metadata = vecstore.open(target).metadata
    assert metadata.writer == f"vecstore {vecstore.__version__}"
    for field in "rows", "dim", "source", "dropped", "unusual":
        assert getattr(metadata, field) == getattr(report, field)


@pytest.mark.parametrize(
    ("duplicates", "kept"),
    [("first", {"a": 0, "b": 1, "c": 3, "": 5}), ("last", {"a": 6, "b": 1, "c": 4, "": 5})],
)
def test_duplicates_keep_one_vector_in_the_first_row(tmp_path, duplicates, kept):
    keys, vectors = [b"a", b"b", b"a", b"c", b"c", b"", b"a"], numbered(7, 3)[1]
    report, found = converted(tmp_path, keys, vectors, duplicates=duplicates)
    assert found == in_bits(kept, vectors[list(kept.values())])
    assert report.dropped == {"duplicates": 3, "undecodable": 0, "unwanted": 0}
    assert "records dropped: 3 duplicates, 0 undecodable, 0 unwanted" in str(report)


@pytest.mark.parametrize("duplicates", ["first", "last"])
def test_duplicates_far_apart_are_found(tmp_path, duplicates):
    keys, vectors = numbered(300_000, 4)
    rng = np.random.default_rng(1)
    keys = [keys[i] for i in rng.integers(0, 100_000, len(keys))]
    report, found = converted(tmp_path, keys, vectors, duplicates=duplicates)
    kept: dict[str, int] = {}
    for i, key in enumerate(keys):
        if duplicates == "last" or key.decode() not in kept:
            kept[key.decode()] = i
    assert found == in_bits(kept, vectors[list(kept.values())])
    assert report.dropped["duplicates"] == len(keys) - len(kept)


def test_duplicates_may_be_refused(tmp_path):
    message = r"vectors\.bin: expected each key once, found 'a' in rows 0 and 2; .*duplicates='first' or 'last'"
    with pytest.raises(vecstore.FormatError, match=message):
        converted(tmp_path, [b"a", b"b", b"a", b"b"], numbered(4, 3)[1], duplicates="error")
    assert left_in(tmp_path) == {"vectors.bin"}


@pytest.mark.parametrize("duplicates", ["first", "last"])
def test_unusual_rows_are_counted_and_kept_bit_for_bit(tmp_path, duplicates):
    quiet, signalling, denormal = 0x7FC01234, 0xFFA00001, 0x00000001
    bits = np.array(
        [
            [quiet, 0x3F800000],
            [signalling, 0x7F800000],
            [0x7F800000, 0],
            [0, 0xFF800000],
            [0, 0],
            [0x80000000, 0],
            [denormal, 0],
            [0, 0],
        ],
        np.uint32,
    )
    keys = [b"k%d" % i for i in range(7)] + [b"k6"]
    report, found = converted(tmp_path, keys, bits.view(np.float32), duplicates=duplicates)
    rows = [0, 1, 2, 3, 4, 5, 7 if duplicates == "last" else 6]
    assert found == [(f"k{i}", bits[row].tobytes()) for i, row in enumerate(rows)]
    assert report.unusual == {"nan": 2, "infinite": 2, "zero": 3 if duplicates == "last" else 2, "huge": 0}


@pytest.mark.parametrize(
    ("encoding_errors", "keys", "rows", "dropped"),
    [
        ("replace", ["ok", "a\ufffd", "\ufffd", "ä"], [0, 1, 2, 5], {"duplicates": 2, "undecodable": 0, "unwanted": 0}),
        ("ignore", ["ok", "a", "", "ä"], [0, 1, 2, 5], {"duplicates": 2, "undecodable": 0, "unwanted": 0}),
        ("skip", ["ok", "ä"], [0, 5], {"duplicates": 0, "undecodable": 4, "unwanted": 0}),
    ],
)
def test_undecodable_keys_follow_the_policy(tmp_path, encoding_errors, keys, rows, dropped):
    source_keys, vectors = [b"ok", b"a\xff", b"\xc3", b"\xfe", b"a\xfe", "ä".encode()], numbered(6, 3)[1]
    report, found = converted(tmp_path, source_keys, vectors, encoding_errors=encoding_errors)
    assert found == in_bits(keys, vectors[rows])
    assert report.dropped == dropped


@compressions
def test_undecodable_keys_are_refused_by_default(source, target, packed):
    data = word2vec_bytes([b"ok", b"a\xffb", b"c"], numbered(3, 2)[1])
    source.write_bytes(packed(data))
    place = data.index(b"a\xffb")
    message = (
        rf"vectors\.bin: record 2, byte {place}: expected a key in UTF-8, found b'a\\xffb' \(invalid start byte\); "
        r".*encoding_errors='replace', 'ignore' or 'skip'"
    )
    with pytest.raises(vecstore.FormatError, match=message):
        vecstore.convert(source, target)
    assert left_in(source.parent) == {"vectors.bin"}


@pytest.mark.parametrize("first", [b"\xe6\x97", b"\xe6\x97\xa5"])
def test_keys_that_are_utf8_only_together_are_refused(source, target, first):
    source.write_bytes(word2vec_bytes([first, b"\xa5\xe6\x9c\xac"], numbered(2, 2)[1]))
    with pytest.raises(vecstore.FormatError, match="expected a key in UTF-8"):
        vecstore.convert(source, target)


def test_a_source_whose_every_key_is_skipped_gives_an_empty_store(tmp_path):
    report, found = converted(tmp_path, [b"\xff", b"\xfe"], numbered(2, 3)[1], encoding_errors="skip")
    assert (report.rows, report.dim, found) == (0, 3, [])


def test_a_key_with_a_space_is_refused_for_the_key_that_it_breaks(source, target):
    keys, vectors = numbered(100, 5)
    keys[3] = b"New York"
    source.write_bytes(word2vec_bytes(keys, np.full_like(vectors, 0.1)))
    with pytest.raises(vecstore.FormatError, match=r"record 5, byte .*: expected a key in UTF-8, .*holds a space"):
        vecstore.convert(source, target)


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (2, 2), (3, 3), (4, 3), (10**18, 3)])
def test_limit_reads_so_many_records(source, target, limit, kept):
    assert vecstore.convert(source, target, limit=limit).rows == kept
    assert list(vecstore.open(target).keys) == ["one", "two", "three"][:kept]


@compressions
@pytest.mark.parametrize("limit", [1, 3_000, 9_999])
def test_limit_does_not_look_at_what_follows(source, target, limit, packed):
    keys, vectors = numbered(10_000, 300)
    source.write_bytes(packed(word2vec_bytes(keys, vectors)[:-1]))
    with pytest.raises(vecstore.FormatError, match=r"record 10,000, .*cut short"):
        vecstore.convert(source, target)
    vecstore.convert(source, target, limit=limit)
    assert contents(vecstore.open(target)) == in_bits([key.decode() for key in keys[:limit]], vectors[:limit])


def test_a_wrong_count_is_a_warning_where_convert_was_called(source, target):
    source.write_bytes(word2vec_bytes(*numbered(3, 5), header=b"4 5\n"))
    with pytest.warns(vecstore.FormatWarning, match="expected 4 records, found the end after 3") as warned:
        assert vecstore.convert(source, target, count_mismatch="warn").rows == 3
    assert [warning.filename for warning in warned] == [__file__]


def test_a_warning_that_is_an_error_leaves_no_store(source, target):
    source.write_bytes(word2vec_bytes(*numbered(3, 5), header=b"4 5\n"))
    with pytest.raises(vecstore.FormatWarning, match="expected 4 records"):
        vecstore.convert(source, target, count_mismatch="warn")
    assert left_in(source.parent) == {"vectors.bin"}


@pytest.mark.parametrize("key", [b"New York", b"ice cream"])
def test_a_binary_out_of_step_is_refused_or_warned_of(source, target, key):
    """A key with a space, with vectors whose shifted bytes are UTF-8."""
    keys, vectors = [b"k%d" % i for i in range(50)], np.full((50, 40), 0.5, np.float32).view(np.uint32) + 0x2A2A2A
    keys[20] = key
    source.write_bytes(word2vec_bytes(keys, vectors.view(np.float32)))
    with pytest.warns(vecstore.FormatWarning, match="1 rows hold numbers beyond 1e15; .* a key holds a space"):
        report = vecstore.convert(source, target, format="word2vec")
    assert report.unusual["huge"] == 1


def test_limit_counts_records_before_any_is_dropped(tmp_path):
    keys, vectors = [b"a", b"a", b"\xff", b"b", b"c"], numbered(5, 2)[1]
    report, found = converted(tmp_path, keys, vectors, limit=4, encoding_errors="skip")
    assert found == in_bits(["a", "b"], vectors[[0, 3]])
    assert report.dropped == {"duplicates": 1, "undecodable": 1, "unwanted": 0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicates": "keep"}, "duplicates: expected one of first, last, error, found 'keep'"),
        ({"encoding_errors": "x"}, "encoding_errors: expected one of strict, replace, ignore, skip, found 'x'"),
        ({"count_mismatch": "ignore"}, "count_mismatch: expected one of error, warn, found 'ignore'"),
        ({"format": "gloves"}, "format: expected one of auto, word2vec, word2vec-text, glove, .*, found 'gloves'"),
        ({"limit": 0}, "limit: expected at least 1, found 0"),
        ({"limit": -3}, "limit: expected at least 1, found -3"),
    ],
)
def test_convert_refuses_unknown_options(source, target, options, message):
    with pytest.raises(ValueError, match=message):
        vecstore.convert(source, target, **options)
    assert left_in(source.parent) == {"vectors.bin"}


def test_an_existing_store_is_replaced_only_if_told(source, target):
    vecstore.convert(source, target, limit=2)
    with pytest.raises(vecstore.TargetError, match=r"vectors\.vecstore: exists already; to replace it: --overwrite"):
        vecstore.convert(source, target)
    assert len(vecstore.open(target)) == 2
    vecstore.convert(source, target, overwrite=True)
    assert len(vecstore.open(target)) == 3
    assert left_in(source.parent) == {"vectors.bin", "vectors.vecstore"}


def test_a_failed_conversion_keeps_the_store_that_is_there(source, target):
    vecstore.convert(source, target)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(vecstore.FormatError, match="the file is cut short"):
        vecstore.convert(source, target, overwrite=True)
    assert vecstore.verify(target) == []
    assert left_in(source.parent) == {"vectors.bin", "vectors.vecstore"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "link to a store", "dangling link"])
def test_a_target_that_is_no_store_is_refused_and_untouched(source, tmp_path, kind, overwrite):
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    elif kind == "empty folder":
        target.mkdir()
    else:
        if kind == "link to a store":
            vecstore.convert(source, tmp_path / "elsewhere")
        target.symlink_to("elsewhere")
    before = snapshot(tmp_path)
    message = "exists and is not a store; it will not be replaced" if overwrite else "exists already; to replace it"
    with pytest.raises(vecstore.TargetError, match=f"target: {message}"):
        vecstore.convert(source, target, overwrite=overwrite)
    assert snapshot(tmp_path) == before


def snapshot(folder: Path) -> dict[str, object]:
    def state(path: Path) -> object:
        if path.is_symlink():
            return os.readlink(path)
        return path.read_bytes() if path.is_file() else None

    return {str(path.relative_to(folder)): state(path) for path in folder.rglob("*")}


@pytest.mark.parametrize("target", ["missing/store", "vectors.bin/store", "vectors.bin/missing/store"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_target_without_a_folder_around_it_is_refused(source, tmp_path, target, overwrite):
    with pytest.raises(vecstore.TargetError, match=r"store: cannot be written: there is no folder .*"):
        vecstore.convert(source, tmp_path / target, overwrite=overwrite)
    assert left_in(tmp_path) == {"vectors.bin"}


def test_the_source_may_not_be_its_own_target(source):
    before = source.read_bytes()
    for overwrite in False, True:
        with pytest.raises(vecstore.TargetError, match=r"vectors\.bin: exists"):
            vecstore.convert(source, source, overwrite=overwrite)
    assert source.read_bytes() == before


def test_a_missing_source_is_named(tmp_path, target):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*missing\.bin'"):
        vecstore.convert(tmp_path / "missing.bin", target)
    assert left_in(tmp_path) == set()


def big(path: Path) -> Path:
    """Write a source of several blocks."""
    path.write_bytes(word2vec_bytes(*numbered(20_000, 300)))
    return path


@pytest.mark.parametrize("name", ["a b", "[*?].bin", "größe.bin", "'\"\\", "new\nline", ".hidden", "-"])
def test_names_may_hold_anything(tmp_path, source, name):
    odd = source.rename(tmp_path / name)
    for target in f"{name}.vecstore", "plain":
        vecstore.convert(odd, tmp_path / target)
        vecstore.convert(odd, tmp_path / target, overwrite=True)
        assert vecstore.verify(tmp_path / target) == []
        assert vecstore.open(tmp_path / target).metadata.source.name == name
    assert left_in(tmp_path) == {name, f"{name}.vecstore", "plain"}


def test_names_need_not_be_utf8(tmp_path, source):
    odd = source.rename(tmp_path / os.fsdecode(b"vectors\xff.bin"))
    target = tmp_path / os.fsdecode(b"store\xff")
    report = vecstore.convert(odd, target)
    assert vecstore.verify(target) == []
    assert vecstore.open(target).metadata.source == report.source
    assert report.source.name == "vectors?.bin"


def test_paths_may_be_str_relative_and_have_a_slash_at_the_end(source, monkeypatch):
    monkeypatch.chdir(source.parent)
    report = vecstore.convert("vectors.bin", "vectors.vecstore/")
    assert report.path == source.parent / "vectors.vecstore"
    assert vecstore.verify("vectors.vecstore") == []


@compressions
def test_progress_goes_from_reading_to_indexing(source, target, packed):
    source.write_bytes(packed(word2vec_bytes(*numbered(20_000, 100))))
    size = source.stat().st_size
    seen: list[vecstore.Progress] = []
    vecstore.convert(source, target, progress=seen.append)
    reading = [progress for progress in seen if progress.stage == "reading"]
    done = [progress.done for progress in reading]
    assert {(progress.total, progress.unit) for progress in reading} == {(size, "bytes")}
    assert done == sorted(done)
    assert 0 < done[0] <= done[-1] == size
    assert [(progress.stage, progress.total) for progress in seen if progress.unit == "keys"][:1] == [
        ("indexing", 20_000)
    ]


@compressions
@pytest.mark.parametrize("stage", ["reading", "indexing"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_progress_may_raise_and_nothing_is_left(source, target, error, stage, packed):
    def stop(progress: vecstore.Progress) -> None:
        if progress.stage == stage:
            raise error("enough")

    source.write_bytes(packed(word2vec_bytes(*numbered(5_000, 300))))
    with pytest.raises(error, match="enough"):
        vecstore.convert(source, target, progress=stop)
    assert left_in(source.parent) == {"vectors.bin"}


@pytest.mark.parametrize("newlines", [False, True])
def test_plain_and_gzip_give_the_same_arrays(tmp_path, newlines):
    keys, vectors = numbered(10_000, 100)
    data = word2vec_bytes([*keys, b"k1"], np.vstack([vectors, vectors[:1]]), newlines=newlines)
    for name, packed in GZIP.items():
        (tmp_path / name).write_bytes(packed(data))
        vecstore.convert(tmp_path / name, tmp_path / f"{name}.vecstore")
    for name in ARRAYS:
        assert len({(tmp_path / f"{way}.vecstore" / name).read_bytes() for way in GZIP}) == 1
    assert vecstore.open(tmp_path / "gzip.vecstore").metadata.source.compression == "gzip"


def test_moments_are_those_of_the_finite_rows(tmp_path):
    keys, vectors = numbered(3000, 20)
    vectors = vectors * np.geomspace(1e-3, 1e3, 20, dtype=np.float32) + np.float32(0.3)
    vectors[7, 3], vectors[8, 0], vectors[9] = np.nan, np.inf, 0
    converted(tmp_path, keys, vectors)
    finite = np.delete(vectors, [7, 8], axis=0).astype(np.float64)
    moments = np.load(tmp_path / "vectors.vecstore" / "moments.npy")
    np.testing.assert_allclose(moments, [finite.mean(axis=0), finite.std(axis=0)], rtol=1e-9)


def test_moments_of_no_finite_row_are_zeros(tmp_path):
    converted(tmp_path, [b"a"], [[np.nan, 1.0]])
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.vecstore" / "moments.npy"), np.zeros((2, 2)))


keys_of_a_source = st.binary(max_size=12).filter(lambda key: not {0x20, 0x0A} & set(key))
bits_of_a_float = st.integers(0, 2**32 - 1)


def dict_of(records, *, duplicates, encoding_errors):
    """What a dict makes of the records: the slow, obvious twin of a conversion."""
    kept: dict[str, bytes] = {}
    for key, vector in records:
        try:
            text = key.decode(errors="strict" if encoding_errors == "skip" else encoding_errors)
        except UnicodeDecodeError:
            continue
        if duplicates == "last" or text not in kept:
            kept[text] = vector
    return kept


@settings(max_examples=150, deadline=None)
@given(
    dim=st.integers(1, 5),
    records=st.lists(st.tuples(keys_of_a_source, st.lists(bits_of_a_float, min_size=5, max_size=5)), min_size=1),
    newlines=st.booleans(),
    packed=st.sampled_from(list(GZIP.values())),
    duplicates=st.sampled_from(["first", "last"]),
    encoding_errors=st.sampled_from(["replace", "ignore", "skip"]),
)
@example(1, [(b"", [0] * 5)] * 2, False, GZIP["plain"], "last", "skip")
def test_convert_agrees_with_a_dict(dim, records, newlines, packed, duplicates, encoding_errors):
    keys = [key for key, _ in records]
    bits = np.array([row[:dim] for _, row in records], "<u4")
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name, "source"), Path(name, "target")
        source.write_bytes(packed(word2vec_bytes(keys, bits.view("<f4"), newlines=newlines)))
        options = {"duplicates": duplicates, "encoding_errors": encoding_errors}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "source: .* rows hold numbers beyond 1e15")
            vecstore.convert(source, target, format="word2vec", **options)
        assert vecstore.verify(target) == []
        with vecstore.open(target) as store:
            expected = dict_of(zip(keys, map(np.ndarray.tobytes, bits), strict=True), **options)
            assert contents(store) == list(expected.items())


TYPES = ["float16", "bfloat16", "int8"]
D = 50
NORMAL = np.random.default_rng(0).standard_normal((60_000, D), dtype=np.float32)  # 12 MB: some blocks
INEXACT = np.float32(1 / 3)  # that no narrow type holds beside others
EXACT = {
    "int8": np.random.default_rng(1).integers(-127, 128, NORMAL.shape).astype(np.float32) * np.float32(0.01),
    "bfloat16": (NORMAL.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
    "float16": NORMAL.astype(np.float16).astype(np.float32),
    "float32": NORMAL,
}
KEYS = [b"k%d" % i for i in range(len(NORMAL))]


def stored_bits(path: Path) -> bytes:
    store = vecstore.open(path)
    return store.gather(np.arange(len(store))).tobytes()


@pytest.mark.parametrize("dtype", TYPES)
def test_types_are_rounded_like_their_twins(tmp_path, dtype):
    vectors = NORMAL[:3000]
    report, _ = converted(tmp_path, KEYS[:3000], vectors, dtype=dtype)
    store = vecstore.open(tmp_path / "vectors.vecstore")
    kept = {
        "float16": lambda: (vectors.astype(np.float16), None),
        "bfloat16": lambda: (vectors.astype(ml_dtypes.bfloat16).view(np.uint16), None),
        "int8": lambda: (np.rint(vectors / scales[:, None]).astype(np.int8), scales),
    }
    scales = np.abs(vectors).max(axis=1) / np.float32(127)
    numbers, scales = kept[dtype]()
    np.testing.assert_array_equal(store.vectors, numbers, strict=True)
    assert (store.scales is None) == (dtype != "int8")
    served = reference.widen(dtype, numbers, scales)
    assert stored_bits(store.path) == served.tobytes()
    errors = np.abs(served.astype(np.float64) - vectors)
    np.testing.assert_allclose([report.errors.largest, report.errors.mean], [errors.max(), errors.mean()])
    cosines = (served * vectors).sum(axis=1) / np.linalg.norm(served, axis=1) / np.linalg.norm(vectors, axis=1)
    assert report.errors.cosine == pytest.approx(cosines.min(), abs=1e-6)
    assert (report.dtype, report.exact_dtype, store.metadata.dtype) == (dtype, "float32", dtype)
    assert f"  3,000 keys x 50 {dtype}, " in str(report)
    assert f"\n  rounded to {dtype}: largest error {errors.max():.3g}, mean {errors.mean():.3g}, lowest" in str(report)


@pytest.mark.parametrize("dtype", EXACT)
def test_auto_finds_the_smallest_type_that_loses_nothing(tmp_path, dtype):
    report, found = converted(tmp_path, KEYS, EXACT[dtype], dtype="auto")
    assert (report.dtype, report.exact_dtype) == (dtype, dtype)
    assert (report.errors.largest, report.errors.mean, report.errors.cosine) == (0, 0, 1)
    assert found == in_bits([key.decode() for key in KEYS], EXACT[dtype])
    assert "rounded" not in str(report)
    assert "exactly" not in str(report)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("row", [0, 20_000, len(NORMAL) - 1])
def test_one_number_anywhere_ends_a_type(tmp_path, dtype, row):
    vectors = EXACT[dtype].copy()
    vectors[row, 7] = INEXACT
    report, found = converted(tmp_path, KEYS, vectors, dtype="auto")
    assert (report.dtype, report.exact_dtype, report.errors.largest) == ("float32", "float32", 0)
    assert found == in_bits([key.decode() for key in KEYS], vectors)
    assert left_in(report.path) == {METADATA, *ARRAYS}


def test_auto_falls_back_block_by_block_through_all_types(tmp_path):
    vectors = np.tile(np.arange(D, dtype=np.float32), (len(NORMAL), 1))
    for row, number in (10_000, 129), (30_000, 2047), (50_000, 2049):
        vectors[row, 3] = number
    report, found = converted(tmp_path, KEYS, vectors, dtype="auto")
    assert report.dtype == "float32"
    assert found == in_bits([key.decode() for key in KEYS], vectors)
    for rows, dtype in (50_000, "float16"), (30_000, "bfloat16"), (10_000, "int8"):
        report = vecstore.convert(tmp_path / "vectors.bin", tmp_path / dtype, dtype="auto", limit=rows)
        assert report.dtype == dtype
        assert stored_bits(tmp_path / dtype) == vectors[:rows].tobytes()


@pytest.mark.parametrize("dtype", ["auto", *TYPES])
@pytest.mark.parametrize("duplicates", ["first", "last"])
def test_repeated_keys_are_dropped_whatever_the_type(tmp_path, dtype, duplicates):
    keys, vectors = [b"a", b"b", b"a", b"c", b"c", b"", b"a"], EXACT["int8"][:7]
    report, found = converted(tmp_path, keys, vectors, dtype=dtype, duplicates=duplicates)
    kept = {"first": [0, 1, 3, 5], "last": [6, 1, 4, 5]}[duplicates]
    assert report.dtype == {"auto": "int8"}.get(dtype, dtype)
    assert [key for key, _ in found] == ["a", "b", "c", ""]
    np.testing.assert_allclose(
        np.frombuffer(b"".join(bits for _, bits in found), np.float32).reshape(4, D), vectors[kept], rtol=0.005
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_report_says_what_auto_would_save(tmp_path, dtype):
    report, _ = converted(tmp_path, KEYS, EXACT["int8"], dtype=dtype)
    assert (report.dtype, report.exact_dtype) == (dtype, "int8")
    now = {"float32": "12.00 MB"}.get(dtype, "6.00 MB")
    assert (f"\n  every value fits int8 exactly: --dtype auto would store 3.24 MB of vectors instead of {now}") in str(
        report
    )
    assert str(report).endswith(now)


def test_the_report_says_when_as_many_bytes_could_be_exact(tmp_path):
    report, _ = converted(tmp_path, KEYS, EXACT["bfloat16"], dtype="float16")
    assert report.errors.largest > 0
    assert str(report).endswith("\n  every value fits bfloat16 exactly, in as many bytes: --dtype auto")


def test_the_report_of_gigabytes_is_in_gigabytes(source, target):
    report = replace(vecstore.convert(source, target), rows=3_000_000, dim=300)
    assert str(report).endswith("bfloat16 exactly: --dtype auto would store 1.80 GB of vectors instead of 3.60 GB")


@pytest.mark.parametrize(
    ("dtype", "number", "found"),
    [
        ("float16", 65520, "65520.0"),
        ("float16", -1e30, "-1e+30"),
        ("bfloat16", 3.4e38, "3.4e+38"),
        ("int8", np.nan, "nan"),
        ("int8", -np.inf, "-inf"),
    ],
)
@pytest.mark.parametrize("row", [0, 2, len(NORMAL) - 1])
def test_a_number_that_a_type_cannot_hold_is_named(tmp_path, dtype, number, found, row):
    vectors = NORMAL.copy()
    vectors[row, 3:5] = number
    vectors[row, 1] = np.nan if dtype != "int8" else 0
    message = (
        rf"vectors\.bin: row {row:,}: key 'k{row}': expected numbers that {dtype} can hold, found "
        rf"{re.escape(found)} at position 3; name another type: dtype= \(--dtype\), 'float32' or 'auto'"
    )
    with pytest.raises(vecstore.FormatError, match=message):
        converted(tmp_path, KEYS, vectors, dtype=dtype)
    assert left_in(tmp_path) == {"vectors.bin"}
    for other in "float32", "auto":
        vecstore.convert(tmp_path / "vectors.bin", tmp_path / other, dtype=other)
        assert stored_bits(tmp_path / other) == vectors.tobytes()


def test_nothing_is_left_when_writing_again_fails(tmp_path, monkeypatch):
    vectors = EXACT["bfloat16"].copy()
    vectors[-1, 0] = INEXACT

    def fill(folder, storage):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(writer, "_map_vectors", fill)
    with pytest.raises(OSError, match="No space left on device"):
        converted(tmp_path, KEYS, vectors, dtype="auto")
    assert left_in(tmp_path) == {"vectors.bin"}


@pytest.mark.parametrize("dtype", TYPES)
def test_what_a_type_holds_is_converted_from_it_without_loss(tmp_path, dtype):
    vecstore.convert((KEYS, NORMAL), tmp_path / "first", dtype=dtype)
    vecstore.export(tmp_path / "first", tmp_path / "first.bin")
    report = vecstore.convert(tmp_path / "first.bin", tmp_path / "second", dtype="auto")
    assert report.dtype == dtype
    assert stored_bits(tmp_path / "second") == stored_bits(tmp_path / "first")


def test_stores_of_any_type_replace_one_another(source, target):
    for dtype in ["int8", "float32", "int8", "bfloat16", "auto", "float16"]:
        vecstore.convert(source, target, dtype=dtype, overwrite=True)
        assert vecstore.verify(target) == []
        assert (SCALES in left_in(target)) == (dtype == "int8")


@pytest.mark.parametrize("dtype", ["float64", "f4", None, np.float32])
def test_unknown_types_are_refused(source, target, dtype):
    with pytest.raises(ValueError, match="dtype: expected one of float32, float16, bfloat16, int8, auto, found"):
        vecstore.convert(source, target, dtype=dtype)


CONVERT = "import sys, vecstore; vecstore.convert(*sys.argv[1:3], dtype=sys.argv[3])"


def anonymous_peak(source: Path, target: Path, dtype: str = "float32") -> float:
    """Convert in a fresh process; return the most anonymous memory it was seen to have, in MB (Linux; 0 elsewhere)."""
    path = str(Path(vecstore.__file__).parents[1])
    command = [sys.executable, "-c", CONVERT, source, target, dtype]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    peak = 0
    while process.poll() is None:
        if sys.platform == "linux":
            found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.005)
    assert process.returncode == 0
    return peak / 1000


@compressions
def test_memory_does_not_grow_with_the_source(tmp_path, packed):
    vectors = numbered(10_000, 100)[1]
    peaks = []
    for blocks in 25, 100:  # 100 and 400 MB; the smaller fills every buffer too
        source = tmp_path / f"{blocks}.bin"
        with source.open("wb") as plain, gzip.open(plain, "wb", 0) if packed is GZIP["gzip"] else plain as file:
            file.write(b"%d 100\n" % (10_000 * blocks))
            for start in range(0, 10_000 * blocks, 10_000):
                file.write(word2vec_bytes([b"k%d" % (start + i) for i in range(10_000)], vectors, header=b""))
        peaks.append(anonymous_peak(source, tmp_path / f"{blocks}.vecstore"))
    assert peaks[1] < peaks[0] + 60
    assert max(peaks) < 250


def test_memory_does_not_grow_when_a_store_is_written_again(tmp_path):
    """The last record ends bfloat16, when all others are written in it."""
    vectors = (numbered(10_000, 100)[1].view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    peaks = []
    for blocks in 15, 60:
        source = tmp_path / f"{blocks}.bin"
        with source.open("wb") as file:
            file.write(b"%d 100\n" % (10_000 * blocks + 1))
            for start in range(0, 10_000 * blocks, 10_000):
                file.write(word2vec_bytes([b"k%d" % (start + i) for i in range(10_000)], vectors, header=b""))
            file.write(word2vec_bytes([b"last"], np.full((1, 100), INEXACT + vectors[0]), header=b""))
        peaks.append(anonymous_peak(source, tmp_path / f"{blocks}.vecstore", "auto"))
        assert vecstore.open(tmp_path / f"{blocks}.vecstore").metadata.dtype == "float32"
    assert peaks[1] < peaks[0] + 60
    assert max(peaks) < 250
