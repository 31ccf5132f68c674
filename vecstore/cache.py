"""The cache: a folder of stores that are made when they are first asked for, and kept.

Each is named for people, with a digest of all that the name does not say. Processes that ask for one at once take
turns: the first makes it, and the others find it made.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vecstore.errors import TargetBusyError, TargetError
from vecstore.progress import Progress, ProgressCallback

__all__ = ["REMEDY", "chosen_cache", "make_cache", "store_name", "user_cache", "wait_while_busy"]

_CACHE = "VECSTORE_CACHE"
_NAME_BYTES = 180  # file systems allow 255, of which a partial folder's name and the digest need some
_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds between two looks at what another process is doing

REMEDY = f"name another: cache= or {_CACHE}"
"""What to do about a folder for stores that cannot be used."""

_Result = TypeVar("_Result")


def chosen_cache(cache: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder that the caller or the environment names, absolute, or None."""
    folder = cache or os.environ.get(_CACHE)
    return Path(folder).expanduser().absolute() if folder else None


def user_cache() -> Path:
    """Return the folder for stores where nobody names one."""
    import platformdirs  # takes some milliseconds

    return platformdirs.user_cache_path("vecstore") / "stores"


def make_cache(folder: Path) -> None:
    """Make the folder, unless it is there; raises TargetError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TargetError(f"{folder}: the folder for stores cannot be made: {error.strerror}; {REMEDY}") from None


def store_name(name: str, unsaid: Mapping[str, Any]) -> str:
    """Return the name of a store: `name`, cut if it is long, and a digest of `unsaid`, what tells it from others."""
    shown = name.encode("utf-8", "surrogateescape")
    if len(shown) > _NAME_BYTES:
        unsaid = {**unsaid, "name": name}
        name = shown[:_NAME_BYTES].decode("utf-8", "ignore")
    if unsaid:
        import hashlib  # loads OpenSSL, in 3 ms

        name += "-" + hashlib.blake2b(json.dumps(unsaid, default=str).encode(), digest_size=8).hexdigest()
    return f"{name}.vecstore"


def wait_while_busy(attempt: Callable[[], _Result], progress: ProgressCallback) -> _Result:
    """Return what `attempt` returns, trying again as long as it meets another process that is writing the same."""
    pause = _PAUSE
    while True:
        try:
            return attempt()
        except TargetBusyError:
            progress(Progress("waiting for another process", 0, 0))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
