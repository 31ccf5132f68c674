"""Compiling ahead: whatever serves a store is compiled while one is converted, and not when a user waits for an answer.

The machine code is kept; on a machine that has it, this takes some milliseconds.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from vecstore.kernels.ints import read_ints
from vecstore.kernels.lookup import find_row, find_rows, hash_keys
from vecstore.kernels.machine import Kernel
from vecstore.kernels.packing import measure_codes, pack_codes, pack_keys, pack_texts
from vecstore.kernels.paging import ask_for_rows, count_absent
from vecstore.kernels.sampling import draw_normal

__all__ = ["CompileAhead"]

_SERVING = (
    *(pack_texts, find_rows, find_row, read_ints, count_absent),  # of every lookup and matrix
    *(ask_for_rows, pack_keys, measure_codes, pack_codes, hash_keys, draw_normal),
)


class CompileAhead:
    """Use as a context manager: compiles on a thread of its own, and at the end waits for it."""

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vecstore-compiler")
        self._started: list[Future[object]] = []
        self.compile(*_SERVING)
        return self

    def compile(self, *kernels: Kernel) -> None:
        """Compile more kernels after those that are waiting."""
        self._started += [self._pool.submit(kernel.load) for kernel in kernels]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            for started in self._started:
                started.result()
