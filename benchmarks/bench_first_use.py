"""The first use ever of a machine, which compiles the loops, against any later process; each in a fresh process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contest import Measured

import vecstore

LIMIT = 1000
START = "import sys, time; start = time.perf_counter(); import numpy, vecstore; source, path = sys.argv[1:]; "
STOP = "; print(time.perf_counter() - start)"
CONVERT = f"vecstore.convert(source, path, limit={LIMIT}, overwrite=True)"
SERVE = (
    "store = vecstore.open(path); keys = store.keys[:100]; vectors = store.gather(store.find(keys)); "
    "matrix = store.matrix(keys).vectors; assert (matrix == vectors).all()"
)


@pytest.mark.parametrize(
    ("case", "script"),
    [("convert 1,000 keys", CONVERT), ("open, find, gather, matrix", SERVE)],
    ids=["convert", "serve"],
)
def test_first_use(contest, source, folder, case, script):
    path = folder / "few.vecstore"
    vecstore.convert(source, path, limit=LIMIT, overwrite=True)
    package = Path(vecstore.__file__).parent

    def run(home, **environment):
        # In `home`, as python looks for modules in the folder that it is started in first.
        command = [sys.executable, "-c", START + script + STOP, source, path]
        environment = {**os.environ, "PYTHONPATH": str(home), **environment}
        done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, check=True)
        return Measured(float(done.stdout))

    def first_time(home):
        return run(home, HOME=str(home), XDG_CACHE_HOME=str(home / ".cache"))

    def prepare():
        """Copy the package without what was compiled, with nowhere else to find it."""
        shutil.rmtree(folder / "unused", ignore_errors=True)
        shutil.copytree(package, folder / "unused" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        return folder / "unused"

    run(package.parent)  # compiles what is not kept yet
    contest(
        "first use on a machine",
        case,
        {"from then on": lambda _: run(package.parent), "the first time": first_time},
        check=lambda _: None,  # the script checks it
        prepare=prepare,
        rounds=3,
        rehearse=False,
    )
    shutil.rmtree(folder / "unused")
