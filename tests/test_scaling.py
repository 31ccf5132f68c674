import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vecstore
from benchmarks.scaling import arithmetic, keyspace, nodes, shards, tables
from vecstore.keys import KeyBatch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "scaling.md"


def test_store_bytes_are_those_of_a_store(store, small_keys):
    files = store.metadata.files
    expected = arithmetic.store_bytes(len(small_keys), store.dim, "float32", len("".join(small_keys).encode()) / 10)
    for name, bytes_of in expected._asdict().items():
        assert files[f"{name}.npy"]["size"] == 128 + bytes_of, name


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", (1200, 8, 16, 64)), ("bfloat16", (600, 8, 16, 64)), ("int8", (304, 8, 16, 64))],
)
def test_store_bytes_by_hand(dtype, expected):
    assert arithmetic.store_bytes(1, 300, dtype, 8) == expected
    assert arithmetic.store_bytes(1, 300, dtype, 8).total == sum(expected)


def test_rows_in_is_the_most_that_fits():
    rows = arithmetic.rows_in(64e9, 300, "int8", 10)
    assert arithmetic.store_bytes(rows, 300, "int8", 10).total <= 64e9
    assert arithmetic.store_bytes(rows + 1, 300, "int8", 10).total > 64e9
    assert arithmetic.rows_in(0, 300, "int8", 10) == 0
    assert arithmetic.rows_in(1e18, 300, "int8", 10) == 2**32 - 2


def test_distinct_expected_by_hand():
    assert arithmetic.distinct_expected(np.array([0.5, 0.5]), 2) == pytest.approx(1.5)
    assert arithmetic.distinct_expected(np.array([0.75, 0.25]), 1) == pytest.approx(1)


def test_zipf_shares_by_hand():
    np.testing.assert_allclose(arithmetic.zipf_shares(2), np.array([3.7, 2.7]) / 6.4)


def test_misses_of_lru_by_hand():
    alike = np.full(1000, 1e-3)
    assert arithmetic.misses_of_lru(alike, 250) == pytest.approx(0.75)  # without favourites, what is kept is hit
    assert arithmetic.misses_of_lru(alike, 1000) == 0


def test_misses_of_lru_agree_with_a_cache():
    shares = arithmetic.zipf_shares(1000)
    pages = np.random.default_rng(0).choice(1000, 40_000, p=shares)
    assert arithmetic.misses_of_lru(shares, 200) == pytest.approx(nodes.lru_misses(pages, 200), rel=0.03)


def test_lru_misses_by_hand():
    assert nodes.lru_misses(np.array([0, 1, 0, 2, 0, 1]), 2) == pytest.approx(2 / 3)  # 2 and then 1 are gone, 0 stays
    assert nodes.lru_misses(np.array([0, 1, 0, 1]), 1) == 1


def test_pages_of_rows_by_hand():
    assert nodes.pages_of(np.array([0, 3, 4, 7]), 1200).tolist() == [0, 0, 1, 2]
    np.testing.assert_allclose(nodes.page_shares(np.full(8, 1 / 8), 2048), np.full(4, 1 / 4))


def test_fit_heaps_finds_the_law():
    law = arithmetic.fit_heaps([10, 100, 1000], [3 * 10**0.5, 3 * 100**0.5, 3 * 1000**0.5])
    assert law == pytest.approx((3, 0.5))
    assert law.distinct(10_000) == pytest.approx(300)


@pytest.mark.parametrize(
    ("workers", "fan_in", "expected"),
    [
        (1, 8, (0, 0, 0)),
        (4, 4, (8, 40, 40)),  # 4 parts of 10 keys, 0.2 s a key
        (4, 2, (12, 40, 80)),  # 2 of 10, then 2 of 20
        (3, 2, (4 + 8, 40, 30 + 40)),  # parts are spread evenly again on each level
    ],
)
def test_merge_counts_by_hand(workers, fan_in, expected):
    distinct = {4: 10, 2: 20, 3: 10}
    cost = arithmetic.merge_counts(workers, fan_in, 1, lambda part: distinct[round(1 / part)], 0.2)
    assert cost == pytest.approx(expected)


@pytest.mark.parametrize(("machines", "expected"), [(1, (2, 2)), (3, (6, 4)), (4, (8, 6)), (7, (14, 6))])
def test_copy_seconds_by_hand(machines, expected):
    assert arithmetic.copy_seconds(20, machines, 10) == expected


def test_probes_by_hand():
    assert arithmetic.probes(0.5) == (1.5, 2.5)
    assert arithmetic.misses_of_tag(0.5, 8) == 2.5 / 256


def test_probes_agree_with_a_table():
    store = vecstore.keys.KeyBatch.of([f"{i}" for i in range(60_000)])
    slots = np.zeros(1 << 17, np.uint64)
    vecstore.index.fill_slots(*store.packed(), slots)
    runs, load = keyspace.runs_of(slots != 0), 60_000 / 2**17
    assert runs.sum() == 60_000
    assert keyspace.probes_of(runs, len(slots)) == pytest.approx(arithmetic.probes(load)[1], rel=0.05)
    assert runs.max() < arithmetic.longest_run(len(slots), load)


def test_runs_by_hand():
    taken = np.array([True, False, True, True, False, True])  # the last run goes on at the beginning
    runs = keyspace.runs_of(taken)
    assert sorted(runs.tolist()) == [2, 2]
    assert keyspace.probes_of(runs, 6) == pytest.approx((3 + 2 + 1 + 3 + 2 + 1) / 6)


def test_longest_run_by_hand():
    assert arithmetic.longest_run(1024, 0.5) == pytest.approx(math.log(1024) / (math.log(2) - 0.5))


def test_rows_or_sums_by_hand():
    assert arithmetic.rows_or_sums(1, 4, 10) == pytest.approx((40, 80))
    assert arithmetic.rows_or_sums(2, 2, 10) == pytest.approx((80, 120))  # both keys in one shard, or in two


def test_shard_is_the_multilinear_hash():
    keys = ["", "a", "größe", "a\0", "x" * 2000, "word"]
    multipliers = shards._MULTIPLIERS.tolist()
    for shards_of in (1, 8, 256):
        expected = []
        for key in keys:
            hashed = sum(multipliers[i % 1024] * (byte + 1) for i, byte in enumerate(key.encode())) % 2**64
            expected.append((hashed >> 32) * shards_of >> 32)
        assert shards.shard_of(KeyBatch.of(keys), shards_of).tolist() == expected


@pytest.mark.parametrize("number", [1, 2, 8])
def test_shards_answer_as_one_store(glove, tmp_path, number):
    vecstore.convert((glove.keys[:500], glove.vectors[:500]), tmp_path / "one.vecstore")
    with vecstore.open(tmp_path / "one.vecstore") as one:
        cut = shards.Shards.build(one, number, tmp_path)
        assert sum(map(len, cut.stores)) == 500
        keys = KeyBatch.of([*glove.keys[490:510], "qwertzuiop", ""])
        found = cut.find(keys)
        np.testing.assert_array_equal(found >= 0, one.find(keys) >= 0)
        assert len(np.unique(found[found >= 0])) == 10
        np.testing.assert_array_equal(cut.gather(found), one.lookup(keys))


def test_write_between_replaces_what_stands_there(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- a -->\n\nold\n\n<!-- /a -->\nafter\n")
    for _ in range(2):
        tables.write_between(path, {"a": "| new |"})
    assert path.read_text() == "before\n<!-- a -->\n\n| new |\n\n<!-- /a -->\nafter\n"
    with pytest.raises(ValueError, match="expected lines <!-- b --> and <!-- /b -->"):
        tables.write_between(path, {"b": ""})
    with pytest.raises(ValueError, match="expected a table for each place, found 0 for 1"):
        tables.write_between(path, {})


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (tables.number(1234.5), "1,200"),
        (tables.number(0.000012), "1.2e-05"),
        (tables.scaled(999), "1 k"),
        (tables.scaled(0.25, "B"), "0.25 B"),
        (tables.size(17_179_869_184), "17.2 GB"),
        (tables.rate(5.5e6), "5.5 M/s"),
        (tables.duration(90), "90 s"),
        (tables.duration(7200), "2 h"),
        (tables.duration(0.0000021), "2.1 µs"),
        (tables.duration(6e-8), "60 ns"),
        (tables.duration(0), "0 ns"),
        (tables.percent(0.125), "12%"),
    ],
)
def test_numbers_are_written_as_people_read_them(shown, expected):
    assert shown == expected


def test_command_fills_every_table(tmp_path):
    page = tmp_path / "scaling.md"
    page.write_text(re.sub(r"(<!-- (\w+) -->\n).*?(<!-- /\2 -->\n)", r"\1\3", DOCS.read_text(), flags=re.DOTALL))
    command = [sys.executable, "-m", "benchmarks.scaling", "--quick", "--docs", page, "--json", tmp_path / "found.json"]
    done = subprocess.run([*map(str, command), "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "found.json").read_text())) == {"machine", "nodes", "cores", "documents", "keys"}
    places = re.findall(r"<!-- (\w+) -->\n\n(.+?)\n\n<!-- /\1 -->", page.read_text(), flags=re.DOTALL)
    assert [name for name, _ in places] == re.findall(r"<!-- (\w+) -->", DOCS.read_text())
    assert all(content.startswith("| ") for name, content in places if name != "machine")
    for name, content in places:
        assert len({line.count("|") for line in content.splitlines()}) == 1, name
    assert not list(tmp_path.glob("vecstore-scaling-*"))
