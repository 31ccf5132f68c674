import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecstore
from vecstore.layout import ARRAYS, METADATA, SCALES

STORE = Path(__file__).parent / "data" / "store-v1"
SCALED = STORE.with_name("store-v2-int8")
FILES = [*ARRAYS, METADATA]
KEYS = ["</s>", "nice", "größe", "", "日本語", "absent"]

files = pytest.mark.parametrize("name", FILES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(STORE, tmp_path / "store")


def replace(path: Path, content: bytes) -> None:
    """Give a file new content under a new inode: cutting a file that is mapped would end the process."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def use(folder: Path) -> None:
    """Call whatever reads the files of a store; each call works or raises what a caller may expect."""
    try:
        store = vecstore.open(folder)
    except vecstore.StoreError:
        return
    v, d = store.shape
    for call in (
        lambda: store.gather(store.find(KEYS)),
        lambda: store.gather(np.arange(v)),
        lambda: list(store.keys),
        lambda: store.lookup(KEYS).shape == (len(KEYS), d) or pytest.fail("wrong shape"),
        lambda: [store[key] for key in KEYS],
        lambda: store[KEYS],
        lambda: store.matrix({key: row for row, key in enumerate(KEYS)}, oov="normal"),
        lambda: repr(store) + repr(store.keys) + repr(store.metadata),
    ):
        try:
            call()
        except (vecstore.VecstoreError, KeyError, IndexError):
            continue


def named(folder: Path) -> set[str]:
    return {problem.file for problem in vecstore.verify(folder)}


def test_a_sound_store_has_no_problem(folder):
    assert vecstore.verify(folder) == []
    assert vecstore.verify(str(folder)) == []


def test_verify_needs_something_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing: no such store"):
        vecstore.verify(tmp_path / "missing")


@files
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_no_changed_byte_does_harm_or_stays_unseen(folder, name, mask):
    sound = (folder / name).read_bytes()
    for place in range(len(sound)):
        damaged = bytearray(sound)
        damaged[place] ^= mask
        replace(folder / name, bytes(damaged))
        use(folder)
        assert name in named(folder), f"byte {place}"


@pytest.mark.parametrize("name", ["vectors.npy", SCALES, METADATA])
def test_no_changed_byte_of_a_store_of_int8_does_harm_or_stays_unseen(tmp_path, name):
    folder = shutil.copytree(SCALED, tmp_path / "store")
    sound = (folder / name).read_bytes()
    for place in range(len(sound)):
        replace(folder / name, sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :])
        use(folder)
        assert name in named(folder), f"byte {place}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1, 0, 3e38], ids=str)
def test_no_scale_does_harm(tmp_path, value):
    folder = shutil.copytree(SCALED, tmp_path / "store")
    resealed(folder, SCALES, np.full(5, value, np.float32))
    use(folder)
    assert vecstore.verify(folder) == []


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 999), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4),
    change_of_size=st.sampled_from([0, 0, 0, -1, -40, 1, 40]),
)
def test_no_corruption_does_harm_or_stays_unseen(name, changes, change_of_size):
    sound = (STORE / name).read_bytes()
    damaged = bytearray(sound)
    for place, content in changes:
        place %= len(sound)
        damaged[place : place + len(content)] = content[: len(sound) - place]
    damaged = bytes(damaged + bytes(40))[: len(sound) + change_of_size]
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(STORE, Path(temporary, "store"))
        replace(folder / name, damaged)
        use(folder)
        assert (name in named(folder)) == (damaged != sound)


@pytest.mark.parametrize("name", ["index.npy", "offsets.npy"])
@pytest.mark.parametrize(
    "value", [0, 1, 2, 6, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1], ids="{:#x}".format
)
def test_no_value_in_a_table_does_harm(folder, name, value):
    sound = np.load(folder / name)
    for place in range(len(sound)):
        damaged = sound.view(np.uint64).copy()
        damaged[place] = value
        replace(folder / name, (folder / name).read_bytes()[:128] + damaged.tobytes())
        use(folder)
        assert (name in named(folder)) == (damaged != sound.view(np.uint64)).any()


def test_a_table_without_an_end_does_not_hang(folder):
    slots = np.load(folder / "index.npy")
    for value in 1, 2**64 - 1:
        replace(folder / "index.npy", (folder / "index.npy").read_bytes()[:128] + np.full_like(slots, value).tobytes())
        use(folder)
        assert "index.npy" in named(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_verify_names_a_missing_file(folder, name):
    (folder / name).unlink()
    assert str(vecstore.verify(folder)[0]) == f"{name}: is missing"


def test_verify_names_missing_metadata(folder):
    (folder / METADATA).unlink()
    (problem,) = vecstore.verify(folder)
    assert problem.file == METADATA
    assert "not a store: it holds no metadata.json" in problem.description


@files
def test_verify_names_a_folder_in_place_of_a_file(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert named(folder) == {name}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("change", [-1, 1, 5000])
def test_verify_names_a_cut_or_grown_file(folder, name, change):
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size + change)
    assert str(vecstore.verify(folder)[0]) == f"{name}: expected {size} bytes, found {size + change:,}"


@pytest.mark.parametrize("rest", [b" ", b"\n", b"\0"])
def test_verify_names_grown_metadata(folder, rest):
    (folder / METADATA).write_bytes((folder / METADATA).read_bytes() + rest)
    assert named(folder) == {METADATA}


def resealed(folder: Path, name: str, array: np.ndarray) -> None:
    """Put another array into a store and its checksum into the metadata, as a faulty writer would."""
    np.save(folder / name, array)
    content = (folder / name).read_bytes()
    fields = json.loads((folder / METADATA).read_bytes())
    fields["files"][name] = {"size": len(content), "crc32": f"{zlib.crc32(content):08x}"}
    del fields["checksum"]
    head = json.dumps(fields, indent=2, ensure_ascii=False).removesuffix("\n}") + ",\n  "
    (folder / METADATA).write_text(f'{head}"checksum": "{zlib.crc32(head.encode()):08x}"\n}}\n')


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("offsets.npy", lambda offsets: offsets[::-1].copy(), "expected offsets that ascend from 0 to 24"),
        ("offsets.npy", lambda offsets: offsets + 1, "expected offsets that ascend from 0 to 24"),
        ("keys.npy", lambda keys: keys[:-1], "expected offsets that ascend from 0 to 23"),
        ("keys.npy", lambda keys: keys | 0x80, "expected keys in UTF-8; those of rows 0 to 5 are not"),
        ("keys.npy", lambda keys: np.roll(keys, 1), "expected keys in UTF-8; those of rows 0 to 5 are not"),
        ("index.npy", np.zeros_like, "expected the key of row 0 to lead to it, found row -1"),
        ("index.npy", lambda slots: np.where(slots == 0, 9, slots), "expected 5 slots taken, found 16"),
    ],
)
def test_verify_names_what_a_faulty_writer_did(folder, name, damage, message):
    resealed(folder, name, damage(np.load(folder / name)))
    assert any(message in str(problem) for problem in vecstore.verify(folder))


def test_verify_tells_its_progress(folder):
    seen: list[vecstore.Progress] = []
    vecstore.verify(folder, progress=seen.append)
    total = sum((folder / name).stat().st_size for name in ARRAYS)
    assert {(progress.stage, progress.total, progress.unit) for progress in seen} == {("verifying", total, "bytes")}
    assert seen[-1].done == total
