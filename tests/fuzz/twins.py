"""Slow, obvious readers of files; each returns the records, (key, bytes of its float32), or None if a file is none."""

import bz2
import gzip
import io
import json
import lzma
import re
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa

Records = list[tuple[bytes, bytes]]
_KEY_LIMIT = 4096
_NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)


def word2vec(data: bytes) -> Records | None:
    header = re.match(rb"([0-9]{1,19}) +([0-9]{1,19}) *\r?\n", data[:64])
    if not header:
        return None
    count, dim, at = int(header[1]), int(header[2]), header.end()
    if not count or not dim or count > len(data) or 4 * dim > len(data):
        return None
    records: Records = []
    newlines = False
    for i in range(count):
        rest = data[at:]
        skipped = len(rest) - len(rest.lstrip(b"\n"))
        key, space, _ = rest[skipped:].partition(b" ")
        start = at + skipped + len(key) + 1
        if not space or b"\n" in key or len(key) > _KEY_LIMIT or skipped + len(key) > _KEY_LIMIT + 1:
            return None
        if (newlines and not skipped) or start + 4 * dim > len(data):
            return None
        records.append((key, data[start : start + 4 * dim]))
        at = start + 4 * dim
        newlines = data[at : at + 1] == b"\n" if i == 0 else newlines
    return None if data[at:].strip(b"\n") else records


def text(data: bytes, *, header: bool, dim: int) -> Records | None:
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    count = None
    if header:
        match = re.fullmatch(rb"[ \t]*([0-9]{1,19})[ \t]+([0-9]{1,19})[ \t]*\r?", lines.pop(0))
        if not match or int(match[2]) != dim or not int(match[1]):
            return None
        count = int(match[1])
    while lines and not lines[-1].strip(b" \t\r"):
        lines.pop()
    if not lines:
        return None
    records = [_record(line, dim) for line in lines]
    if (count is not None and len(records) != count) or None in records:
        return None
    return [record for record in records if record]


def _record(line: bytes, dim: int) -> tuple[bytes, bytes] | None:
    line = line.removesuffix(b"\r").rstrip(b" \t")
    gaps = list(re.finditer(rb"[ \t]+", line))
    if len(gaps) < dim:
        return None
    key, fields = line[: gaps[-dim].start()], re.split(rb"[ \t]+", line[gaps[-dim].end() :])
    within = sum(bool(_NUMBER.fullmatch(field)) for field in re.split(rb"[ \t]+", key)[1:])
    if not all(map(_NUMBER.fullmatch, fields)) or within > min(16, max(dim - 2, 3)) or len(key) > _KEY_LIMIT:
        return None
    with np.errstate(over="ignore"):
        return key, b"".join(np.float32(field.decode()).tobytes() for field in fields)


def npy(data: bytes, keys: list[bytes]) -> Records | None:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, MemoryError, OverflowError):
        return None
    return _records(array, keys)


def safetensors(data: bytes, keys: list[bytes]) -> Records | None:
    """Read the one matrix, or the one called "embeddings" or "embedding.weight"."""
    tensors = _tensors(data)
    matrices = {name: array for name, array in tensors.items() if array.ndim == 2}
    if len(matrices) == 1:
        return _records(next(iter(matrices.values())), keys)
    for name in ("embeddings", "embedding.weight", "embeddings.weight"):
        if name in matrices:
            return _records(matrices[name], keys)
    return None


def model2vec(data: bytes, tokenizer: bytes) -> Records | None:
    """Read a model without a mapping."""
    content = json.loads(tokenizer)
    vocab = content["model"]["vocab"]
    pairs = {token: i for i, (token, *_) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)
    pairs |= {entry["content"]: entry["id"] for entry in content.get("added_tokens") or []}
    keys = [token.encode() for token in sorted(pairs, key=pairs.__getitem__)]
    tensors = _tensors(data)
    if "mapping" in tensors:
        return None
    if "weights" not in tensors:
        return safetensors(data, keys)
    matrices = [array for name, array in tensors.items() if array.ndim == 2]
    with np.errstate(all="ignore"):
        return _records(matrices[0] * tensors["weights"][:, None], keys) if len(matrices) == 1 else None


def _tensors(data: bytes) -> dict[str, Any]:
    start = 8 + int.from_bytes(data[:8], "little")
    kinds = {
        "F64": "<f8",
        "F32": "<f4",
        "F16": "<f2",
        "BF16": "<u2",
        "I64": "<i8",
        "I32": "<i4",
        "I16": "<i2",
        "I8": "|i1",
    }
    kinds |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
    tensors: dict[str, Any] = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__" or entry["dtype"] not in kinds:
            continue
        low, high = entry["data_offsets"]
        array = np.frombuffer(data[start + low : start + high], kinds[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
        tensors[name] = array
    return tensors


def _records(array: Any, keys: list[bytes]) -> Records | None:
    if array.ndim != 2 or len(array) != len(keys):
        return None
    with np.errstate(all="ignore"):
        vectors = array.astype(np.float32)
    return [(key, vector.tobytes()) for key, vector in zip(keys, vectors, strict=True)]


def unpack(kind: str, data: bytes) -> bytes:
    """Unpack with Python's own libraries; raises whatever they raise."""
    if kind == "gzip":
        return gzip.decompress(data)
    if kind == "bz2":
        return bz2.decompress(data)
    if kind == "xz":
        return lzma.decompress(data.rstrip(b"\0"))  # which takes no padding
    if kind == "zstd":
        return bytes(pa.CompressedInputStream(pa.py_buffer(data), "zstd").read())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (name,) = (n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/"))
        return archive.read(name)


def key_lines(data: bytes) -> list[str] | None:
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError:
        return None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
