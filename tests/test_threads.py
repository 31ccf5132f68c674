import itertools
import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from vecstore import threads

MANY = 20_000


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "4")
    monkeypatch.setattr(threads, "_pool", None)
    monkeypatch.setattr(threads, "_pool_threads", [])
    yield
    if threads._pool is not None:
        threads._pool.shutdown()


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("4", 4), ("0064", 64)])
def test_num_threads_is_what_the_environment_says(monkeypatch, text, expected):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", text)
    assert threads.num_threads() == expected


@pytest.mark.parametrize("unset", [True, False])
def test_num_threads_is_the_number_of_usable_cpus(monkeypatch, unset):
    if unset:
        monkeypatch.delenv("VECSTORE_NUM_THREADS")
    else:
        monkeypatch.setenv("VECSTORE_NUM_THREADS", "")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads.num_threads() == usable


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", " 4", "²", "٣", "4\n"])
def test_num_threads_refuses_what_is_not_a_positive_integer(monkeypatch, text):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", text)
    with pytest.raises(ValueError, match="VECSTORE_NUM_THREADS: expected a positive integer, found"):
        threads.split(lambda start, stop: None, 1000, 1)


@pytest.mark.parametrize("workers", ["1", "2", "3", "4", "64"])
@pytest.mark.parametrize("grain", [1, 64, 100, 5000])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 127, 128, 1000, 9999])
def test_split_covers_every_item_once(monkeypatch, n, grain, workers):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", workers)
    ranges = []
    threads.split(lambda start, stop: ranges.append(range(start, stop)), n, grain)
    assert sorted(itertools.chain(*ranges)) == list(range(n))
    assert len(ranges) <= int(workers)


@pytest.mark.parametrize(("n", "spread"), [(199, False), (200, True)])
def test_split_keeps_a_small_batch_on_the_callers_thread(n, spread):
    names = set()
    threads.split(lambda start, stop: names.add(threading.get_ident()), n, 100)
    assert (names != {threading.get_ident()}) == spread


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_split_passes_on_an_exception(failing):
    def work(start, stop):
        if start == 256 * failing:
            raise ZeroDivisionError(start)

    with pytest.raises(ZeroDivisionError, match=str(256 * failing)):
        threads.split(work, 1024, 1)


@pytest.mark.parametrize("failing", [0, 1])
def test_split_returns_only_when_no_range_is_at_work(monkeypatch, failing):
    threads.split(lambda start, stop: None, 1024, 1)
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "64")
    ended = []

    def work(start, stop):
        if start == 64 * failing:
            raise ZeroDivisionError
        np.sort(np.random.default_rng(start).random(200_000))
        ended.append(start)

    with pytest.raises(ZeroDivisionError):
        threads.split(work, 64 * 64, 1)
    assert len(ended) == 63


def test_split_serves_eight_threads_at_once():
    def total(seed):
        numbers = np.random.default_rng(seed).integers(0, 1000, MANY)
        sums = []
        for _ in range(20):
            threads.split(lambda start, stop: sums.append(numbers[start:stop].sum()), MANY, 100)
        return sum(sums) == 20 * numbers.sum()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(total, range(32)))


@pytest.fixture
def allowed(monkeypatch):
    """Keep affinities in a dict, on a machine of three CPUs; the caller is on CPU 1."""
    found = {}

    def allow(thread, cpus):
        found[thread or threading.get_native_id()] = set(cpus)

    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", allow, raising=False)
    monkeypatch.setattr(threads, "_this_cpu", lambda: lambda: 1)
    return found


def at_work(done):
    """Return a function for `split`; it notes who works, and ends when all four do."""
    together = threading.Barrier(4, timeout=30)

    def work(start, stop):
        together.wait()
        done.append(threading.get_native_id())

    return work


def test_split_wakes_threads_away_from_the_caller_and_lets_them_run_anywhere(allowed):
    done = []
    threads.split(at_work(done), 400, 1)
    others = set(done) - {threading.get_native_id()}
    assert len(others) == 3
    assert allowed == {thread: {0, 1, 2} for thread in others}
    assert threads._keep_off_this_cpu() == {0, 1, 2}
    assert allowed == {thread: {0, 2} for thread in others}
    threads.split(at_work(done), 400, 1)
    assert allowed.keys() <= set(done)
    assert sum(cpus == {0, 1, 2} for cpus in allowed.values()) >= 3


def test_split_leaves_threads_where_they_are_on_one_cpu(allowed, monkeypatch):
    threads.split(at_work([]), 400, 1)
    allowed.clear()
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {1}, raising=False)
    assert threads._keep_off_this_cpu() == {1}
    assert not allowed


@pytest.mark.parametrize("missing", ["the call", "the right"])
def test_split_does_without_affinities(monkeypatch, missing):
    def refuse(thread, cpus):
        raise PermissionError

    if missing == "the call":
        monkeypatch.setattr(threads, "_this_cpu", lambda: None)
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    done = []
    for _ in range(2):
        threads.split(at_work(done), 400, 1)
    assert len(done) == 8


def test_the_pools_threads_may_run_wherever_the_caller_may():
    cpus = getattr(os, "sched_getaffinity", lambda thread: None)
    found = []
    for _ in range(2):
        threads.split(lambda start, stop: found.append(cpus(0)), 400, 1)
    assert found == [cpus(0)] * 8


OPENED = """
import atexit, os, signal, sys
import numpy as np
import vecstore
from vecstore import threads

store = vecstore.open(sys.argv[1])
keys = store.keys[:20_000]
expected = store.lookup(keys)
assert threads._pool is not None
"""
FORK = """
child = os.fork()
if not child:
    signal.alarm(30)
    assert threads._pool is None
    same = np.array_equal(store.lookup(keys), expected)
    assert threads._pool is not None
    os._exit(0 if same else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(store.lookup(keys), expected))
"""
FORK_UNDER_WAY = """
import threading
done = threading.Event()
def work():
    while not done.is_set():
        store.lookup(keys)
busy = [threading.Thread(target=work) for _ in range(4)]
for thread in busy:
    thread.start()
codes = []
for _ in range(5):
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(0 if np.array_equal(store.lookup(keys), expected) else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
done.set()
for thread in busy:
    thread.join()
print(codes)
"""
SHUTDOWN = """
@atexit.register
def last():
    print(np.array_equal(store.lookup(keys), expected))
"""


@pytest.mark.parametrize(
    ("script", "printed"),
    [(FORK, "0 True\n"), (FORK_UNDER_WAY, "[0, 0, 0, 0, 0]\n"), (SHUTDOWN, "True\n")],
    ids=["after fork", "after fork while threads look up", "at shutdown"],
)
def test_lookup_answers(glove, run_python, script, printed):
    assert run_python(OPENED + script, glove.path) == printed


def test_lookup_answers_at_shutdown_when_the_pool_was_never_used(glove, run_python):
    script = OPENED.replace("keys[:20_000]", "keys[:10]").replace("is not None", "is None")
    late = SHUTDOWN.replace("lookup(keys), expected", "find(store.keys[:20_000]), np.arange(20_000)")
    assert run_python(script + late, glove.path) == "True\n"


def lookup(store, keys):
    return store.lookup(keys)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_lookup_answers_in_processes_of_every_kind(glove, method):
    keys = glove.keys[:MANY]
    expected = glove.lookup(keys)
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        for vectors in pool.map(lookup, [glove, glove], [keys, keys]):
            np.testing.assert_array_equal(vectors, expected)
