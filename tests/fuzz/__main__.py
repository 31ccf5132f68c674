"""Run targets: ``python -m fuzz TARGET [--seconds S | --count N] [--seed K]``, or ``python -m fuzz --replay FILE``.

Inputs run in children with limits on memory and on time, so that one that crashes, hangs or eats memory is known too.
Input i of a seed is always the same. What fails is printed and kept.
"""

import argparse
import gc
import hashlib
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from types import FrameType

from fuzz import readers, stores
from fuzz.readers import Target

CORPUS = Path(__file__).parent / "corpus"
TARGETS = {**readers.TARGETS, "stores": stores.TARGET}
_BATCH = 2000
_SECONDS = 10  # that an input may take
_SPACE = 3 << 30  # bytes of address space that inputs may take on top of what the libraries have; threads take much
_MEMORY = 1 << 29  # bytes of memory, likewise
_BETWEEN_COLLECTIONS = 20  # inputs: what they left in cycles counts as memory
_KEPT = 3  # inputs of one kind of failure


class TooLongError(Exception):
    """An input takes too long."""


def make_input(target: str, seed: int, i: int) -> bytes:
    return TARGETS[target].make(Random(f"{target} {seed} {i}"))


def limit_memory() -> None:
    """Bound the memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _SPACE,) * 2)


def limit_time() -> None:
    """Raise `TooLongError` when the alarm rings."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLongError(f"more than {_SECONDS} seconds")

    signal.signal(signal.SIGALRM, ring)


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def check_one(target: Target, data: bytes) -> BaseException | None:
    """Return what is wrong with what happens to an input."""
    try:
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            target.check(data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception as error:
        return error
    return None


def kind_of(error: BaseException) -> str:
    """Return the type of an error and where it came from, to tell new failures from known ones."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "vecstore" in frame.filename or "fuzz" in frame.filename]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in ours[-2:]]
    return f"{type(error).__name__} at {' '.join(places)}"


def run(name: str, *, seconds: float, count: int | None, seed: int, keep: Path) -> int:
    """Run a target; return how many inputs failed."""
    target, started, first, failures = TARGETS[name], time.monotonic(), 0, 0
    shared = mmap.mmap(-1, 16)  # the input that runs, and how many failed
    target.check(make_input(name, seed, 0))  # whatever is compiled or imported once, is so before the first fork
    while time.monotonic() - started < seconds and (count is None or first < count):
        last = first + _BATCH if count is None else min(count, first + _BATCH)
        stop = started + seconds
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = 1
            try:
                _run_batch(name, seed, first, last, stop, keep, shared)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        status = _wait(child, shared)
        i, failed = struct.unpack("qq", shared[:])
        failures += failed
        if status:
            failures += 1
            code = os.waitstatus_to_exitcode(status)
            _keep(keep / name, make_input(name, seed, i), f"the process ended with exit code {code}", i)
            first = i + 1
        else:
            first = max(i + 1, first + 1)
    print(f"{name}: {first:,} inputs in {time.monotonic() - started:.0f} s, {failures} failed", flush=True)
    return failures


def _run_batch(name: str, seed: int, first: int, last: int, stop: float, keep: Path, shared: mmap.mmap) -> None:
    warnings.simplefilter("error")
    gc.freeze()  # so that the collections below look at little
    limit_memory()
    limit_time()
    kinds: dict[str, int] = {}
    failed, allowed = 0, peak_memory() + _MEMORY
    for i in range(first, last):
        shared[:] = struct.pack("qq", i, failed)
        data = make_input(name, seed, i)
        error = check_one(TARGETS[name], data)
        if i % _BETWEEN_COLLECTIONS == 0:
            gc.collect()
        greedy = peak_memory() > allowed
        if greedy and error is None:
            error = MemoryError(f"more than {_MEMORY:,} bytes")
        if error is not None:
            failed += 1
            kind = kind_of(error)
            kinds[kind] = kinds.get(kind, 0) + 1
            if kinds[kind] <= _KEPT:
                _keep(keep / name, data, f"{kind}: {error!s:.400}", i)
        shared[:] = struct.pack("qq", i, failed)
        if greedy or time.monotonic() > stop:
            break


def _wait(child: int, shared: mmap.mmap) -> int:
    """Wait for a child, which is killed when it stays at one input; return its status."""
    seen, since = -1, time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        i = struct.unpack("qq", shared[:])[0]
        if i != seen:
            seen, since = i, time.monotonic()
        elif time.monotonic() - since > 2 * _SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)


def _keep(folder: Path, data: bytes, message: str, i: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.blake2b(data, digest_size=6).hexdigest()
    path.write_bytes(data)
    print(f"FAILED input {i}, {len(data):,} bytes, kept as {path}\n  {message}", flush=True)


def replay(paths: list[Path]) -> int:
    """Check inputs that were kept; their folder is named after the target. Returns how many failed."""
    limit_memory()
    limit_time()
    failures = 0
    for path in paths:
        error = check_one(TARGETS[path.parent.name], path.read_bytes())
        if error is not None:
            failures += 1
            print(f"FAILED {path}\n  {kind_of(error)}: {error!s:.400}", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all unless named: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each target")
    parser.add_argument("--count", type=int, help="inputs of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=CORPUS, help="the folder for inputs that fail")
    parser.add_argument("--replay", type=Path, nargs="+", metavar="FILE")
    options = parser.parse_args()
    warnings.simplefilter("error")
    if options.replay:
        return min(1, replay(options.replay))
    limits = {"seconds": options.seconds, "count": options.count, "seed": options.seed, "keep": options.keep}
    if options.count is None and options.seconds == float("inf"):
        parser.error("expected --seconds or --count")
    return min(1, sum(run(name, **limits) for name in options.targets or TARGETS))


if __name__ == "__main__":
    sys.exit(main())
