"""What every benchmark uses: the data, the contestants and the contest.

    tools/contest                                               # everything: environments, data, runs, tables
    python -m pytest benchmarks --benchmark-disable             # each contestant once: do the answers agree?
    python -m pytest benchmarks --benchmark-json=glove.json
    python -m pytest benchmarks --benchmark-json=googlenews.json --googlenews FILE
    tools/render_benchmarks glove.json googlenews.json

The data is GloVe 6B 50d, or with ``--googlenews`` a file of GoogleNews's shape, which is made if it is not there.
Everything made from it lies in a temporary folder beside it and is removed at the end (twelve times the
file's size). The page cache is warm unless a table says otherwise: every contestant has gone once before it is timed.

Peers work in processes of their own (`crew.py`, `peers/`), some in environments that tools/contest makes. Where such an
environment is missing, its peers take no part and the last lines of the output say so; with ``--complete`` that is
an error.
"""

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from contest import Contest
from crew import Crew

import vecstore
from vecstore.demo import glove_6b_50d
from vecstore.formats.writers import write_word2vec
from vecstore.threads import num_threads, split

SAMPLE = 100_000
UNTIMED_ROWS = 100_000  # of GloVe, where no time is taken
OOV = 0.05
VERSIONS = (
    "vecstore",
    "numpy",
    "numba",
    "pyarrow",
    "isal",
    "gensim",
    "pandas",
    "polars",
    "tensorflow-cpu",
    "ray",
    "pyspark",
    "dask",
)

_RESULTS = pytest.StashKey[list]()
_ABSENT = pytest.StashKey[set]()

# What a child process reports of itself at its end; null where there is no /proc.
_REPORT = """
import json, pathlib
_status = pathlib.Path("/proc/self/status")
_lines = _status.read_text().splitlines() if _status.exists() else []
print(json.dumps(next((int(line.split()[1]) * 1024 for line in _lines if line.startswith("RssAnon:")), None)))
"""


def pytest_addoption(parser):
    text = "run on this word2vec binary of GoogleNews's shape, made if it is not there"
    parser.addoption("--googlenews", metavar="FILE", type=Path, help=text)
    parser.addoption("--turns", metavar="N", type=int, help="run N turns in every contest, for a quick look")
    parser.addoption("--complete", action="store_true", help="fail if a peer's environment is missing")


def pytest_configure(config):
    config.stash[_RESULTS], config.stash[_ABSENT] = [], set()
    config.option.benchmark_quiet = True  # its table shows turns; pytest_terminal_summary shows contestants


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)
    machine_info["cores"] = num_threads()
    machine_info["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine_info["os"] = platform.freedesktop_os_release()["PRETTY_NAME"] if sys.platform == "linux" else sys.platform
    machine_info["kernel"] = platform.release()
    installed = {name: _version(name) for name in VERSIONS}
    machine_info["versions"] = {"python": platform.python_version(), **installed}


def _version(name):
    return vecstore.__version__ if name == "vecstore" else version(name)


def pytest_terminal_summary(terminalreporter, config):
    for info in config.stash[_RESULTS]:
        if "times" not in info:
            continue
        first = next(iter(info["times"].values()))["median"]
        cells = [
            f"{name} {time['median'] * 1e3:,.4g} ms" + (f" ({time['median'] / first:.3g}x)" if i else "")
            for i, (name, time) in enumerate(info["times"].items())
        ]
        memory = [f"{name} {size / 1e6:,.0f} MB" for name, size in info.get("memory", {}).items() if size]
        if info["tokens"]:
            rates = (f"{name} {info['tokens'] / time['median'] / 1e6:,.3g}" for name, time in info["times"].items())
            memory.append("million tokens a second: " + ", ".join(rates))
        reads = [f"{name} read {count:,.0f} pages from disk" for name, count in info.get("disk_reads", {}).items()]
        terminalreporter.write_line(f"{info['operation']}, {info['case']}: " + " | ".join(cells + memory + reads))
    if config.stash[_ABSENT]:
        names = ", ".join(sorted(config.stash[_ABSENT]))
        terminalreporter.write_line(f"took no part, as tools/contest has not made their environments: {names}")


@pytest.fixture
def contest(request, benchmark, pytestconfig):
    """Return a function that checks the answers of contestants and times them in turn.

    A module that works on data of its own, whatever store there is, names it: `DATA`.
    """
    data = getattr(request.module, "DATA", None) or request.getfixturevalue("data")
    yield Contest(benchmark, data, pytestconfig.getoption("turns"))
    pytestconfig.stash[_RESULTS].append(benchmark.extra_info)


@pytest.fixture(scope="session")
def crew(folder, source, store, pytestconfig):
    """Return the contestants that work in processes of their own."""
    crew = Crew(folder, source, store.path, complete=pytestconfig.getoption("complete"))
    crew.absent = pytestconfig.stash[_ABSENT]
    yield crew
    crew.dismiss()


@pytest.fixture
def prepare(folder, source, run_python):
    """Return a function that gives an empty folder, with nothing left for the disk to do, and memory to write it in.

    A virtual machine may give memory that is free back to its host after a second or two, and wait for each page of it
    when it is written to again: a `cp` of 3.6 GB then takes 6 to 9 s instead of 2, whoever comes first. So as much as
    a new file will take is written to just before.
    """
    touch = f"import numpy; numpy.ones({2 * source.stat().st_size}, 'u1')"

    def empty():
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").mkdir()
        os.sync()
        run_python("-c", touch)
        return folder / "out"

    yield empty
    shutil.rmtree(folder / "out", ignore_errors=True)


@pytest.fixture(scope="session")
def data(store):
    """Name the data and its shape."""
    name = "GloVe 6B 50d" if store.path.name.startswith("glove") else "GoogleNews's shape"
    return {"name": name, "rows": len(store), "dim": store.dim, "source": store.metadata.source.size}


@pytest.fixture(scope="session")
def folder(pytestconfig):
    """Make a folder for everything that is made from the data, on the disk of ``--googlenews`` if that is given."""
    googlenews = pytestconfig.getoption("googlenews")
    with tempfile.TemporaryDirectory(prefix="vecstore-", dir=googlenews and googlenews.absolute().parent) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def source(folder, pytestconfig, run_python):
    """Return the word2vec binary, made if it is not there."""
    path = pytestconfig.getoption("googlenews")
    if path is None:
        path = folder / "glove.bin"
        rows = UNTIMED_ROWS if pytestconfig.getoption("benchmark_disable") else None
        keys, vectors = glove_6b_50d()
        write_word2vec(path, keys[:rows], vectors[:rows])
    elif not path.exists():
        run_python(Path(__file__).with_name("datasets.py"), "googlenews", path)
    return path.absolute()


@pytest.fixture(scope="session")
def store(folder, source, pytestconfig):
    """Convert the same file to a store, and open it."""
    name = "googlenews" if pytestconfig.getoption("googlenews") else "glove"
    vecstore.convert(source, folder / f"{name}.vecstore")
    return vecstore.open(folder / f"{name}.vecstore")


@pytest.fixture(scope="session")
def known(store):
    """Draw distinct random keys of the store."""
    return [store.keys[row] for row in np.random.default_rng(0).choice(len(store), SAMPLE, replace=False).tolist()]


@pytest.fixture(scope="session")
def sample(known):
    """Return the drawn keys, some of them now out of vocabulary, joined by newlines; see `fresh`."""
    keys = list(known)
    for i in np.random.default_rng(1).choice(SAMPLE, int(SAMPLE * OOV), replace=False).tolist():
        keys[i] += "~oov"
    assert not any("\n" in key for key in keys)
    return "\n".join(keys)


@pytest.fixture(scope="session")
def fresh(sample):
    """Return a function that gives the sampled keys as new str: no hash computed yet, no object of a dict's."""
    return lambda: sample.split("\n")


@pytest.fixture(scope="session")
def sample_path(sample, folder):
    """Write the sampled keys, one a line."""
    (folder / "sample.txt").write_text(sample, encoding="utf-8")
    return folder / "sample.txt"


@pytest.fixture(scope="session")
def known_path(known, folder):
    """Write the drawn keys, all of them in the vocabulary, one a line."""
    (folder / "known.txt").write_text("\n".join(known), encoding="utf-8")
    return folder / "known.txt"


@pytest.fixture(scope="session")
def copy_on_threads():
    """Return a function that copies an array into another as fast as the machine can, on vecstore's threads."""

    def copy(target, source):
        if target.nbytes < 1 << 21:
            np.copyto(target, source)
        else:
            split(lambda start, stop: np.copyto(target[start:stop], source[start:stop]), len(source), 1)
        return target

    return copy


def _compiled(name, folder, integers):
    """Return a function of C, of vectors, rows, so many integers and out; None without a compiler."""
    compiler, library = shutil.which("cc"), folder / f"{name}.so"
    if not compiler:
        return None
    command = [compiler, "-O3", "-march=native", "-shared", "-fPIC", "-o", library]
    subprocess.run([*command, Path(__file__).with_name(f"{name}.c")], check=True)
    function = getattr(ctypes.CDLL(str(library)), name)
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * integers, ctypes.c_void_p]
    function.restype = None
    return function


@pytest.fixture(scope="session")
def pool_rows_in_c(folder):
    """Return a function that makes means of as many rows each on vecstore's threads; None without a C compiler."""
    pool_rows = _compiled("pool_rows", folder, 4)
    if not pool_rows:
        return None

    def pool(vectors, rows, tokens):
        n, d = len(rows) // tokens, vectors.shape[1]
        out = np.empty((n, d), np.float32)
        places = vectors.ctypes.data, rows.ctypes.data, tokens, d
        split(lambda start, stop: pool_rows(*places, start, stop, out.ctypes.data), n, 1)
        return out

    return pool


@pytest.fixture(scope="session")
def copy_rows_in_c(folder):
    """Return a function that copies rows of a matrix to an array on vecstore's threads; None without a C compiler."""
    copy_rows = _compiled("copy_rows", folder, 3)
    if not copy_rows:
        return None

    def copy(vectors, rows, out):
        places = vectors.ctypes.data, rows.ctypes.data, vectors.shape[1]
        split(lambda start, stop: copy_rows(*places, start, stop, out.ctypes.data), len(rows), 1)
        return out

    return copy


@pytest.fixture(scope="session")
def run_python():
    """Return a function that runs python in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}

    def run(*arguments, peak=False):
        """Return the process's anonymous memory in bytes at the end of a ``-c`` script, or at its `peak` in any."""
        if arguments[0] == "-c":
            arguments = ("-c", arguments[1] + _REPORT, *arguments[2:])
        command = [sys.executable, *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
            highest = _watch(process) if peak else None
            output, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        if peak:
            return highest
        return json.loads(output) if arguments[0] == "-c" else None

    return run


def _watch(process):
    status, highest = Path(f"/proc/{process.pid}/status"), None
    while process.poll() is None and status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("RssAnon:"):
                highest = max(highest or 0, int(line.split()[1]) * 1024)
        time.sleep(0.005)
    return highest
