"""The first use ever of a machine, which compiles the loops, against any later process; each in a fresh process."""

import os
import shutil
import subprocess
import sys
import tempfile
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


@pytest.mark.parametrize(("case", "script"), [("convert 1,000 keys", CONVERT), ("open, find, gather, matrix", SERVE)])
def test_first_use(contest, source, folder, case, script):
    path = folder / "few.vecstore"
    vecstore.convert(source, path, limit=LIMIT, overwrite=True)
    used, unused = (tempfile.TemporaryDirectory(prefix="use-", dir=folder) for _ in range(2))

    def install(home):
        """Copy the package without what was compiled, and with nowhere else to find it."""
        home = Path(home)
        shutil.rmtree(home)
        shutil.copytree(Path(vecstore.__file__).parent, home / "vecstore", ignore=shutil.ignore_patterns("__pycache__"))

    def run(home):
        environment = {**os.environ, "PYTHONPATH": home, "HOME": home, "XDG_CACHE_HOME": f"{home}/.cache"}
        command = [sys.executable, "-c", START + script + STOP, source, path]
        # In `home`, as python looks for modules in the folder that it is started in first.
        done = subprocess.run(command, cwd=home, env=environment, stdout=subprocess.PIPE, check=True)
        return Measured(float(done.stdout))

    def prepare():
        install(unused.name)

    with used, unused:
        install(used.name)
        run(used.name)
        contest(
            "first use on a machine",
            case,
            {"from then on": lambda _: run(used.name), "the first time": lambda _: run(unused.name)},
            check=lambda _: None,  # the script checks it
            prepare=prepare,
            rounds=3,
            rehearse=False,
            growth={"the first time": 60},
        )
