import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from files import PACKED
from hypothesis import given, settings
from hypothesis import strategies as st

from vecstore.errors import FormatError
from vecstore.jobs import corpus as corpora
from vecstore.jobs import records
from vecstore.jobs.corpus import Corpus

TEXTS = ["nice work", "größe", "", 'a "quoted", text', "日本語", "two\nlines"]
TABLE = pa.table({"id": range(6), "text": TEXTS, "score": [0.5, 1, None, 2, 3, 4]})
AS_TEXT = pa.table({"id": map(str, range(6)), "text": TEXTS, "score": ["0.5", "1", "", "2", "3", "4"]})


def write(path: Path, table: pa.Table = TABLE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix in (".csv", ".tsv"):
        options = pa.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        pa.csv.write_csv(table, path, options)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()), "utf-8")
    else:
        path.write_text("".join(f"{text}\n" for text in table["text"].to_pylist()), "utf-8")
    return path


def find(source: Path, column: str = "text", *, keep=None, format="auto", delimiter=None) -> Corpus:
    return Corpus.of(source, column, keep=keep, format=format, delimiter=delimiter)


def refuse(row, reason):
    raise AssertionError(f"row {row}: {reason}")


def read(corpus: Corpus, finished=frozenset()) -> pa.Table:
    tables = [table for block in corpus.blocks(finished) for table in corpus.tables(block, refuse)]
    return pa.concat_tables([corpus.schema.empty_table(), *tables])


@pytest.fixture
def small_blocks(monkeypatch):
    """Return a function that makes blocks as small as it is told."""

    def shrink(rows, size):
        for module in (records, corpora):
            monkeypatch.setattr(module, "BLOCK_ROWS", rows)
            monkeypatch.setattr(module, "BLOCK_BYTES", size)

    return shrink


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    corpus = find(write(tmp_path / f"corpus{suffix}"))
    expected = AS_TEXT if suffix in (".csv", ".tsv") else TABLE
    assert corpus.schema == expected.schema
    assert read(corpus).to_pylist() == expected.to_pylist()
    assert [block.first_row for block in corpus.blocks()] == [1]


def test_lines_of_text_are_a_column(tmp_path):
    corpus = find(write(tmp_path / "corpus.txt"), "line")
    assert read(corpus).to_pylist() == [{"line": text} for text in "\n".join(TEXTS).split("\n")]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_packed_files_are_unpacked_by_their_content(tmp_path, suffix, packed):
    plain = write(tmp_path / f"plain{suffix}")
    path = tmp_path / f"corpus{suffix}.gz"
    path.write_bytes(PACKED[packed](plain.read_bytes()))
    assert read(find(path)) == read(find(plain))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("size", [1, 16, 1 << 20])
def test_blocks_of_any_size_are_the_whole(tmp_path, small_blocks, suffix, rows, size):
    path = write(tmp_path / f"corpus{suffix}", pa.concat_tables([TABLE] * 5))
    whole = read(find(path))
    small_blocks(rows, size)
    corpus = find(path)
    blocks = list(corpus.blocks())
    assert read(corpus) == whole
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert all(len(block.rows) <= rows for block in blocks)
    assert [block.first_row for block in blocks] == np.cumsum([1, *(len(block.rows) for block in blocks)])[:-1].tolist()
    assert blocks[-1].done == path.stat().st_size


@given(
    groups=st.integers(1, 9),
    height=st.integers(1, 30),
    finished=st.sets(st.integers(0, 12)),
)
@settings(max_examples=40)
def test_blocks_of_parquet_are_ranges_whatever_its_row_groups(tmp_path_factory, groups, height, finished):
    path = tmp_path_factory.mktemp("parquet") / "corpus.parquet"
    table = pa.table({"id": range(100), "text": [f"text {i}" for i in range(100)]})
    pq.write_table(table, path, row_group_size=100 // groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "BLOCK_ROWS", height)
        blocks = list(find(path).blocks(finished))
        kept = [block.number for block in blocks]
        assert kept == [number for number in range(-(-100 // height)) if number not in finished]
        for block in blocks:
            start = block.number * height
            assert block.first_row == start + 1
            assert block.rows.rows == table.slice(start, height)


def test_wide_rows_of_parquet_make_low_blocks(tmp_path, small_blocks):
    table = pa.table({"text": [str(i) * 1000 for i in range(50)]})
    pq.write_table(table, tmp_path / "corpus.parquet", use_dictionary=False)
    small_blocks(1000, 10_000)
    heights = [len(block.rows) for block in find(tmp_path / "corpus.parquet").blocks()]
    assert max(heights) < 12
    assert sum(heights) == 50


def test_a_folder_is_read_in_the_order_of_names_with_the_columns_of_its_folders(tmp_path):
    write(tmp_path / "year=2020" / "lang=en" / "b.parquet", TABLE.slice(0, 2))
    write(tmp_path / "year=2020" / "lang=en" / "a.parquet", TABLE.slice(2, 1))
    write(tmp_path / "year=2019" / "lang=de" / "c.parquet", TABLE.slice(3, 3))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".hidden.csv").touch()
    found = read(find(tmp_path))
    assert found["id"].to_pylist() == [3, 4, 5, 2, 0, 1]
    assert found["year"].to_pylist() == [2019] * 3 + [2020] * 3
    assert found["lang"].to_pylist() == ["de"] * 3 + ["en"] * 3
    assert find(tmp_path, keep=["lang"]).schema.names == ["text", "lang"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_folders_of_records_have_columns_too(tmp_path, suffix):
    write(tmp_path / "lang=en" / f"a{suffix}", TABLE.slice(0, 2))
    write(tmp_path / "lang=de" / f"a{suffix}", TABLE.slice(3, 2))
    found = read(find(tmp_path))
    assert found["lang"].to_pylist() == ["de", "de", "en", "en"]
    assert found["text"].to_pylist() == TEXTS[3:5] + TEXTS[:2]


def test_the_same_corpus_is_found_from_anywhere(tmp_path, monkeypatch):
    path = write(tmp_path / "corpus.csv")
    monkeypatch.chdir(tmp_path)
    assert find(Path("corpus.csv")).files == find(path).files
    state = path.stat()
    assert (find(path).files[0].size, find(path).files[0].modified) == (state.st_size, state.st_mtime_ns)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_columns_that_are_not_kept_are_not_read(tmp_path, suffix):
    path = write(tmp_path / f"corpus{suffix}")
    expected = AS_TEXT if suffix == ".csv" else TABLE
    assert read(find(path, keep=["score"])) == expected.select(["text", "score"])
    assert read(find(path, keep=[])) == expected.select(["text"])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_later_file_may_lack_columns_but_has_no_others_unless_asked(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", TABLE)
    write(tmp_path / f"b{suffix}", TABLE.select(["text"]))
    assert read(find(tmp_path))["id"].cast(pa.int64()).to_pylist() == [*range(6), *[None] * 6]
    write(tmp_path / f"b{suffix}", TABLE.append_column("more", pa.array(range(6))))
    if suffix == ".jsonl":
        with pytest.raises(AssertionError, match="row 1: JSON parse error: unexpected field"):
            read(find(tmp_path))
    else:
        with pytest.raises(FormatError, match=rf"b{suffix}: expected the columns of .*a{suffix}, found 'more' too"):
            read(find(tmp_path))
    assert read(find(tmp_path, keep=["id"])).num_rows == 12


def test_columns_of_csv_stay_as_they_are(tmp_path):
    (tmp_path / "a.csv").write_text('id,text,when\n007,5,2020-01-01\n1e400,"",NULL\n')
    assert read(find(tmp_path / "a.csv")).to_pydict() == {
        "id": ["007", "1e400"],
        "text": ["5", ""],
        "when": ["2020-01-01", "NULL"],
    }


def test_types_of_json_are_those_of_the_first_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "2020-01-01", "when": "2020-01-01", "n": null, "tags": ["a"]}\n')
    schema = find(tmp_path / "a.jsonl").schema
    assert [str(field.type) for field in schema] == ["string", "string", "string", "list<item: string>"]


def test_bad_first_rows_of_json_do_not_hide_the_types(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": \n{"id": 1, "text": "a"}\n{"id": 1, "text": 5}\n')
    assert find(tmp_path / "a.jsonl").schema == pa.schema([("id", pa.int64()), ("text", pa.string())])


def test_bad_rows_are_numbered_within_their_file(tmp_path, small_blocks):
    lines = [b"id,text", *(b"%d,t%d" % (i, i) for i in range(1, 21))]
    lines[13] = b"13,\xff"
    write(tmp_path / "a.csv", pa.table({"id": [1], "text": ["a"]}))
    (tmp_path / "b.csv").write_bytes(b"\n".join(lines))
    small_blocks(3, 1 << 20)
    corpus, bad = find(tmp_path), []
    for block in corpus.blocks():
        list(corpus.tables(block, lambda row, reason, block=block: bad.append((Path(block.file.path).name, row))))
    assert bad == [("b.csv", 13)]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\na\n")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\n")
    assert read(find(tmp_path / "a.csv")).to_pydict() == read(find(tmp_path / "a.txt")).to_pydict() == {"text": ["a"]}


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl", "a.txt"])
def test_a_corpus_without_rows_has_one_block_without_rows(tmp_path, name):
    path = write(tmp_path / name, TABLE.slice(0, 0))
    corpus = find(path)
    assert [len(block.rows) for block in corpus.blocks()] == [0]
    assert "text" in read(corpus).schema.names
    assert list(corpus.blocks({0})) == []


def test_the_first_json_file_may_be_empty(tmp_path):
    (tmp_path / "a.jsonl").touch()
    write(tmp_path / "b.jsonl")
    assert read(find(tmp_path)).num_rows == 6


def refused(source, says, column="text", error=FormatError, **options):
    with pytest.raises(error, match=says):
        read(find(source, column, **options))


def test_what_is_no_corpus_is_refused(tmp_path):
    refused(tmp_path / "absent", "absent", error=FileNotFoundError)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty: expected files of texts, found none")
    mixed = tmp_path / "mixed"
    write(mixed / "a.csv")
    write(mixed / "b.jsonl")
    refused(mixed, r"mixed: expected files of one format, found .*a.csv and .*b.jsonl")
    (tmp_path / "a.doc").touch()
    refused(tmp_path / "a.doc", r"a.doc: expected one of .parquet, .*say what it is: --format")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    refused(tmp_path / "a.parquet", "a.parquet: expected a Parquet file")
    (tmp_path / "a.csv").touch()
    refused(tmp_path / "a.csv", "a.csv: expected a header with the columns' names, found an empty file")
    (tmp_path / "b.csv").write_text("a,b,a\n")
    refused(tmp_path / "b.csv", "b.csv: expected a header with distinct names, found 'a' twice")
    for name in ("b.csv", "b.jsonl", "b.txt"):
        (tmp_path / name).write_text("text\n", "utf-16")
        refused(tmp_path / name, f"{name}: expected text in UTF-8, found UTF-16; save it as UTF-8")
    (tmp_path / "c.csv").write_text('text\n"a\nb\n')
    refused(tmp_path / "c.csv", "c.csv, from row 1 on: a quote is not closed until the end of the file")
    (tmp_path / "d.csv.gz").write_bytes(PACKED["gzip"](write(tmp_path / "d.csv").read_bytes())[:-9])
    refused(tmp_path / "d.csv.gz", "d.csv.gz")
    refused(write(tmp_path / "e.csv"), r"e.csv: expected a column 'nope', found id, text, score", "nope", KeyError)
    refused(tmp_path / "e.csv", r"expected a column 'more'", error=KeyError, keep=["more"])
    refused(tmp_path / "e.csv", "delimiter: expected one ASCII character, found '::'", error=ValueError, delimiter="::")


def test_a_column_of_another_type_in_a_later_file_is_refused(tmp_path):
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", TABLE.set_column(0, "id", pa.array(["x"] * 6)))
    refused(tmp_path, r"b.parquet: column 'id': expected int64 as in the first file, found string")


def test_damaged_pages_of_parquet_are_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [os.urandom(50).hex() for _ in range(1000)]}), path, compression="snappy")
    data = bytearray(path.read_bytes())
    data[200:4000] = bytes(3800)
    path.write_bytes(data)
    refused(path, r"a.parquet: rows 1 to 1,000 cannot be read")


def test_a_row_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_LONGEST", 1 << 12)
    monkeypatch.setattr(records, "BLOCK_BYTES", 1 << 10)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n{"text": "' + b"x" * 100_000)
    refused(tmp_path / "a.jsonl", r"a.jsonl, row 2: expected rows of less than 4,096 bytes")


SEEDS = {
    "csv": b'id,text\n1,nice\n2,"a ""b""\nc"\n',
    "json": b'{"id": 1, "text": "nice"}\n{"id": 2, "text": null, "more": [1, {"a": 2}]}\n',
    "text": "nice\r\ngröße\n\n".encode(),
}


@st.composite
def mutated(draw, seed):
    """Return a file with some bytes changed, put in, taken out or doubled."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(["change", "insert", "remove", "repeat"]))
        if what == "insert":
            data[at:at] = draw(st.sampled_from([b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"{", b"}", b"\xef\xbb\xbf"]))
        elif what == "change":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif what == "remove":
            del data[at : at + draw(st.integers(1, 4))]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 12))]
    return bytes(data)


@pytest.mark.parametrize("name", SEEDS)
@given(data=st.data())
@settings(max_examples=300)
def test_damaged_files_are_rows_or_errors_that_say_where(tmp_path_factory, name, data):
    path = tmp_path_factory.getbasetemp() / f"damaged.{name}"
    path.write_bytes(data.draw(mutated(SEEDS[name])))
    said, blocks = str(path), []
    try:
        corpus = find(path, format=name)
        blocks = list(corpus.blocks())
    except (FormatError, KeyError) as error:
        said = str(error)
    assert str(path) in said
    bad = []
    tables = [table for block in blocks for table in corpus.tables(block, lambda row, reason: bad.append(row))]
    assert {table.schema for table in tables} <= {corpus.schema if blocks else None}
    rows = sum(len(block.rows) for block in blocks)
    assert sum(map(len, tables)) <= rows
    assert sorted(set(bad)) == bad
    assert all(1 <= row <= rows for row in bad)
    for table in tables:
        table.validate(full=True)
