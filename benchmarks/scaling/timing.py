"""Time and memory: contestants in turn, and what a process has to itself.

What runs on one thread is measured in processor time, to which a busy machine adds little.
"""

import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Times(NamedTuple):
    """Seconds of a contestant: the median of its processor time, and the shortest time on the clock."""

    processor: float
    shortest: float


def times(contestants: dict[str, Callable[[], object]], turns: int) -> dict[str, Times]:
    """Return the times of each; each goes once before, untimed. The order turns round with each turn."""
    clock: dict[str, list[float]] = {name: [] for name in contestants}
    processor: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for turn in range(turns):
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            gc.collect()
            start, used = time.perf_counter(), time.process_time()
            contestants[name]()
            processor[name].append(time.process_time() - used)
            clock[name].append(time.perf_counter() - start)
    return {name: Times(statistics.median(processor[name]), min(clock[name])) for name in contestants}


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Have vecstore work on so many threads."""
    before = os.environ.get("VECSTORE_NUM_THREADS")
    os.environ["VECSTORE_NUM_THREADS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["VECSTORE_NUM_THREADS"]
        else:
            os.environ["VECSTORE_NUM_THREADS"] = before


def on(number: int, work: Callable[[], object]) -> Callable[[], object]:
    """Return `work` on so many threads."""

    def run() -> object:
        with threads(number):
            return work()

    return run


def anonymous() -> int:
    """Return the bytes of this process that are backed by no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def peak_of(work: Callable[[], object]) -> tuple[object, int]:
    """Return what `work` returns, and the most bytes that this process had meanwhile beyond those before."""
    gc.collect()
    before = highest = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = work()
        highest = max(highest, anonymous())
    finally:
        done.set()
        watcher.join()
    return result, highest - before
