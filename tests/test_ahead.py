import shutil
import time
from pathlib import Path

import pytest

import vecstore
from vecstore.ahead import CompileAhead

CONVERT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import vecstore
from vecstore.ahead import CompileAhead
vecstore.convert((["nice", "great"], np.ones((2, 300), np.float32)), sys.argv[2], dtype=sys.argv[3])
print("numba" in sys.modules)
"""
SERVE = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import vecstore
from vecstore.ahead import CompileAhead
store = vecstore.open(sys.argv[2])
rows = store.find(["nice", "great", "qwertzuiop"] * 1000)
assert np.array_equal(rows, store.find(np.array(["nice", "great", "qwertzuiop"] * 1000)))
assert store.gather(rows).sum() == 600_000 and "nice" in store and store["nice"].sum() == 300
assert store.matrix({"nice": 1, "qwertzuiop": 2}, oov="normal").found.sum() == 1
from vecstore.keys import KeyBatch
assert store.embed(vecstore.Tokens(KeyBatch.of(["nice", "great"]), [0, 2])).sum() == 300
print("numba" in sys.modules)
"""


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_a_conversion_compiles_what_serves_its_store(run_python, tmp_path, dtype):
    package = tmp_path / "package"
    shutil.copytree(Path(vecstore.__file__).parent, package / "vecstore", ignore=shutil.ignore_patterns("__pycache__"))
    assert run_python(CONVERT, package, tmp_path / "store", dtype) == "True\n"
    assert run_python(SERVE, package, tmp_path / "store") == "False\n"


def test_what_is_not_begun_is_dropped_when_a_conversion_fails():
    begun = []

    class Slow:
        def load(self):
            begun.append(self)
            time.sleep(0.05)

    def fail():
        with CompileAhead() as compiler:
            compiler.compile(*[Slow() for _ in range(1000)])
            raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        fail()
    assert len(begun) < 1000


def test_an_error_of_compiling_is_told():
    class Broken:
        def load(self):
            raise OSError("no memory")

    def compile_it():
        with CompileAhead() as compiler:
            compiler.compile(Broken())

    with pytest.raises(OSError, match="no memory"):
        compile_it()
