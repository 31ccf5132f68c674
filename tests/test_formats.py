"""Files of each kind as they are published or as people make them, from their bytes to a store or a refusal."""

import csv
import gzip
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from files import PACKED, left_in, numbered, word2vec_bytes, zip_bytes

import vecstore

NUMBERS = np.array([[0.25, -1.5e-05, 3.0], [1 / 3, -0.0, 1e6], [0.1, 7.0, -2.0]], np.float32)
FASTTEXT_MAGIC = struct.pack("<ii", 793712314, 12)


def convert(data: bytes, folder: Path, name: str = "vectors.txt", **options):
    (folder / name).write_bytes(data)
    report = vecstore.convert(folder / name, folder / "store", overwrite=True, **options)
    with vecstore.open(folder / "store") as store:
        return list(store.keys), store.vectors.copy(), report


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(expected, np.float32).view(np.uint32))


def assert_refuses(data: bytes, folder: Path, message: str, name: str = "vectors.txt", **options):
    """The message names the file, and nothing is left."""
    (folder / name).write_bytes(data)
    with pytest.raises(vecstore.FormatError, match=message) as raised:
        vecstore.convert(folder / name, folder / "store", **options)
    assert str(folder / name) in str(raised.value)
    assert left_in(folder) == {name}


def lines(keys, *, form="{!s}", separator=" ", end="\n", header="") -> bytes:
    rows = (separator.join([key, *map(form.format, row)]) + end for key, row in zip(keys, NUMBERS, strict=True))
    return (header + "".join(rows)).encode()


def savetxt(*columns: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.savetxt(file, np.column_stack([column.astype(object) for column in columns]), **options)
    return file.getvalue()


def frame(keys=("a", "b", "c")) -> pd.DataFrame:
    return pd.DataFrame(NUMBERS, index=list(keys))


GLOVE = [". . .", "at name@domain.com", "<unk>"]
PUBLISHED = {
    "GloVe": (GLOVE, {}),
    "GloVe of Twitter": (["<user>", "\u0085", "<unk>"], {}),
    "fastText": ([",", "the", "\u00a0"], {"header": "3 3\n", "end": " \n"}),
    "fastText, blank in the header": ([",", "the", "."], {"header": "3 3 \n"}),
    "word2vec.c": (["</s>", "the", "of"], {"header": "3 3\n", "end": " \n", "form": "{:f}"}),
    "MUSE": (["de", "l'", "maître"], {"header": "3 3\n", "form": "{:.5g}"}),
    "Polyglot as text": (["<UNK>", "<S>", "</S>"], {"form": "{:.7f}"}),
    "Numberbatch": (["/c/en/a", "/c/de/größe", "#"], {"header": "3 3\n"}),
    "spaCy": (["\u3000", "ça", "'s"], {"header": "3 3\n"}),
    "tabs": (["a-n", "b v", "c|x"], {"header": "3 3\n", "separator": "\t"}),
    "Windows": (["a", "b", "c"], {"header": "3 3\r\n", "end": "\r\n"}),
    "Windows with a mark": (["a", "b", "c"], {"header": "\ufeff", "end": "\r\n"}),
    "savetxt": (["a", "b", "c"], {"form": "{:.18e}"}),
}


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize(("keys", "layout"), PUBLISHED.values(), ids=PUBLISHED)
def test_published_text_is_read(keys, layout, packed, tmp_path):
    found, vectors, report = convert(packed(lines(keys, **layout)), tmp_path)
    assert found == keys
    assert (report.rows, report.dim) == (3, 3)
    assert report.source.format == ("word2vec-text" if "3 3" in layout.get("header", "") else "glove")
    form = layout.get("form", "{!s}")
    assert_same_bits(vectors, [[np.float32(form.format(number)) for number in row] for row in NUMBERS])


def test_tables_of_numpy_and_pandas_are_read(tmp_path):
    keys = np.array(["a", "b", "c"])
    for data in (
        savetxt(keys, NUMBERS, fmt=["%s"] + 3 * ["%.18e"]),
        frame().to_csv(sep=" ", header=False).encode(),
        frame().to_csv(sep="\t", header=False).encode(),
    ):
        found, vectors, _ = convert(data, tmp_path)
        assert found == ["a", "b", "c"]
        assert_same_bits(vectors, NUMBERS)


def test_quotes_of_csv_belong_to_the_key(tmp_path):
    """pandas quotes a key with the separator in it, but GloVe has keys with quotes, and no one could tell."""
    keys = ["a", "b c", '"']
    assert convert(frame(keys).to_csv(sep=" ", header=False).encode(), tmp_path)[0] == ["a", '"b c"', '""""']
    plain = frame(keys).to_csv(sep=" ", header=False, quoting=csv.QUOTE_NONE, escapechar="\\")
    assert convert(plain.encode(), tmp_path)[0] == ["a", "b\\ c", '\\"']


@pytest.mark.parametrize("newlines", [False, True], ids=["GoogleNews", "word2vec.c"])
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_published_binary_is_read(newlines, packed, tmp_path):
    keys = ["</s>", "in", "größe"]
    data = word2vec_bytes([key.encode() for key in keys], NUMBERS, newlines=newlines)
    found, vectors, report = convert(packed(data), tmp_path, "vectors.bin")
    assert found == keys
    assert_same_bits(vectors, NUMBERS)
    assert report.source.format == "word2vec"


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.bin", "vectors.gz", "vectors.npy", "vectors", "vectors.kv"])
@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_name_of_a_file_says_nothing(name, packed, tmp_path):
    assert convert(packed(lines(GLOVE)), tmp_path, name)[0] == GLOVE
    assert convert(packed(word2vec_bytes([b"a", b"b", b"c"], NUMBERS)), tmp_path, name)[0] == ["a", "b", "c"]


def test_archive_as_glove_is_published(tmp_path):
    names = ["glove.6B.50d.txt", "glove.6B.100d.txt"]
    (tmp_path / "glove.6B.zip").write_bytes(zip_bytes(dict.fromkeys(names, lines(GLOVE))))
    with pytest.raises(vecstore.FormatError, match=r"found 2: 'glove\.6B\.50d\.txt', 'glove\.6B\.100d\.txt'; name one"):
        vecstore.convert(tmp_path / "glove.6B.zip", tmp_path / "store")
    for name in names:
        report = vecstore.convert(f"{tmp_path}/glove.6B.zip::{name}", tmp_path / "store", overwrite=True)
        assert (report.rows, report.source.compression) == (3, "zip")


def torch_zip() -> bytes:
    return zip_bytes({"glove/data.pkl": pickle.dumps([1], 2), "glove/data/0": bytes(36), "glove/version": b"3\n"})


def savez() -> bytes:
    file = io.BytesIO()
    np.savez(file, vectors=NUMBERS, keys=np.array(["a", "b", "c"]))
    return file.getvalue()


FOREIGN = {
    "fastText": (FASTTEXT_MAGIC + bytes(100), r"found a fastText model; .*\.vec file"),
    "fastText, quantised": (FASTTEXT_MAGIC + bytes(60) + b"\1" + bytes(40), "found a fastText model"),
    "fastText, gzip": (gzip.compress(FASTTEXT_MAGIC + bytes(100)), "found a fastText model"),
    "gensim": (pickle.dumps({"vectors": NUMBERS}, 4), "found a pickle, which may run code when loaded"),
    "gensim, gzip": (gzip.compress(pickle.dumps([1], 2)), "found a pickle"),
    "torch": (torch_zip(), "found a PyTorch file, a pickle, .*load it with torch"),
    "torch of old": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "found a pickle"),
    "npz": (savez(), r"found 2: 'vectors\.npy', 'keys\.npy'; name one, as in '.*vectors\.txt::vectors\.npy'"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "found an HDF5 file; read it with h5py and give"),
    "Parquet": (b"PAR1" + bytes(90), "found a Parquet file; read it with pyarrow"),
    "Arrow": (b"ARROW1\0\0" + bytes(90), "found an Arrow file"),
    "magnitude": (b"SQLite format 3\0" + bytes(90), "found an SQLite database, such as magnitude's"),
    "finalfusion": (b"FiFu" + bytes(90), "found a finalfusion file; export it as word2vec"),
    "JSON": (b'{"a": [1, 2, 3]}\n', "found b'{"),
    "CSV": (frame().to_csv(header=False).encode(), "found b'a,0.25"),
    "CSV, semicolons": (b"a;0,25;1\nb;3;4\n", "found b'a;0,25"),
    "HTML": (b"<!DOCTYPE html>\n<html>404</html>\n", "found b'<!DOCTYPE html>"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "found b'version https"),
    "UTF-16": ("a 1 2 3\n".encode("utf-16"), "found text in UTF-16; save it as UTF-8"),
    "words": (b"the\nof\nand\n", "found b'the"),
    "sentences": (b"this is no vector\nnor this\n", "found b'this is"),
    "matrix": (savetxt(NUMBERS, fmt="%.18e"), r"expected a key before the numbers .*format='glove'"),
    "matrix, short": (savetxt(NUMBERS, fmt="%.3f"), "expected a key before the numbers"),
    "empty": (b"", "found an empty file"),
    "blank lines": (b"\n \n\n", "found b'"),
    "header alone": (b"3 3\n", "announces 3 records of 3 numbers"),
    "newline lost": (b"3 3 a 1 2 3 b 4 5 6 c 7 8 9", "line 1, byte 0: expected .* numbers"),
    "header of three": (lines("abc", header="3 3 3\n"), "line 1, byte 0: expected 3 numbers after key b'3', found 2"),
    "comment first": (lines("abc", header="# vectors\n"), "found b'# vectors"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), FOREIGN.values(), ids=FOREIGN)
def test_other_files_are_refused_with_a_remedy(data, message, tmp_path):
    assert_refuses(data, tmp_path, message)


def test_member_of_a_torch_file_is_refused_too(tmp_path):
    (tmp_path / "glove.pt").write_bytes(torch_zip())
    with pytest.raises(vecstore.FormatError, match=r"glove\.pt.*(pickle|PyTorch)"):
        vecstore.convert(f"{tmp_path}/glove.pt::glove/data.pkl", tmp_path / "store")


def test_matrix_of_an_npz_is_read_with_its_keys(tmp_path):
    (tmp_path / "vectors.npz").write_bytes(savez())
    (tmp_path / "keys.txt").write_text("a\nb\nc\n")
    report = vecstore.convert(
        f"{tmp_path}/vectors.npz::vectors.npy", tmp_path / "store", row_keys=tmp_path / "keys.txt"
    )
    assert report.rows == 3


@pytest.mark.parametrize("columns", [2, 3, 50])
@pytest.mark.parametrize("rows", [2, 90, 91, 92, 93, 94, 95, 1000])
def test_matrix_of_any_size_is_refused(rows, columns, tmp_path):
    matrix = np.random.default_rng(0).standard_normal((rows, columns))
    assert_refuses(savetxt(matrix, fmt="%.18e"), tmp_path, "expected a key before the numbers of each line, found b'")


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("format", ["auto", "word2vec", "word2vec-text", "glove", "npy", "safetensors"])
@pytest.mark.parametrize("packed", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_pickles_are_never_run(protocol, format, packed, tmp_path):
    path, sprung = tmp_path / "model.kv", tmp_path / "sprung"
    path.write_bytes(packed(pickle.dumps(Trap(sprung), protocol)))
    with pytest.raises(vecstore.FormatError, match=r"model\.kv: "):
        vecstore.convert(path, tmp_path / "store", format=format)
    assert left_in(tmp_path) == {"model.kv"}
    np.save(tmp_path / "vectors.npy", np.array([[Trap(sprung)]]), allow_pickle=True)
    (tmp_path / "vectors.keys.txt").write_text("a\n")
    with pytest.raises(vecstore.FormatError, match=r"vectors\.npy: "):
        vecstore.convert(tmp_path / "vectors.npy", tmp_path / "store", format="auto")
    assert not sprung.exists()


@pytest.mark.parametrize(("header", "numbers"), [(2, 3), (300, 301), (300, 599), (3, 300), (1, 2)])
@pytest.mark.parametrize("count", [2, 50])
def test_dim_too_small_in_the_header_is_refused(header, numbers, count, tmp_path):
    """Else each key would end in numbers, and each vector lack some."""
    line = " ".join(["0.5"] * numbers)
    data = "".join([f"{count} {header}\n", *(f"k{i} {line}\n" for i in range(count))])
    assert_refuses(
        data.encode(),
        tmp_path,
        rf"line \d, byte \d+: .*found vectors of {header} numbers announced, and lines that end with {numbers}",
    )


@pytest.mark.parametrize("numbers", [2, 3, 299])
def test_dim_too_large_in_the_header_is_refused(numbers, tmp_path):
    line = " ".join(["0.5"] * numbers)
    data = f"50 300\n{f'a {line}{chr(10)}' * 50}"
    assert_refuses(
        data.encode(), tmp_path, "expected 300 numbers after key b'a', found|announces 50 records of 300 numbers"
    )


@pytest.mark.parametrize("header", ["", "3 3\n"], ids=["glove", "header"])
@pytest.mark.parametrize("numbers", ["0,1 0,2 0,3", "0,125 10,5 1,0", "1.0, 2.0, 3.0", "[1.0 2.0 3.0]", "0x1 0x2 0x3"])
def test_text_with_other_numbers_is_refused(numbers, header, tmp_path):
    """Also where a text of four bytes a number has the length of a binary."""
    data = header + "".join(f"{key} {numbers}\n" for key in "abc")
    assert_refuses(data.encode(), tmp_path, "found b'|found .*numbers")


def test_text_with_decimal_commas_is_refused(tmp_path):
    assert_refuses(
        b"2 3\na 0,1 0,2 0,3\nb 0,1 0,2 0,3\n", tmp_path, "line 2, byte 4: expected 3 numbers .*found b'0,1'"
    )


@pytest.mark.parametrize("first", [b"a ", b"k0 ", b"</s> "])
@pytest.mark.parametrize("vector", [b"\0\0\0\x3f", b"abc\x3f", b"    ", b"\n\n\n\n", b"l\xbf\x00>"])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_small_binary_is_no_text(first, vector, dim, tmp_path):
    """As long as a byte of it is not printable; what is text and binary alike is a binary if the caller says so."""
    data = b"1 %d\n" % dim + first + dim * vector
    if not vector.isascii() or b"\0" in vector:
        keys, vectors, report = convert(data, tmp_path)
        assert (keys, report.source.format) == ([first.decode().strip()], "word2vec")
        assert vectors.tobytes() == dim * vector
    keys, vectors, _ = convert(data, tmp_path, format="word2vec")
    assert keys == [first.decode().strip()]
    assert vectors.tobytes() == dim * vector


def test_unusual_numbers_of_text_are_kept_and_counted(tmp_path):
    data = b"a nan 1\nb 2 -inf\nc 0 -0\nd 1e-46 0.0\ne -nan inf\nf 1e39 1e-45\ng 0 1\n"
    keys, vectors, report = convert(data, tmp_path)
    expected = [[np.nan, 1], [2, -np.inf], [0, -0.0], [0, 0], [np.float32("-nan"), np.inf], [np.inf, 1e-45], [0, 1]]
    assert keys == list("abcdefg")
    assert_same_bits(vectors, np.array(expected, np.float32))
    assert report.unusual.items() >= {"nan": 2, "infinite": 2, "zero": 2}.items()


@pytest.mark.parametrize("announced", [3, 5])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_header_of_one_too_many_or_too_few_is_an_error_with_the_option(binary, announced, tmp_path):
    keys, vectors = numbered(4, 2)
    header = b"%d 2\n" % announced
    text = header + b"".join(b"%b %f %f\n" % (key, *row) for key, row in zip(keys, vectors.tolist(), strict=True))
    data = word2vec_bytes(keys, vectors, header=header) if binary else text
    # Of a file whose size is unknown; else a binary is refused by its header.
    assert_refuses(gzip.compress(data), tmp_path, rf"expected .*{announced} records, found .*; .*count_mismatch='warn'")
    with pytest.warns(
        vecstore.FormatWarning, match=rf"vectors\.txt: .*byte \d+: expected .*{announced} records, found"
    ):
        found, _, report = convert(gzip.compress(data), tmp_path, count_mismatch="warn")
    assert found == [key.decode() for key in keys[:announced]]
    assert report.rows == min(4, announced)


# Standard input becomes a pipe that a thread fills from the file.
ABSURD = """
import os, resource, sys, threading, vecstore
def feed():
    with open(sys.argv[1], "rb") as source, open(into, "wb") as sink:
        sink.write(source.read())
out, into = os.pipe()
os.dup2(out, 0)
threading.Thread(target=feed).start()
try:
    vecstore.convert("-", sys.argv[2], count_mismatch=sys.argv[3])
except vecstore.FormatError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("mismatch", ["error", "warn"])
@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_absurd_counts_take_no_memory_where_the_size_is_unknown(binary, mismatch, tmp_path, run_python):
    """Through a pipe, of which nobody knows how much will come."""
    keys, vectors = numbered(1000, 20)
    peaks = []
    for count in (1000, 10**15):
        header = b"%d 20\n" % count
        rows = zip(keys, vectors.tolist(), strict=True)
        text = header + b"".join(key + b" " + " ".join(map(str, row)).encode() + b"\n" for key, row in rows)
        data = word2vec_bytes(keys, vectors, header=header) if binary else text
        path = tmp_path / "vectors"
        path.write_bytes(data)
        *said, peak = run_python(ABSURD, path, tmp_path / f"store{count}", mismatch).splitlines()
        peaks.append(int(peak))
        if mismatch == "error" and count > 1000:
            assert "expected 1,000,000,000,000,000 records, found the end after 1,000" in said[0]
        else:
            assert not said
            with vecstore.open(tmp_path / f"store{count}") as store:
                assert len(store) == 1000
    assert peaks[1] < peaks[0] + 20_000, peaks
