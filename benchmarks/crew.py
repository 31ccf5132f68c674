"""The contestants at work: which environment each needs, its own format of the data, and a process that has it open."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from contest import Measured, UnitVectors

import vecstore

BENCHMARKS = Path(__file__).resolve().parent
ENVIRONMENTS = BENCHMARKS.parent / ".contest"  # made by tools/contest

# Peers that cannot be installed beside the tests: each environment that tools/contest makes, and who works in it.
ELSEWHERE = {
    "finalfusion": "finalfusion",
    "snakefusion": "peers",
    "reach": "peers",
    "lmdb": "peers",
    "spacy": "peers",
    "model2vec": "model2vec",
}
# Peers that have no format: they use the plain files of the store.
FORMATLESS = ("numpy", "dict", "pandas", "tensorflow")
# Who reads its whole format into memory when it opens it.
IN_MEMORY = ("spacy", "reach", "model2vec")
# Tables that read many vectors have two halves, each with vecstore in it: the memory of those that keep all vectors in
# it and the files of those that map theirs are more than 24 GiB hold, and a page cache that is not warm decides
# everything. (All at once, 100,000 keys took vecstore and the other mapped ones 8 to 20 seconds, of disk.)
HALVES = (("vecstore", "dict", "spacy", "reach", "snakefusion"), ("vecstore", "gensim", "finalfusion", "lmdb"))
# All workers of one table are open at once. Those of the last one may stay while they need less than this.
STAY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 6


def python_of(name):
    """Return the python that has a peer's package; there is one if its environment was made."""
    if name not in ELSEWHERE:
        return Path(sys.executable)
    return ENVIRONMENTS / ELSEWHERE[name] / "bin" / "python"


def environment_of(name):
    """Return the variables of a process in which a peer works."""
    paths = [BENCHMARKS] if name in ELSEWHERE else [BENCHMARKS, Path(vecstore.__file__).parents[1]]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "TF_CPP_MIN_LOG_LEVEL": "3"}


class Worker:
    """A process in which one peer works; see `peers/worker.py`."""

    def __init__(self, name):
        self.name = name
        self._process = subprocess.Popen(
            [python_of(name), "-m", "peers.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment_of(name),
            text=True,
        )
        introduction = self.answer()
        self.title, self.unit = introduction["title"], introduction["unit"]
        self.versions = introduction["versions"] if introduction["title"] != "vecstore" else {}
        if introduction["python"] != ".".join(map(str, sys.version_info[:3])):
            self.versions["python"] = introduction["python"]

    def tell(self, do, **arguments):
        """Give a command, and do not wait for the answer."""
        self._process.stdin.write(json.dumps({"do": do, **arguments}, default=str) + "\n")
        self._process.stdin.flush()

    def answer(self):
        """Wait for the answer to the last command."""
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.name} ended with {self._process.wait()}; see above")
        return json.loads(line)

    def ask(self, do, **arguments):
        """Give a command and wait for its answer."""
        self.tell(do, **arguments)
        return self.answer()

    def end(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def task(self, do, **arguments):
        """Return a contestant: the command, its time measured in the process, and its answer the first time."""
        return _Task(self, do, arguments)


def _read(path):
    buffer = bytearray(1 << 24)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _forget(path):
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class _Task:
    def __init__(self, worker, do, arguments):
        self.worker, self.do, self.arguments = worker, do, arguments
        self.answered = False

    def __call__(self, folder):
        if self.answered:
            said = self.worker.ask(self.do, **self.arguments)
            return Measured(said["seconds"], faults=said.get("faults", 0))
        self.answered = True
        path = Path(folder) / "answer.npy"
        said = self.worker.ask(self.do, **self.arguments, answer=path)
        answer = np.load(path)
        path.unlink()
        if self.worker.unit and answer.dtype.kind == "f":
            answer = UnitVectors(answer)
        return Measured(said["seconds"], answer, said.get("faults", 0))


class Crew:
    """Workers that are started when a table needs them and ended when their memory is needed.

    Parameters
    ----------
    folder : Path
        Where the peers' formats are made.
    source : Path
        The word2vec binary.
    store : Path
        vecstore's own format of it, whose plain files some peers use.
    complete : bool
        Whether a peer whose environment is missing is an error; else it takes no part.
    """

    def __init__(self, folder, source, store, *, complete):
        self.folder, self.source, self.complete = folder, source, complete
        self.made, self.seconds = {"vecstore": store}, {}
        self.absent = set()
        self._staff, self._warm = {}, set()

    def has(self, name):
        """Say whether a peer can take part."""
        if python_of(name).exists():
            return True
        if self.complete:
            raise FileNotFoundError(f"{python_of(name)}, where {name} should be; tools/contest makes it")
        self.absent.add(name)
        return False

    def format_of(self, name):
        """Return a peer's own format of the data, made the first time, in a process that ends."""
        name = "vecstore" if name in FORMATLESS else name
        if name not in self.made:
            worker = Worker(name)
            path = self.folder / f"{name}.prepared"
            self.seconds[name] = worker.ask("prepare", source=self.source, target=path)["seconds"]
            worker.end()
            self.made[name] = path
        return self.made[name]

    def files_of(self, name):
        """Return the files of a peer's format."""
        path = self.format_of(name)
        return [*path.rglob("*")] if path.is_dir() else [*path.parent.glob(f"{path.name}*")]

    def size_of(self, name):
        """Return the size of a peer's format on disk, in bytes."""
        return sum(file.stat().st_size for file in self.files_of(name))

    def warm(self, names):
        """Read the formats of those peers that map them; forget those that are in memory, and any other."""
        if set(names) == self._warm:
            return
        self._warm = set(names)
        mapped = {name for name in names if name not in IN_MEMORY}
        for name in set(self.made) - mapped:
            for file in self.files_of(name):
                _forget(file)
        for name in mapped:
            for file in self.files_of(name):
                _read(file)

    def hire(self, *names):
        """Return the workers of those peers that can take part, with their formats open.

        Workers of an earlier call that are not named may be ended.
        """
        names = [name for name in names if self.has(name)]
        for name in names:
            self.format_of(name)
        if sum(memory for _, memory in self._staff.values()) > STAY:
            self.dismiss(but=names)
        for name in names:
            if name not in self._staff:
                worker = Worker(name)
                worker.ask("open", path=self.format_of(name))
                self._staff[name] = worker, worker.ask("memory")["anonymous"]
        self.warm(names)
        return {name: self._staff[name][0] for name in names}

    def memory_of(self, name):
        """Return the anonymous memory of a hired worker once it had opened its format, in bytes."""
        return self._staff[name][1]

    def tasks(self, names, do, **arguments):
        """Return contestants by their titles: what each of those peers that can take part is to do."""
        return {worker.title: worker.task(do, **arguments) for worker in self.hire(*names).values()}

    def dismiss(self, but=()):
        """End all workers but those named."""
        for name in set(self._staff) - set(but):
            self._staff.pop(name)[0].end()
