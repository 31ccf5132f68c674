import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from files import numbered, word2vec_bytes

import vecstore
from vecstore.demo import SENTENCES, glove_6b_50d


def run_demo(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(vecstore.__file__).parents[1]),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-m", "vecstore", "demo", *arguments]
    process = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert "Traceback" not in process.stderr
    return process.stdout


def assert_ends_with_a_table(out: str) -> None:
    assert re.search(r"\nway +time +memory of its own *\n", out)
    for way in "gensim", "vecstore":
        assert re.search(rf"\n{way} +[\d.]+ s +([\d,]+ MB|not known here) *\n", out)
    assert out.endswith("The two matrices are identical, bit for bit.\n")


def test_demo_goes_from_glove_to_a_trained_model(tmp_path):
    out = run_demo(tmp_path)
    assert "glove-6b-50d.bin: 83." in out
    assert "400,000 keys x 50 float32" in out
    assert "15 of 15 keys found (100.0%)" in out
    assert "training accuracy 100.0%" in out
    assert_ends_with_a_table(out)
    store = vecstore.open(tmp_path / "cache" / "vecstore" / "demo" / "glove-6b-50d.bin.vecstore")
    assert len(store) == 400_000


def test_demo_takes_a_file_of_the_user(tmp_path):
    name = "gzip whatever its name"
    words = sorted({word for sentence in SENTENCES for word in sentence.split()} - {"lies"})
    data = word2vec_bytes([word.encode() for word in words], numbered(len(words), 20)[1])
    (tmp_path / name).write_bytes(gzip.compress(data))
    out = run_demo(tmp_path, "--source", name)
    assert f"{name}: 0.0 MB" in out
    assert "14 of 15 keys found (93.3%); missing: 'lies'" in out
    assert re.search(r"training accuracy \d+\.\d%", out)
    assert_ends_with_a_table(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", name]


def test_glove_is_what_stanford_published():
    keys, vectors = glove_6b_50d()
    assert keys[:5] == ["the", ",", ".", "of", "to"]
    assert len(keys) == len(set(keys)) == 400_000
    assert (vectors.shape, vectors.dtype) == ((400_000, 50), np.float32)
    np.testing.assert_array_equal(vectors[0, :3], np.array([0.418, 0.24968, -0.41242], np.float32))
