"""Workers: processes that each take a task, work on it, and answer.

They are spawned, not forked: a forked process has the locks of threads that it does not have. A worker takes no Ctrl-C,
which the process that started it decides about, and ends as soon as that is gone, killed or not.
"""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process, resource_tracker
from typing import Any, TypeVar

from vecstore.errors import VecstoreError
from vecstore.threads import num_threads

__all__ = ["work_on"]

_ALLOCATOR = "system"  # Arrow's own keeps what was freed: a worker had 175 MB with it, and has 120, at the same speed

_Task = TypeVar("_Task")
_Answer = TypeVar("_Answer")


def work_on(
    tasks: Iterable[_Task], work: Callable[[_Task], _Answer], workers: int
) -> Generator[tuple[_Task, _Answer], None, None]:
    """Yield each task with what ``work(task)`` returned, in the order in which they are done.

    Tasks, `work` and answers are pickled; one more task than there are workers is taken ahead. One worker is the
    calling process itself, with all its threads; several are processes of their own, which share the threads among
    them. Whatever `work` raises is raised here.

    Raises
    ------
    VecstoreError
        A worker ended before its time.
    """
    if workers == 1:
        for task in tasks:
            yield task, work(task)
        return
    started = _start(workers, work)
    try:
        yield from _hand_out(iter(tasks), started)
    finally:
        for process, pipe in started:
            process.terminate()
            pipe.close()
        for process, _ in started:
            process.join()


def _start(workers: int, work: Callable[[Any], Any]) -> list[tuple[Any, Any]]:
    context = get_context("spawn")
    threads = max(1, num_threads() // workers)
    started = []
    resource_tracker.ensure_running()  # which else would let interrupts through again, on its first start
    with _without_interrupts(), _variable("ARROW_DEFAULT_MEMORY_POOL", _ALLOCATOR):
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, work, threads), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
    return started


def _hand_out(tasks: Iterator[Any], started: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    idle = list(started)
    busy: dict[Any, tuple[Any, Any]] = {}
    task = next(tasks, None)
    while task is not None or busy:
        while idle and task is not None:
            process, pipe = idle.pop()
            busy[pipe] = process, task
            try:
                pipe.send(task)
            except OSError:
                raise _ended(process) from None
            task = next(tasks, None)  # read while the others work
        for pipe in list[Any](connection.wait(list(busy))):
            process, done = busy.pop(pipe)
            try:
                is_good, answer = pipe.recv()
            except (EOFError, OSError):
                raise _ended(process) from None
            if not is_good:
                raise answer
            idle.append((process, pipe))
            yield done, answer


def _ended(process: Any) -> VecstoreError:
    process.join()
    return VecstoreError(
        f"a worker ended with exit code {process.exitcode} (-9: killed, perhaps for its memory: use fewer workers; "
        "1 at the start: a script has to call this under `if __name__ == '__main__':`)"
    )


def _serve(pipe: Any, work: Callable[[Any], Any], threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["VECSTORE_NUM_THREADS"] = str(threads)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            answer = pickle.dumps((True, work(task)))
        except Exception as error:
            answer = pickle.dumps((False, _sendable(error)))
        pipe.send_bytes(answer)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return VecstoreError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment, which new processes inherit, unless it is set."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold interrupts back, also from new processes, until they ignore them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
