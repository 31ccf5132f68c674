"""What every benchmark uses: the data, the peers, and the contest that times them in turn.

    python -m pytest benchmarks --benchmark-disable             # each contestant once: do the answers agree?
    python -m pytest benchmarks --benchmark-json=glove.json
    python -m pytest benchmarks --benchmark-json=googlenews.json --googlenews FILE
    tools/render_benchmarks glove.json googlenews.json

The data is GloVe 6B 50d, or with ``--googlenews`` a file of GoogleNews's shape, which is made if it is not there.
Everything made from it lies in a temporary folder beside it and is removed at the end (four times the
file's size). The page cache is warm throughout: every contestant has run once before it is timed.

pytest-benchmark times one contestant after the other, so whatever disturbs the machine for a minute disturbs one of
them. Here one test is one row of a table, and what pytest-benchmark repeats is a turn: each contestant once, in an
order that changes. The times of each stand in the JSON's ``extra_info``; pytest-benchmark's own figures are those of
whole turns.
"""

import gc
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import vecstore
from vecstore.demo import glove_6b_50d
from vecstore.formats.writers import write_word2vec
from vecstore.threads import num_threads

SAMPLE = 100_000
OOV = 0.05
VERSIONS = ("vecstore", "numpy", "numba", "pyarrow", "isal", "gensim", "pandas", "polars")

_RESULTS = pytest.StashKey[list]()

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


def pytest_configure(config):
    config.stash[_RESULTS] = []
    config.option.benchmark_quiet = True  # its table shows turns; pytest_terminal_summary shows contestants


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)
    machine_info["cores"] = num_threads()
    machine_info["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine_info["os"] = platform.freedesktop_os_release()["PRETTY_NAME"] if sys.platform == "linux" else sys.platform
    machine_info["page_cache"] = "warm"
    installed = {name: _version(name) for name in VERSIONS}
    machine_info["versions"] = {"python": platform.python_version(), **installed}


def _version(name):
    return vecstore.__version__ if name == "vecstore" else version(name)


def pytest_terminal_summary(terminalreporter, config):
    for info in config.stash[_RESULTS]:
        first = next(iter(info["times"].values()))["median"]
        cells = [
            f"{name} {time['median'] * 1e3:,.4g} ms" + (f" ({time['median'] / first:.3g}x)" if i else "")
            for i, (name, time) in enumerate(info["times"].items())
        ]
        memory = [f"{name} {size / 1e6:,.0f} MB" for name, size in info.get("memory", {}).items() if size]
        terminalreporter.write_line(f"{info['operation']}, {info['case']}: " + " | ".join(cells + memory))


@pytest.fixture
def contest(benchmark, data, pytestconfig):
    """Return a function that checks the answers of contestants and times them in turn."""

    def run(
        operation, case, contestants, *, check, limits=None, prepare=lambda: None, calls=1, rounds=15, headline=False
    ):
        """Time one row of a table.

        Parameters
        ----------
        operation, case : str
            The table and its row.
        contestants : dict of str to callable
            Each takes what `prepare` returned; vecstore is the first.
        check : callable
            Raises if an answer of a contestant is wrong.
        limits : dict of str to callable, optional
            What the machine can do at best; timed like the others, but without an answer.
        prepare : callable
            Called before each contestant; not timed.
        calls : int
            Calls that a contestant makes; its time is divided by it.
        rounds : int
            Turns.
        headline : bool
            Whether the row belongs into the README.

        Returns
        -------
        dict
            What the JSON says of the row; sizes in bytes may be added as "memory".
        """
        everyone = contestants | (limits or {})
        times = {name: [] for name in everyone}
        order = random.Random(0)
        for name, contestant in everyone.items():
            answer = contestant(prepare())
            if name in contestants:
                check(answer)
            del answer

        def turn():
            # Whoever follows a heavy contestant finds cold caches; in a fixed order it would always be the same one.
            for name in order.sample(list(everyone), len(everyone)):
                prepared = prepare()
                gc.disable()
                start = time.perf_counter()
                answer = everyone[name](prepared)
                times[name].append((time.perf_counter() - start) / calls)
                gc.enable()
                del answer, prepared

        benchmark.group = f"{operation}, {case}"
        benchmark.extra_info.update(operation=operation, case=case, data=data, headline=headline)
        benchmark.extra_info.update(calls=calls, limits=list(limits or {}))
        turns = pytestconfig.getoption("turns") or rounds
        benchmark.pedantic(turn if benchmark.enabled else int, rounds=turns)
        if benchmark.enabled:
            benchmark.extra_info["times"] = {
                name: {"median": statistics.median(values), "min": min(values), "max": max(values), "all": values}
                for name, values in times.items()
            }
            pytestconfig.stash[_RESULTS].append(benchmark.extra_info)
        return benchmark.extra_info

    return run


@pytest.fixture
def prepare(folder):
    """Return a function that gives an empty folder, with nothing left for the disk to do."""

    def empty():
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "out").mkdir()
        os.sync()
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
        write_word2vec(path, *glove_6b_50d())
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
def kv_path(folder, source, run_python):
    """Save the same file in gensim's own format, in a process whose memory is not ours."""
    run_python("-c", GENSIM_CONVERT, source, folder / "vectors.kv")
    return folder / "vectors.kv"


@pytest.fixture(scope="session")
def kv(kv_path):
    """Open gensim's KeyedVectors, its vectors mapped: in memory they would leave no room for the page cache."""
    from gensim.models import KeyedVectors

    return KeyedVectors.load(str(kv_path), mmap="r")


@pytest.fixture(scope="session")
def row_of(kv):
    """Return a dict from key to row: gensim's own."""
    return kv.key_to_index


@pytest.fixture(scope="session")
def sample(row_of):
    """Draw distinct random keys, some out of vocabulary, joined by newlines; see `fresh`."""
    rng = np.random.default_rng(0)
    every = list(row_of)
    keys = [every[i] for i in rng.choice(len(every), SAMPLE, replace=False)]
    for i in rng.choice(SAMPLE, int(SAMPLE * OOV), replace=False):
        keys[i] += "~oov"
    assert not any("\n" in key for key in keys)
    return "\n".join(keys)


@pytest.fixture(scope="session")
def fresh(sample):
    """Return a function that gives the sampled keys as new str: no hash computed yet, no object of the dict's."""
    return lambda: sample.split("\n")


@pytest.fixture(scope="session")
def copy_on_threads():
    """Return a function that copies an array into another as fast as the machine can, on vecstore's threads."""
    with ThreadPoolExecutor(num_threads()) as pool:

        def copy(target, source):
            if target.nbytes < 1 << 21:
                np.copyto(target, source)
                return target
            bounds = np.linspace(0, len(source), num_threads() + 1).astype(int)
            list(pool.map(lambda low, high: np.copyto(target[low:high], source[low:high]), bounds[:-1], bounds[1:]))
            return target

        yield copy


GENSIM_CONVERT = """
import sys
from gensim.models import KeyedVectors

KeyedVectors.load_word2vec_format(sys.argv[1], binary=True).save(sys.argv[2])
"""


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
