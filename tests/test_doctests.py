import doctest
import importlib
import os
import pkgutil
import shutil

import pytest

import vecstore

WITHOUT = ("vecstore.kernels", "vecstore.demo", "vecstore.cli", "vecstore.__main__")
MODULES = ["vecstore", *(module.name for module in pkgutil.walk_packages(vecstore.__path__, "vecstore."))]


@pytest.fixture(scope="module")
def folder(glove_folder, tmp_path_factory):
    """A folder with glove.bin, glove.vecstore and reviews.csv that examples may write to."""
    folder = tmp_path_factory.mktemp("doctests") / "glove"
    shutil.copytree(glove_folder, folder, copy_function=os.link)
    (folder / "reviews.csv").write_text("id,review\n1,Nice work\n2,Stop lies\n")
    return folder


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(WITHOUT)])
def test_examples_of_a_module_print_what_they_say(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    module = importlib.import_module(name)
    with vecstore.open("glove.vecstore") as store:
        names = {"vecstore": vecstore, "store": store, "index": store.keys, **vars(module)}
        failures = []
        runner = doctest.DocTestRunner(verbose=False)
        for test in doctest.DocTestFinder().find(module, name, globs=names):
            runner.run(test, out=failures.append)
    assert not failures, "".join(failures)


def test_examples_are_there():
    examples = [
        test for name in ("vecstore", "vecstore.store", "vecstore.index", "vecstore.convert", "vecstore.keras")
        for test in doctest.DocTestFinder().find(importlib.import_module(name), name) if test.examples
    ]  # fmt: skip
    assert len(examples) >= 9
