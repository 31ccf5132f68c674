"""Sound files of every format, each made from a random number generator; most are small."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from random import Random

import numpy as np
from files import word2vec_bytes, zstd_bytes

ROWS = 5
"""Rows of a matrix whose keys are in a file of their own."""

_WORDS = [
    "</s>",
    "nice",
    "größe",
    "naïve",
    "日本語",
    "🙂",
    "a",
    "",
    "x" * 300,
    "[UNK]",
    "##ing",
    "▁the",
    "-",
    "e",
    "E9",
]
_MORE = [
    "1",
    "-2.5",
    "3e7",
    ". . .",
    "at b@c.d",
    "New York",
    "world war 2",
    "a\u00a0b",
    "\u0085",
    "\ufeff",
    "inf",
    "nan",
]
_NUMBERS = [
    "0",
    "-0",
    "1",
    "+1",
    ".5",
    "5.",
    "1e5",
    "-1E-5",
    "3.4028236e38",
    "1e-46",
    "nan",
    "-inf",
    "Infinity",
    "1e400",
]
_NUMBERS += [
    "0.30000001192092896",
    "16777217",
    "9" * 25,
    "0." + "0" * 30 + "1",
    "1" + "0" * 40,
    "1e+08",
    "00012.50",
    "1e-400",
]


def number(rng: Random) -> str:
    choice = rng.randrange(4)
    if choice == 0:
        return rng.choice(_NUMBERS)
    if choice == 1:
        return str(np.float32(rng.gauss(0, 1)))
    if choice == 2:
        return repr(rng.uniform(-1, 1) * 10.0 ** rng.randint(-50, 40))
    return f"{rng.choice(['', '-'])}{rng.randrange(10)}.{rng.randrange(10**6):0{rng.randint(1, 22)}d}"


def keys(rng: Random, count: int, *, spaces: bool = True) -> list[bytes]:
    words = _WORDS + (_MORE if spaces else [])
    found = []
    for i in range(count):
        key = rng.choice(words) + (str(i) if rng.random() < 0.8 else "")
        data = key.encode()
        if rng.random() < 0.02:
            data += rng.choice([b"\xff", b"\xe2\x82", b"\0", b"y" * 4096])
        found.append(data)
    return found


def matrix(rng: Random, rows: int, dim: int) -> np.ndarray:
    generator = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.3:
        return generator.integers(0, 2**32, (rows, dim), np.uint32).view(np.float32)
    return generator.standard_normal((rows, dim), np.float32)


def text(rng: Random, *, header: bool | None = None) -> bytes:
    count, dim = rng.choice([1, 2, 3, 8, 40]), rng.choice([1, 2, 3, 5, 20])
    blank, end = rng.choice([" ", " ", "\t", "  ", " \t "]), rng.choice(["\n", "\n", "\r\n", " \n"])
    lines = [
        key + "".join(blank + number(rng) for _ in range(dim)).encode() + end.encode()
        for key in keys(rng, count, spaces=rng.random() < 0.5)
    ]
    data = b"".join(lines)
    if rng.random() < 0.2:
        data = data.rstrip(b"\r\n")
    if rng.random() < 0.2:
        data += rng.choice([b"\n", b" \n\r\n", b"\n" * 100, b" "])
    if header if header is not None else rng.random() < 0.5:
        data = f"{count} {dim}{end}".encode() + data
    return (b"\xef\xbb\xbf" if rng.random() < 0.1 else b"") + data


def word2vec(rng: Random) -> bytes:
    count, dim = rng.choice([1, 2, 3, 8, 40, 300]), rng.choice([1, 2, 3, 5, 20])
    return word2vec_bytes(keys(rng, count, spaces=False), matrix(rng, count, dim), newlines=rng.random() < 0.5)


def npy(rng: Random) -> bytes:
    file = io.BytesIO()
    dtype = rng.choice(["<f4", "<f2", "<f8", ">f4", "<i4", "|u1", "|b1", ">i8"])
    with np.errstate(all="ignore"):
        array = np.clip(np.nan_to_num(matrix(rng, ROWS, rng.choice([1, 2, 3, 20]))), -100, 100).astype(dtype)
    np.lib.format.write_array(file, array, (rng.choice([1, 2, 3]), 0))
    return file.getvalue()


def safetensors(rng: Random) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}} if rng.random() < 0.5 else {}
    data = b""
    tensors = [(rng.choice(["embeddings", "embedding.weight", "größe"]), (ROWS, rng.choice([1, 2, 5])))]
    if rng.random() < 0.4:
        tensors.append(("weights", (ROWS,)))
    if rng.random() < 0.2:
        tensors.append(("other", ()))
    for name, shape in tensors:
        dtype, kind = rng.choice([("F32", "<f4"), ("F16", "<f2"), ("F64", "<f8"), ("BF16", "<u2"), ("I8", "|i1")])
        with np.errstate(all="ignore"):
            numbers = np.random.default_rng(rng.getrandbits(32)).standard_normal(shape).astype(kind).tobytes()
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(numbers)]}
        data += numbers
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def tokenizer(rng: Random) -> bytes:
    tokens = [f"{rng.choice(_WORDS)}{i}" for i in range(ROWS)]
    kept = rng.choice([ROWS, ROWS, 3])
    if rng.random() < 0.5:
        vocab: object = [[token, -float(i)] for i, token in enumerate(tokens[:kept])]
    else:
        vocab = {token: i for i, token in enumerate(tokens[:kept])}
    added = [{"id": i, "content": tokens[i]} for i in range(kept, ROWS)]
    return json.dumps({"version": "1.0", "added_tokens": added, "model": {"vocab": vocab}}).encode()


def key_list(rng: Random) -> bytes:
    names = [key.decode("utf-8", "replace") for key in keys(rng, rng.choice([0, 1, 5, 30]))]
    choice = rng.randrange(4)
    if choice == 0:
        return json.dumps(names).encode()
    if choice == 1:
        return json.dumps({name: row for row, name in enumerate(names)}).encode()
    if choice == 2:
        rows = json.dumps({name: row for row, name in enumerate(names, 1)})
        return json.dumps(
            {"config": {"word_index": rows, "num_words": rng.choice([None, 3]), "oov_token": None}}
        ).encode()
    return b"".join(name.encode() + rng.choice([b"\n", b"\r\n"]) for name in names)


def pack(rng: Random, data: bytes) -> bytes:
    """Return `data` packed in some way that readers know."""
    kind = rng.choice(["gzip", "gzip", "zip", "zip", "bz2", "xz", "zstd"])
    if kind == "zip":
        file = io.BytesIO()
        method = rng.choice(
            [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
        )
        with zipfile.ZipFile(file, "w", method) as archive:
            archive.writestr(zipfile.ZipInfo("vectors.txt"), data, method)
            if rng.random() < 0.1:
                archive.writestr(zipfile.ZipInfo("__MACOSX/x"), b"1")
            archive.comment = b"c" * rng.choice([0, 0, 5])
        return file.getvalue()
    ways = {
        "gzip": lambda part: gzip.compress(part, rng.choice([1, 9]), mtime=0),
        "bz2": bz2.compress,
        "xz": lambda part: lzma.compress(part, preset=0),
        "zstd": zstd_bytes,
    }
    places = sorted(rng.randint(0, len(data)) for _ in range(rng.choice([0, 0, 1, 2])))
    parts = [data[low:high] for low, high in zip([0, *places], [*places, len(data)], strict=True)]
    return b"".join(map(ways[kind], parts)) + bytes(rng.choice([0, 0, 0, 5]) if kind != "zstd" else 0)
