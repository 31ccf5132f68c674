"""Time and memory: contestants in turn, medians, and what a process has to itself."""

import gc
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def medians(contestants: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Return the seconds of each, the median of so many turns; each goes once before, untimed."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for turn in range(turns):
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            gc.collect()
            start = time.perf_counter()
            contestants[name]()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


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


def peak_of(work: Callable[[], object]) -> tuple[object, int, float]:
    """Return what `work` returns, the most bytes that this process had meanwhile beyond those before, and seconds."""
    gc.collect()
    before = highest = anonymous()
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.002):
            highest = max(highest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        result = work()
        seconds = time.perf_counter() - start
        highest = max(highest, anonymous())
    finally:
        done.set()
        watcher.join()
    return result, highest - before, seconds
