"""Stores that tests read: GloVe as published, and a small one made by hand."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

import vecstore
from vecstore.demo import glove_6b_50d
from vecstore.formats.writers import write_word2vec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
hypothesis.settings.register_profile("vecstore", deadline=None)  # no test is timed
hypothesis.settings.load_profile("vecstore")

SMALL_KEYS = ["</s>", "nice", "größe", "", "naïve", "日本語", "🙂", "a\0b", "a", "x" * 300]


def convert(folder: Path, name: str, keys: list[str], vectors: NDArray[np.float32]) -> Path:
    write_word2vec(folder / f"{name}.bin", keys, vectors)
    vecstore.convert(folder / f"{name}.bin", folder / f"{name}.vecstore")
    return folder / f"{name}.vecstore"


@pytest.fixture(scope="session")
def glove_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with glove.bin, a word2vec binary, and glove.vecstore."""
    folder = tmp_path_factory.mktemp("glove")
    convert(folder, "glove", *glove_6b_50d())
    return folder


@pytest.fixture(scope="session")
def glove_keys() -> list[str]:
    return glove_6b_50d()[0]


@pytest.fixture(scope="session")
def glove_vectors() -> NDArray[np.float32]:
    return glove_6b_50d()[1]


@pytest.fixture(scope="session")
def glove(glove_folder: Path) -> Iterator[vecstore.VectorStore]:
    with vecstore.open(glove_folder / "glove.vecstore") as store:
        yield store


@pytest.fixture(scope="session")
def small_keys() -> list[str]:
    return list(SMALL_KEYS)


@pytest.fixture(scope="session")
def small_vectors() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((len(SMALL_KEYS), 3), dtype=np.float32)


@pytest.fixture(scope="session")
def small_path(
    tmp_path_factory: pytest.TempPathFactory, small_keys: list[str], small_vectors: NDArray[np.float32]
) -> Path:
    return convert(tmp_path_factory.mktemp("small"), "small", small_keys, small_vectors)


@pytest.fixture
def store(small_path: Path) -> Iterator[vecstore.VectorStore]:
    with vecstore.open(small_path) as store:
        yield store


@pytest.fixture(scope="session")
def run_python() -> Callable[..., str]:
    """Run a script in a fresh interpreter, which finds vecstore and the tests; return what it printed."""
    path = os.pathsep.join(map(str, [Path(vecstore.__file__).parents[1], Path(__file__).parent]))

    def run(script: str, *arguments: object, **environment: str) -> str:
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": path, **environment},
        )
        assert process.returncode == 0, f"exit code {process.returncode}: {process.stderr}"
        return process.stdout

    return run
