import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import guarded

RUN = [sys.executable, "-W", "error"]
TESTS = Path(__file__).parent
BEYOND = """
import numpy as np
from fuzz.guarded import Guarded
from vecstore.kernels.lookup import count_taken
from vecstore.kernels.machine import View, view
slots = Guarded(np.ones(8, np.uint64), at_end={at_end}, writable=False).array
print(count_taken(slots), flush=True)
address, shape, dtype = view(slots)
count_taken(View(address + {shift}, shape, dtype))
"""
WRITE = """
import numpy as np
from fuzz.guarded import Guarded
array = Guarded(np.ones(8), at_end=True, writable={writable}).array
array[0] = 2
print(array[0])
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN, *arguments], capture_output=True, text=True, cwd=TESTS, timeout=120)


@pytest.mark.parametrize(("at_end", "shift"), [(True, 8), (False, -8)])
def test_guard_stops_a_kernel_that_reads_outside(at_end, shift):
    process = run("-c", BEYOND.format(at_end=at_end, shift=shift))
    assert (process.stdout, process.returncode) == ("8\n", -signal.SIGSEGV)


@pytest.mark.parametrize("writable", [True, False])
def test_guard_stops_who_writes_to_what_is_read(writable):
    process = run("-c", WRITE.format(writable=writable))
    assert (process.stdout, process.returncode) == (("2.0\n", 0) if writable else ("", -signal.SIGSEGV))


def test_every_kernel_is_called():
    called = {make.__name__ for make in guarded.CALLS}
    assert called == {f"call_{name}" for name in guarded.kernels()}


def test_no_kernel_leaves_its_arrays():
    process = run("-m", "fuzz.guarded", "--count", "60")
    ended = process.stdout.splitlines()[-1]
    assert ended == "sound", f"{ended}: exit code {process.returncode}\n{process.stderr}"
    assert process.returncode == 0
