"""Progress: what long work tells its caller, who alone decides whether and how to show it."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Progress", "ProgressCallback"]


class Progress(NamedTuple):
    """How far one stage of some work has come.

    Attributes
    ----------
    stage : str
        A few words for a person, such as "reading".
    done, total : int
        In `unit`; `total` is 0 where nobody knows.
    unit : str
        "bytes" or "keys".
    note : str
        What else is known, for a person.
    """

    stage: str
    done: int
    total: int
    unit: str = "bytes"
    note: str = ""


ProgressCallback = Callable[[Progress], None]
"""Called several times a second from the thread that does the work; may raise to stop it."""
