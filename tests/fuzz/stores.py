"""The target of opened stores: damaged ones raise StoreError, answer as the sound one does, or are found by `verify`.

An input is a zip of a store's files, and of "base", the name of the sound store, if its checksums were left as they
were. Where they were made right again, `verify` may find nothing, but then the store must agree with itself.
"""

import json
import shutil
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import vecstore
from fuzz import seeds
from fuzz.mutation import mutate
from fuzz.readers import Target, folder, unzip, zipped
from vecstore.layout import METADATA

_TINY = Path(__file__).parents[1] / "data" / "store-v1"
_NARROW = ("float16", "bfloat16", "int8")
_HEADER = 128  # bytes of the header of an array file
_ABSENT = ["absent", "", "größ", "日本", "nicer"]


@cache
def _bases() -> dict[str, dict[str, bytes]]:
    """Return the files of the sound stores."""
    path = folder() / "sound"
    rng = Random(0)
    keys = list(dict.fromkeys(key.decode("utf-8", "replace") for key in seeds.keys(rng, 60)))
    vecstore.convert((keys, seeds.matrix(rng, len(keys), 5)), path, overwrite=True)
    bases = {"tiny": _TINY, "sixty": path} | {name: _TINY.with_name(f"store-v2-{name}") for name in _NARROW}
    return {name: {file.name: file.read_bytes() for file in sorted(base.iterdir())} for name, base in bases.items()}


def make(rng: Random) -> bytes:
    name = rng.choice(list(_bases()))
    files = dict(_bases()[name])
    sealed = rng.random() < 0.6
    for _ in range(rng.choice([1, 1, 1, 2])):
        file = rng.choice(list(files))
        files[file] = _damage(rng, file, files[file])
    if rng.random() < 0.02:
        del files[rng.choice(list(files))]
    if sealed:
        _seal(files)
    else:
        files["base"] = name.encode()
    return zipped(files)


def _damage(rng: Random, name: str, data: bytes) -> bytes:
    choice = rng.randrange(5)
    if name == METADATA:
        return _edit(rng, data) if choice < 3 else mutate(rng, data)
    if choice == 0:
        return mutate(rng, data)
    if choice == 1:
        return data + bytes(rng.choice([1, 8, 100, 4096])) if rng.random() < 0.5 else data[: rng.randrange(len(data))]
    width = {"keys.npy": 1, "vectors.npy": 4, "scales.npy": 4}.get(name, 8)
    body = np.frombuffer(data[_HEADER:], np.uint8).copy()
    numbers = body[: len(body) - len(body) % width].view(f"u{width}")
    for _ in range(rng.choice([1, 2, 5, len(numbers)])):
        if len(numbers):
            numbers[rng.randrange(len(numbers))] = _number(rng, width, numbers)
    return data[:_HEADER] + body.tobytes()


def _number(rng: Random, width: int, numbers: np.ndarray) -> int:
    choice = rng.randrange(5)
    if choice == 0:
        return rng.getrandbits(8 * width)
    if choice == 1:
        return int(numbers[rng.randrange(len(numbers))])
    if choice == 2:
        return (int(numbers[rng.randrange(len(numbers))]) + rng.choice([-1, 1, 1 << 8 * width - 1])) % 256**width
    if choice == 3:
        return rng.randrange(70) % 256**width
    return (rng.choice([0, 1, -1, -2, 2**31, 2**32, 2**62, 2**63]) + rng.choice([0, 0, 1, 5, 24])) % 256**width


def _edit(rng: Random, data: bytes) -> bytes:
    """Change one value somewhere in the metadata."""
    try:
        fields = json.loads(data)
    except ValueError:
        return mutate(rng, data)
    place: Any = fields
    while isinstance(place, dict) and place:
        name = rng.choice(list(place))
        if not isinstance(place[name], dict) or not place[name] or rng.random() < 0.1:
            break
        place = place[name]
    if not isinstance(fields, dict) or not fields:
        return mutate(rng, data)
    values = [
        0,
        1,
        2,
        -1,
        2**31,
        2**63,
        10**18,
        10**400,
        1.5,
        None,
        True,
        [],
        {},
        "",
        "x",
        "float16",
        "int8",
        "\ud800",
        "ffffffff",
        place[name],
    ]
    if rng.random() < 0.1:
        del place[name]
    else:
        place[name] = rng.choice(values)
    return json.dumps(fields, indent=2).encode()


def _seal(files: dict[str, bytes]) -> None:
    """Make sizes and checksums right again, as far as the metadata can be read."""
    try:
        fields = json.loads(files[METADATA])
        for name in files.keys() - {METADATA}:
            if name in fields["files"]:
                fields["files"][name] = {"size": len(files[name]), "crc32": f"{zlib.crc32(files[name]):08x}"}
        fields.pop("checksum", None)
        text = json.dumps(fields, indent=2)
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    head = (text.removesuffix("\n}") + ",\n  ").encode()
    files[METADATA] = head + f'"checksum": "{zlib.crc32(head):08x}"\n}}\n'.encode()


def check(data: bytes) -> None:
    files = unzip(data)
    base = files.pop("base", None)
    path = folder() / "damaged"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    problems = vecstore.verify(path)
    assert str(problems).isprintable() or problems
    try:
        store = vecstore.open(path)
    except vecstore.StoreError as error:
        if not problems:
            raise AssertionError(f"verify found nothing, but: {error}") from error
        return
    wanted = sound_keys(base)
    answers = answers_of(store, wanted, problems)
    if problems:
        return
    if base is not None:
        sound = folder() / "sound-copy"
        shutil.rmtree(sound, ignore_errors=True)
        sound.mkdir()
        for name, content in _bases()[base.decode()].items():
            (sound / name).write_bytes(content)
        assert answers == answers_of(vecstore.open(sound), wanted, problems)
    keys = list(store.keys)
    assert store.find(keys).tolist() == list(range(len(store)))
    assert [store.keys.index(key) for key in keys] == list(range(len(store)))
    assert store.find(["a key that no store has"]).tolist() == [-1]


def sound_keys(base: bytes | None) -> list[str]:
    names = [base.decode()] if base else list(_bases())
    found = list(_ABSENT)
    for name in names:
        files = _bases()[name]
        offsets = np.frombuffer(files["offsets.npy"][_HEADER:], np.int64)
        keys = files["keys.npy"][_HEADER:]
        found += [keys[low:high].decode() for low, high in pairwise(offsets)]
    return found


def answers_of(store: vecstore.VectorStore, wanted: list[str], problems: list[Any]) -> list[Any]:
    """Return whatever a store answers; where `verify` found problems, its own errors are answers too."""
    mapping = {key: row for row, key in enumerate(dict.fromkeys(wanted))}
    v = len(store)
    calls = [
        lambda: store.find(wanted).tolist(),
        lambda: store.lookup(wanted).tobytes(),
        lambda: store.gather(np.arange(v)).tobytes(),
        lambda: list(store.keys),
        lambda: [store.keys.find_one(key) for key in wanted],
        lambda: [store[key].tobytes() for key in wanted if key in store],
        lambda: store.matrix(mapping, oov="normal").vectors.tobytes(),
        lambda: store.matrix(mapping, oov="mean").missing,
        lambda: repr(store.keys),
        lambda: repr(store.metadata.source),
    ]
    answers: list[Any] = []
    for call in calls:
        try:
            with np.errstate(all="ignore"):  # moments may be anything
                answers.append(call())
        except vecstore.StoreError as error:
            if not problems:
                raise AssertionError(f"verify found nothing, but: {error}") from error
            answers.append(None)
    for row in answers[0]:
        assert -1 <= row < v
    assert answers[0] == answers[4]
    return answers


TARGET = Target(make, check)
