from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from files import left_in

import vecstore
from vecstore import writer as module
from vecstore.layout import METADATA, Source, arrays_of
from vecstore.storage import STORAGE_TYPES
from vecstore.writer import StoreWriter, without_repeats

D = 9
RNG = np.random.default_rng(0)
BLOCKS = {
    "int8": RNG.integers(-127, 128, (300, D)).astype(np.float32) * np.float32(0.5),
    "bfloat16": (RNG.standard_normal((300, D), dtype=np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32) / 2**20,
    "float16": RNG.standard_normal((300, D), dtype=np.float32).astype(np.float16).astype(np.float32),
    "float32": RNG.standard_normal((300, D), dtype=np.float32),
}
# int8's fit no float16 or bfloat16: they have a scale of 24 bits.
BLOCKS["fine int8"] = BLOCKS["int8"] * np.float32(0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


def write(folder: Path, blocks: list[np.ndarray], **options) -> tuple[StoreWriter, list[str]]:
    """Write a store of blocks, whose keys are numbered; return its writer and the type after each block."""
    rows, types = 0, []
    with closing(StoreWriter(folder, D, **options)) as writer:
        for vectors in blocks:
            keys = [b"%d" % i for i in range(rows, rows + len(vectors))]
            offsets = np.cumsum([0, *map(len, keys)])
            writer.append(np.frombuffer(b"".join(keys), np.uint8), offsets, vectors)
            rows += len(vectors)
            types.append(writer.storage.name)
        assert not len(writer.index())
        writer.finish("test", Source("test", 0, "test"), {})
    return writer, types


def test_vectors_are_surveyed_the_same_aside_or_not(tmp_path):
    blocks = [BLOCKS["float32"].copy(), BLOCKS["int8"]]
    blocks[0][7, 3] = np.nan
    stores = []
    for aside in [True, False]:
        folder = tmp_path / f"{aside}"
        folder.mkdir()
        write(folder, blocks, aside=aside)
        stores.append({path.name: path.read_bytes() for path in folder.iterdir()})
        assert vecstore.verify(folder) == []
    assert stores[0] == stores[1]
    assert b'"nan": 1' in stores[0][METADATA]


@pytest.mark.parametrize(
    ("names", "types"),
    [
        (["int8"], ["int8"]),
        (["bfloat16", "int8"], ["bfloat16", "float32"]),
        (["float32", "int8"], ["float32", "float32"]),
        (["int8", "int8", "float32", "int8"], ["int8", "int8", "float32", "float32"]),
        (["fine int8", "bfloat16"], ["int8", "float32"]),
        (["fine int8", "fine int8", "int8"], ["int8", "int8", "int8"]),
        (["bfloat16", "float16"], ["bfloat16", "float32"]),
        (["float16", "bfloat16"], ["float16", "float32"]),
    ],
    ids=",".join,
)
@pytest.mark.parametrize("expected", [0, 300, 600])
@pytest.mark.parametrize("chunk", [7, 300, 1 << 14])
def test_the_smallest_type_is_kept_as_long_as_it_holds_everything(folder, monkeypatch, names, types, expected, chunk):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    if names[:2] == ["bfloat16", "int8"]:
        types = ["bfloat16", "bfloat16"]  # integers and halves to 63.5 have 7 bits
    blocks = [BLOCKS[name] for name in names]
    writer, found = write(folder, blocks, storage=None, expected=expected)
    assert found == types
    assert writer.errors.tolist() == [0, 0, 1]
    assert vecstore.verify(folder) == []
    assert left_in(folder) == {METADATA, *arrays_of(STORAGE_TYPES[types[-1]])}
    with vecstore.open(folder) as store:
        assert store.metadata.dtype == types[-1]
        assert store.metadata.version == STORAGE_TYPES[types[-1]].version
        assert store.gather(np.arange(len(store))).tobytes() == np.concatenate(blocks).tobytes()
        assert store.find([str(len(store) - 1)]) == len(store) - 1


def test_the_chain_goes_from_type_to_type(folder):
    """Each block ends the reign of one type: integers of 7, 8, 11 and 12 bits."""
    blocks = [np.float32([[1, 2, 3, 4, 5, 6, 7, 8, last]]) for last in (127, 129, 2047, 2049)]
    writer, types = write(folder, blocks, storage=None)
    assert types == ["int8", "bfloat16", "float16", "float32"]
    assert writer.exact.smallest.name == "float32"
    assert vecstore.open(folder).vectors.tobytes() == np.concatenate(blocks).tobytes()
    assert vecstore.verify(folder) == []


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8"])
def test_moments_and_counts_are_of_what_is_served(folder, name):
    vectors = np.concatenate([BLOCKS["float32"], np.full((1, D), 1e-30, np.float32)])
    vectors[5] *= 0
    write(folder, [vectors], storage=STORAGE_TYPES[name])
    store = vecstore.open(folder)
    served = store.gather(np.arange(len(store))).astype(np.float64)
    assert (served != vectors).any()
    moments = np.load(folder / "moments.npy")
    np.testing.assert_allclose(moments, [served.mean(axis=0), served.std(axis=0)], rtol=1e-9)
    assert store.metadata.unusual["zero"] == (~served.any(axis=1)).sum() == (2 if name == "float16" else 1)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "int8"])
def test_errors_are_measured_against_the_source(folder, name):
    blocks = [BLOCKS["int8"], BLOCKS["float32"], BLOCKS["bfloat16"]]
    writer, types = write(folder, blocks, storage=STORAGE_TYPES[name])
    assert types == [name] * 3
    source = np.concatenate(blocks).astype(np.float64)
    served = vecstore.open(folder).gather(np.arange(900)).astype(np.float64)
    errors = np.abs(source - served)
    cosines = (source * served).sum(axis=1) / np.linalg.norm(source, axis=1) / np.linalg.norm(served, axis=1)
    np.testing.assert_allclose(writer.errors, [errors.sum(), errors.max(), cosines.min()])
    assert errors.max() > 0


@pytest.mark.parametrize("name", STORAGE_TYPES)
@pytest.mark.parametrize("last", [False, True])
def test_repeats_are_dropped_from_every_type(folder, name, last):
    vectors, keys = BLOCKS["float32"], [b"%d" % (i % 250) for i in range(300)]
    offsets = np.cumsum([0, *map(len, keys)])
    with closing(StoreWriter(folder, D, storage=STORAGE_TYPES[name])) as writer:
        writer.append(np.frombuffer(b"".join(keys), np.uint8), offsets, vectors)
        before = STORAGE_TYPES[name].store(vectors)[0]
        repeats = writer.index()
        assert len(repeats) == 50
        distinct = without_repeats(writer, repeats, last=last)
        distinct.finish("test", Source("test", 0, "test"), {})
    assert vecstore.verify(folder) == []
    rows = np.arange(250) + (np.arange(250) < 50) * 250 * last
    assert left_in(folder) == {METADATA, *arrays_of(STORAGE_TYPES[name])}
    assert vecstore.open(folder).gather(np.arange(250)).tobytes() == before[:][rows].tobytes()
