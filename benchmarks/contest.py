"""How contestants are timed: one row of a table, each of them once in each turn, in an order that changes.

pytest-benchmark times one contestant after the other, so whatever disturbs the machine for a minute disturbs one of
them. Here what it repeats is a turn. The times of each stand in the JSON's ``extra_info``; pytest-benchmark's own
figures are those of whole turns.
"""

import gc
import random
import statistics
import time
from typing import Any, NamedTuple

import numpy as np


class Measured(NamedTuple):
    """What a contestant returns that measures itself: seconds of one call, and an answer where one is asked for.

    `faults` are major page faults in that time: pages that came from the disk.
    """

    seconds: float
    answer: Any = None
    faults: int = 0


class UnitVectors(NamedTuple):
    """The answer of a peer that keeps vectors of length one."""

    vectors: np.ndarray


def agree(expected):
    """Return a check: answers are what is expected, bit for bit, or its unit vectors to seven digits."""

    def check(answer):
        if isinstance(answer, UnitVectors):
            norms = np.linalg.norm(expected, axis=-1, keepdims=True)
            unit = np.divide(expected, norms, out=np.zeros_like(expected), where=norms > 0)
            np.testing.assert_allclose(answer.vectors, unit, rtol=0, atol=5e-7)
        else:
            np.testing.assert_array_equal(answer, expected)

    return check


class Contest:
    """Times rows of tables; see `__call__`."""

    def __init__(self, benchmark, data, turns):
        self.benchmark, self.data, self.turns = benchmark, data, turns

    def __call__(
        self,
        operation,
        case,
        contestants,
        *,
        check,
        limits=None,
        prepare=lambda: None,
        calls=1,
        rounds=15,
        patience=5.0,
        least=3,
        rehearse=True,
        headline=False,
        targets=None,
        growth=None,
        within=None,
        tokens=None,
    ):
        """Time one row of a table.

        Parameters
        ----------
        operation, case : str
            The table and its row.
        contestants : dict of str to callable
            Each takes what `prepare` returned and returns an answer, or what it `Measured`; the first is vecstore,
            or whatever else the others are compared with.
        check : callable
            Raises if an answer of a contestant is wrong.
        limits : dict of str to callable, optional
            What the machine can do at best; timed like the others, but without an answer.
        prepare : callable
            Called before each contestant; not timed.
        calls : int
            Calls that a contestant makes; its time is divided by it, unless it measures itself.
        rounds : int
            Turns.
        patience : float
            Seconds of timed work after which a contestant sits the remaining turns out, if it had `least` of them.
        rehearse : bool
            Whether each contestant goes once before the turns. If not, the answers of the first turn are checked, when
            their time has been taken.
        headline : bool
            Whether the row belongs into the README.
        targets : dict of str to float, optional
            At least how many times vecstore's time a contestant should take, or at most how many times a limit's
            vecstore should.
        growth : dict of str to float, optional
            At most how many times the first one's time another contestant should take.
        within : float, optional
            Seconds that vecstore should take at most.
        tokens : int, optional
            How many a call goes through: so many per second are told as well.

        Returns
        -------
        dict
            What the JSON says of the row; sizes in bytes may be added as "memory".
        """
        limits = limits or {}
        everyone = contestants | limits
        targets = {name: factor for name, factor in (targets or {}).items() if name in everyone}
        growth = {name: factor for name, factor in (growth or {}).items() if name in everyone}
        times = {name: [] for name in everyone}
        faults = {name: [] for name in everyone}
        order = random.Random(0)
        unchecked = set(contestants)

        def go(name):
            prepared = prepare()
            gc.disable()
            start = time.perf_counter()
            answer = everyone[name](prepared)
            seconds = (time.perf_counter() - start) / calls
            gc.enable()
            if isinstance(answer, Measured):
                seconds, answer, read = answer
                faults[name].append(read)
            if name in unchecked:
                check(answer)
                unchecked.discard(name)
            return seconds

        def turn():
            # Whoever follows a heavy contestant finds cold caches; in a fixed order it would always be the same one.
            for name in order.sample(list(everyone), len(everyone)):
                if len(times[name]) < least or sum(times[name]) * calls < patience:
                    times[name].append(go(name))

        if rehearse or not self.benchmark.enabled:
            for name in everyone:
                go(name)
                faults[name].clear()
        info = self.benchmark.extra_info
        self.benchmark.group = f"{operation}, {case}"
        info.update(operation=operation, case=case, data=self.data, headline=headline)
        info.update(calls=calls, limits=list(limits), targets=targets, growth=growth, within=within, tokens=tokens)
        self.benchmark.pedantic(turn if self.benchmark.enabled else int, rounds=self.turns or rounds)
        if self.benchmark.enabled:
            info["times"] = {
                name: {"median": statistics.median(values), "min": min(values), "max": max(values), "all": values}
                for name, values in times.items()
            }
            reads = {name: statistics.median(values) for name, values in faults.items() if values}
            info["disk_reads"] = {name: count for name, count in reads.items() if count}
        return info
