"""A process in which one contestant works: takes a command a line, as JSON, does it and answers with a line.

    python -m peers.worker NAME

What is read from files is read before the clock starts and what is written after it has stopped; keys are new str for
each command: no hash is computed yet, and none is the object that a dict holds.
"""

import gc
import importlib
import json
import os
import platform
import resource
import sys
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np


def main():
    """Serve commands until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    peer = importlib.import_module(f"peers.{sys.argv[1]}").Peer()
    answers.write(json.dumps(introduce(peer)) + "\n")
    answers.flush()
    for line in sys.stdin:
        command = json.loads(line)
        answer = COMMANDS[command.pop("do")](peer, **command)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def introduce(peer):
    """Say who works here."""
    versions = {}
    for name in peer.packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"title": peer.title, "unit": peer.unit, "python": platform.python_version(), "versions": versions}


def prepare(peer, source, target):
    """Make the peer's own format."""
    start = time.perf_counter()
    peer.prepare(source, target)
    return {"seconds": time.perf_counter() - start}


def open_format(peer, path, key=None, close=False, answer=None):
    """Open what was prepared; the answer is the number of keys and the vector of one, one after the other."""
    peer.close()
    gc.unfreeze()
    gc.collect()
    start = time.perf_counter()
    peer.open(path)
    seconds = time.perf_counter() - start
    gc.freeze()  # or a collection between two tasks would drag millions of keys through the CPU's caches
    if answer:
        np.save(answer, np.append(np.float64(peer.count()), peer.get_each([key])[0]))
    if close:
        peer.close()
    return {"seconds": seconds}


def memory(peer):
    """Return what the process has to itself, in bytes."""
    return _memory()


def _memory():
    fields = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        fields[name.rstrip(":")] = int(size) * 1024
    return {"anonymous": fields["Anonymous"], "private dirty": fields["Private_Dirty"]}


def find(peer, keys, size, calls, kind="list of str", ready=False, answer=None):
    """Find batches of keys, which `ready` converts to the peer's own form before the clock starts."""
    batches = [KINDS[kind](batch) for batch in _batches(keys, size, calls)]
    if ready:
        batches = [peer.accept(batch) for batch in batches]
    return _time(peer.find, batches, answer, np.concatenate)


def lookup(peer, keys, size, calls, answer=None):
    """Look batches of keys up."""
    return _time(peer.lookup, _batches(keys, size, calls), answer, np.concatenate)


def matrix(peer, keys, size, answer=None):
    """Make the matrix of a vocabulary; its keys have the rows from 1 on."""
    word_index = {key: row for row, key in enumerate(_batches(keys, size, 1)[0], start=1)}
    return _time(peer.matrix, [word_index], answer, lambda answers: answers[0])


def get_each(peer, keys, size, answer=None):
    """Get the vectors of keys one by one; the time is that of one."""
    return _time(peer.get_each, _batches(keys, size, 1), answer, lambda answers: np.stack(answers[0]), size)


def contains_each(peer, keys, size, answer=None):
    """Say of keys one by one whether they are there; the time is that of one."""
    return _time(peer.contains_each, _batches(keys, size, 1), answer, lambda answers: answers[0], size)


def embed(peer, texts, answer=None):
    """Make vectors of the texts of a file, one a line."""
    return _time(peer.embed, [_text(texts).split("\n")], answer, lambda answers: answers[0])


def gather(peer, rows, calls, fresh=None, answer=None):
    """Gather rows into arrays that were written to before; `fresh` is opened first, with no page touched."""
    if fresh:
        open_format(peer, fresh)
    batches = np.load(rows)[:calls]
    width = peer.gather(batches[0][:1], None).shape[1]
    outs = np.full((*batches.shape, width), np.nan, np.float32)
    if fresh:
        open_format(peer, fresh)
    return _time(lambda pair: peer.gather(*pair), list(zip(batches, outs, strict=True)), answer, np.concatenate)


def hold(peer, path, rows):
    """Open, gather and keep the result; return how long that took and what the process then has to itself."""
    start = time.perf_counter()
    peer.open(path)
    # An array that no page was written to yet: the result is the only one there is.
    peer.held = peer.gather(np.load(rows), None)
    return {"seconds": time.perf_counter() - start, "result": peer.held.nbytes, **_memory()}


COMMANDS = {
    "prepare": prepare,
    "open": open_format,
    "memory": memory,
    "find": find,
    "lookup": lookup,
    "matrix": matrix,
    "get_each": get_each,
    "contains_each": contains_each,
    "embed": embed,
    "gather": gather,
    "hold": hold,
}


def _arrow(keys):
    import pyarrow as pa

    return pa.array(keys, pa.large_string())


KINDS = {"list of str": list, "Arrow large_string": _arrow, "NumPy U": np.array}


@lru_cache(4)
def _text(path):
    return Path(path).read_text(encoding="utf-8")


def _batches(path, size, calls):
    keys = _text(path).split("\n")[: size * calls]
    return [keys[i * size : (i + 1) * size] for i in range(calls)]


def _time(call, batches, answer, join, parts=None):
    """Call with each batch; the time is that of one call, or of one of its `parts`."""
    gc.disable()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    start = time.perf_counter()
    answers = [call(batch) for batch in batches]
    seconds = time.perf_counter() - start
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before
    gc.enable()
    if answer:
        np.save(answer, join(answers))
    return {"seconds": seconds / (parts or len(batches)), "faults": faults}


if __name__ == "__main__":
    main()
