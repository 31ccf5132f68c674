"""Split a batch over a small pool of threads; small batches stay on the caller's thread.

Kernels run without the GIL, so plain threads are enough. numba's own ``parallel=True`` is not used: loading
such a kernel from the cache takes several times longer, its portable threading layer aborts the process
when two Python threads enter it, and its OpenMP layer does not survive ``fork``.

The pool is made on first use. A forked child inherits the object but none of its threads, so it drops the
pool and makes its own. ``VECSTORE_NUM_THREADS`` sets the number of threads; the default is the number of CPUs
that this process may run on.

A thread of the pool is woken away from the caller's CPU. To Linux an idle CPU of a virtual machine is a taken one, as
long as the host runs something else there: a thread woken after some rest would wait on the caller's CPU until the
system balances its load, about 3 ms. Finding 100,000 keys after a rest of 0.3 s took 7.6 ms that way, and takes 4.3.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Set
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["num_threads", "split"]

_lock = threading.Lock()
_pool: "ThreadPoolExecutor | None" = None
_pool_threads: list[int] = []  # the system's numbers of them


def num_threads() -> int:
    """Return how many threads share a large batch, the caller's own among them.

    Raises
    ------
    ValueError
        ``VECSTORE_NUM_THREADS`` is set and not a positive integer.
    """
    text = os.environ.get("VECSTORE_NUM_THREADS", "")
    if text:
        if not text.isascii() or not text.isdigit() or int(text) == 0:
            raise ValueError(f"VECSTORE_NUM_THREADS: expected a positive integer, found {text!r}")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def split(work: Callable[[int, int], object], n: int, grain: int) -> None:
    """Call ``work(start, stop)`` on ranges that cover ``range(n)``, and return when all are done.

    Parameters
    ----------
    work : callable
        A kernel with all but its range bound. Ranges never overlap; they may run at the same time.
    n : int
        Length of the batch.
    grain : int
        Items that are worth a thread: a batch of fewer than twice as many runs on the caller's thread.
    """
    parts = min(n // grain, num_threads()) if n >= 2 * grain else 1
    if parts <= 1:
        if n:
            work(0, n)
        return
    from concurrent.futures import wait  # 4 ms, which small batches do without

    ranges = list(pairwise(n * part // parts for part in range(parts + 1)))
    futures: list[Future[object]] = []
    cpus = _keep_off_this_cpu()

    def work_anywhere(start: int, stop: int) -> None:
        if cpus:
            _allow(0, cpus)
        work(start, stop)

    try:
        for start, stop in ranges[1:]:
            futures.append(_shared_pool().submit(work_anywhere, start, stop))
    except RuntimeError:
        # The interpreter is shutting down and starts no threads any more.
        wait(futures)
        work(0, n)
        return
    try:
        work(*ranges[0])
    finally:
        wait(futures)  # also after an error: no thread may go on writing to the caller's arrays
    for future in futures:
        future.result()


def _shared_pool() -> "ThreadPoolExecutor":
    from concurrent.futures import ThreadPoolExecutor

    global _pool
    with _lock:
        if _pool is None:
            _pool_threads.clear()
            _pool = ThreadPoolExecutor(num_threads(), thread_name_prefix="vecstore", initializer=_register)
        return _pool


def _register() -> None:
    _pool_threads.append(threading.get_native_id())


def _keep_off_this_cpu() -> Set[int]:
    """Have the pool's threads woken elsewhere; return the CPUs that each may use once it runs, none if all stays."""
    this_cpu = _this_cpu()
    if this_cpu is None:
        return frozenset()
    cpus = os.sched_getaffinity(0)
    others = cpus - {this_cpu()}
    if others:
        for thread in _pool_threads:
            _allow(thread, others)
    return cpus


def _allow(thread: int, cpus: Set[int]) -> None:
    with suppress(OSError):  # a sandbox may forbid it, and a container lose a CPU meanwhile
        os.sched_setaffinity(thread, cpus)


@cache
def _this_cpu() -> Any:
    """Return the system's function that names the calling thread's CPU; None where there is none (macOS, Windows)."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        return ctypes.CDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None


def _forget_pool() -> None:
    global _lock, _pool
    _lock = threading.Lock()
    _pool = None
    _pool_threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
