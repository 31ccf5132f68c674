import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from files import PACKED, numbered, word2vec_bytes

import vecstore
from vecstore.formats.detect import open_source

KEYS, VECTORS = numbered(3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "vectors.keys.txt").write_bytes(b"\n".join(KEYS) + b"\n")
    return tmp_path / "vectors.any"


def npy_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, VECTORS)
    return file.getvalue()


def safetensors_bytes() -> bytes:
    header = json.dumps({"m": {"dtype": "F32", "shape": VECTORS.shape, "data_offsets": [0, VECTORS.nbytes]}}).encode()
    return len(header).to_bytes(8, "little") + header + VECTORS.tobytes()


def text_bytes() -> bytes:
    records = zip(KEYS, VECTORS.tolist(), strict=True)
    return b"".join(b"%b %b\n" % (key, b" ".join(map(b"%r".__mod__, row))) for key, row in records)


FILES = {
    "word2vec": word2vec_bytes(KEYS, VECTORS),
    "word2vec-text": b"3 4\n" + text_bytes(),
    "glove": text_bytes(),
    "npy": npy_bytes(),
    "safetensors": safetensors_bytes(),
}


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("named", [False, True], ids=["auto", "named"])
def test_every_format_is_known_by_its_content(path, format, pack, named):
    path.write_bytes(pack(FILES[format]))
    target = path.with_suffix(".vecstore")
    report = vecstore.convert(path, target, format=format if named else "auto")
    assert report.source.format == format
    store = vecstore.open(target)
    assert list(store.keys) == [key.decode() for key in KEYS]
    np.testing.assert_array_equal(store.vectors, VECTORS)


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("content", FILES)
def test_a_wrong_name_of_a_format_is_an_error(path, format, content):
    if format == content:
        return
    path.write_bytes(FILES[content])
    with pytest.raises(vecstore.FormatError, match=r"vectors\.any: .*expected .*found |vectors\.any: .* announces "):
        vecstore.convert(path, path.with_suffix(".vecstore"), format=format)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        *((pickle.dumps({"a": 1}, protocol), "found a pickle, which may run code") for protocol in range(2, 6)),
        ((793712314).to_bytes(4, "little") + bytes(60), r"found a fastText model; its vectors alone are in the \.vec"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "found an HDF5 file"),
        (b"PAR1" + bytes(60), "found a Parquet file"),
        (b"ARROW1\0\0" + bytes(60), "found an Arrow file"),
        (b"SQLite format 3\0" + bytes(60), "found an SQLite database, such as magnitude's"),
        (b"FiFu" + bytes(60), "found a finalfusion file"),
        ("a 1 2\n".encode("utf-16"), "found text in UTF-16; save it as UTF-8"),
        (b"hello world\n", "expected a word2vec header 'count dim', a line of text .*, found b'hello world"),
        (b"\0" * 100, "expected a word2vec header"),
    ],
)
def test_other_files_are_named(path, data, message):
    path.write_bytes(data)
    with pytest.raises(vecstore.FormatError, match=rf"vectors\.any: .*{message}"):
        open_source(path)


def test_folder_is_a_model_or_refused(tmp_path, path):
    with pytest.raises(vecstore.FormatError, match="expected a file of word vectors, found a folder"):
        open_source(tmp_path)
    path.write_bytes(FILES["glove"])
    with pytest.raises(vecstore.FormatError, match="expected the folder of a model2vec model, found a file"):
        open_source(path, format="model2vec")


def test_safetensors_are_named_within_their_file(path):
    path.write_bytes(FILES["safetensors"])
    source = open_source(f"{path}::m")
    assert source.dim == 4
    source.close()
    with pytest.raises(vecstore.FormatError, match="'other'"):
        open_source(f"{path}::other")
