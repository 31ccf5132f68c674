"""Where a store is: a path, a ``file://`` URL, or an address of which a local copy is made.

An address is any SCHEME://... that fsspec knows, such as ``s3://bucket/glove.vecstore``.
"""

import os
import re
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote

from vecstore.cache import chosen_cache, store_name, user_cache
from vecstore.layout import is_whole
from vecstore.progress import ProgressCallback

__all__ = ["is_remote", "local_folder", "local_path"]

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # two letters at least: C:// is a drive
_FILE = "file"


def is_remote(location: object) -> TypeGuard[str]:
    """Say whether `location` is the address of something that is not on this machine."""
    scheme = _SCHEME.match(location) if isinstance(location, str) else None
    return scheme is not None and scheme[1].lower() != _FILE


def local_path(location: str | os.PathLike[str]) -> Path:
    """Return the path that a path or a ``file://`` URL says.

    Raises
    ------
    ValueError
        The URL names another machine, or no absolute path.
    """
    if not isinstance(location, str) or location[: len(_FILE) + 3].lower() != f"{_FILE}://":
        return Path(location)
    host, slash, path = location[len(_FILE) + 3 :].partition("/")
    if not slash or host not in ("", "localhost"):
        raise ValueError(f"{location}: expected file:///, then an absolute path on this machine")
    return Path(slash + unquote(path, errors="surrogateescape"))


def local_folder(
    location: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | None = None,
    refresh: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Return the folder of a store, absolute; of one at an address that of the copy, which is made unless it is there.

    Raises what `local_path` raises, and `vecstore.fetch.fetch` while there is no copy.
    """
    if not is_remote(location):
        return local_path(location).absolute()
    address = location.rstrip("/")
    name = address.partition("?")[0].rpartition("/")[2].removesuffix(".vecstore")
    folder = chosen_cache(cache) or user_cache()
    copy = folder / store_name(re.sub(r"[^\w.-]+", "_", name), {"address": address})
    if refresh or not is_whole(copy):
        from vecstore.fetch import fetch  # here, since most processes find a folder

        fetch(address, copy, refresh=refresh, progress=progress)
    return copy
