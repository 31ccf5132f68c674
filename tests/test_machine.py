import hashlib
import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vecstore.kernels import code, machine
from vecstore.kernels.code import inline
from vecstore.kernels.ints import read_ints
from vecstore.kernels.lookup import count_taken
from vecstore.kernels.machine import NO_KEY, Kernel, kernel, view
from vecstore.kernels.memory import prefetch
from vecstore.kernels.sampling import draw_normal

FOLDER = Path(code.__file__).parent
MODULES = [importlib.import_module(f"vecstore.kernels.{path.stem}") for path in FOLDER.glob("[a-z]*.py")]
KERNELS = {name: value for module in MODULES for name, value in vars(module).items() if isinstance(value, Kernel)}
SLOTS = np.array([0, 5, 0, 7], np.uint64)

COUNT = """
import sys
import numpy as np
from vecstore.kernels.lookup import count_taken
print(count_taken(np.array([0, 5, 0, 7], np.uint64)), "numba" in sys.modules)
"""


@inline
def double(value):
    return value * 2


@kernel("i64[:], f64 -> f64")
def weigh(values, factor):
    total = 0
    for i in range(values.shape[0]):
        total += double(values[i])
    return total * factor


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty folder for machine code, the only one there is."""
    monkeypatch.setattr(code, "_cache_folders", lambda: (tmp_path,))
    return tmp_path


def fresh(kernel: Kernel) -> Kernel:
    return Kernel(kernel.function, kernel.signature)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_calls_nothing_but_known_libraries(name, monkeypatch):
    entries = []
    monkeypatch.setattr(machine, "find_or_compile", lambda entry: entries.append(entry) or 1)
    fresh(KERNELS[name]).load()
    _, object_file = code._compile(*entries)
    assert object_file is not None


def test_kernel_computes_with_inlined_functions():
    assert weigh(np.arange(5), 0.5) == 10.0


def test_kernel_takes_a_view_for_an_array():
    assert count_taken(view(SLOTS)) == count_taken(SLOTS) == 2


@pytest.mark.parametrize("array", [SLOTS.astype(np.int64), SLOTS.reshape(2, 2)], ids=["dtype", "ndim"])
def test_kernel_refuses_another_array(array):
    with pytest.raises(TypeError, match="count_taken: expected uint64 of 1 dimensions in C order, found"):
        count_taken(array)


def test_kernel_refuses_a_view_of_another_array():
    with pytest.raises(TypeError, match="count_taken: expected uint64 of 1 dimensions in C order, found int32"):
        count_taken(view(np.zeros(3, np.int32)))
    with pytest.raises(ValueError, match="expected a C-contiguous, aligned array"):
        count_taken(SLOTS[::2])


def test_kernel_refuses_another_number_of_arguments():
    with pytest.raises(ValueError, match="zip"):
        count_taken(SLOTS, 1)


@kernel("key, i64[:], u64 -> i64")
def add_up(key, values, more):
    total = np.int64(more) + 1000 * key.shape[0]
    for i in range(values.shape[0]):
        total += values[i]
    return total


def test_bound_kernel_is_a_function_of_a_key():
    function = add_up.bind(np.arange(5), 2**64 - 1)
    assert [function(key) for key in ("", "abc", b"ab", "größe", np.str_("a"))] == [9, 3009, 2009, 7009, 1009]
    assert [function(no_key) for no_key in (None, 3, "\ud800", ["a"])] == [NO_KEY] * 4


def test_bound_kernel_keeps_its_arrays():
    function = add_up.bind(np.arange(100_000), 0)
    np.ones((100, 1000)).sum()  # would lie where an array was that nobody keeps
    assert function("") == 4_999_950_000


def test_bound_kernel_checks_what_it_is_bound_to():
    with pytest.raises(TypeError, match="add_up: expected int64 of 1 dimensions in C order, found float64"):
        add_up.bind(np.ones(3), 0)


def test_bound_kernel_leaves_no_error_behind():
    function = add_up.bind(np.arange(5), 0)
    for _ in range(1000):
        assert function(object()) == NO_KEY
    assert int("3") == 3


def test_kernel_reads_objects():
    numbers = np.zeros(4, np.int64)
    assert read_ints((1, -(2**63), 2**63 - 1, -1), True, False, numbers) == 4
    assert numbers.tolist() == [1, -(2**63), 2**63 - 1, -1]
    for none in (None, 1.0, "1", 2**63, True, False):
        assert read_ints((1, none, 2, 3), True, False, numbers) == 1


def test_primitive_exists_in_kernels_alone():
    with pytest.raises(TypeError, match="prefetch exists in kernels alone"):
        prefetch(SLOTS, 0)


def test_machine_code_is_kept_and_found_without_numba(run_python, tmp_path):
    # The package's own __pycache__ has the code by now, so that numba stays out.
    count_taken(SLOTS)
    assert run_python(COUNT, XDG_CACHE_HOME=str(tmp_path)).split() == ["2", "False"]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"\0" + data[41:]]
)
def test_damaged_machine_code_is_compiled_again(cache, damage):
    fresh(count_taken)(SLOTS)
    (file,) = cache.iterdir()
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    assert fresh(count_taken)(SLOTS) == 2
    data = file.read_bytes()
    assert hashlib.blake2b(data[32:], digest_size=32).digest() == data[:32]


def test_kernel_runs_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(code, "_cache_folders", lambda: (tmp_path / "file" / "below",))
    assert fresh(count_taken)(SLOTS) == 2


def test_kernel_runs_where_its_code_cannot_be_kept(cache, monkeypatch):
    monkeypatch.setattr(code, "_LIBRARY", set())  # draw_normal calls log and cos
    hashes, moments = np.arange(3, dtype=np.uint64), np.ones((2, 4))
    drawn = np.zeros((2, 3, 4), np.float32)
    for draw, vectors in zip((draw_normal, fresh(draw_normal)), drawn, strict=True):
        draw(hashes, *moments, 0, 3, vectors)
    assert np.array_equal(*drawn)
    assert list(cache.iterdir()) == []


def test_code_is_compiled_once_for_many_threads(cache):
    again = fresh(count_taken)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(again, [SLOTS] * 32)) == [2] * 32
    assert len(list(cache.iterdir())) == 1


@pytest.fixture
def package(tmp_path):
    """A copy of the package without machine code, so that every process compiles."""
    source = Path(code.__file__).parents[1]
    for path in source.rglob("*.py"):
        copy = tmp_path / "vecstore" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / "vecstore"


FORK = """
import os, signal, threading
import numpy as np
from vecstore.kernels.lookup import count_taken, hash_keys
threads = [threading.Thread(target=kernel.load) for kernel in (hash_keys, count_taken)]
for thread in threads:
    thread.start()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(count_taken(np.array([0, 5, 0, 7], np.uint64)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for thread in threads:
    thread.join()
"""


def test_a_child_forked_while_threads_compile_can_compile(run_python, package):
    assert run_python(f"import sys; sys.path.insert(0, {str(package.parent)!r})\n" + FORK).split() == ["2"]


def test_code_in_a_folder_of_strangers_is_not_trusted(tmp_path):
    assert code._is_ours(tmp_path / "absent")
    tmp_path.chmod(0o700)
    assert code._is_ours(tmp_path)
    tmp_path.chmod(0o777)
    assert not code._is_ours(tmp_path)


def test_processes_that_compile_at_once_agree(run_python, package):
    script = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n" + COUNT
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: run_python(script), range(2)))
    assert [answer.split() for answer in answers] == [["2", "True"]] * 2
    assert run_python(script).split() == ["2", "False"]
    assert [path.name[:18] for path in (package / "kernels" / "__pycache__").glob("*.o*")] == ["lookup_count_taken"]
