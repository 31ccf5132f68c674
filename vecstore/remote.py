"""RemoteFolder: a folder at an address, whose files are read in blocks through fsspec, which this module alone imports.

A broken transfer goes on where it stopped, and is an error once several tries in a row have brought nothing. From HTTP
servers a file comes as one stream, which begins where the last one broke. A server that knows no ranges sends it from
its start, and what has come before is dropped. From everything else some ranges are read at once.
"""

import time
from collections.abc import Iterator
from typing import Any

from vecstore.errors import MissingPackageError, RemoteError

__all__ = ["RemoteFolder"]

_PART_BYTES = 1 << 20  # of a stream
_RANGE_BYTES = 1 << 22
_AT_ONCE = 4  # ranges
_TRIES = 4
_PAUSE = 0.5  # seconds before the second try, twice as many before each later one
_SILENCE = 60  # seconds without a byte after which an HTTP transfer counts as broken
_HTTP = ("http", "https")
_EXTRAS = {"http": "remote", "https": "remote", "s3": "s3", "s3a": "s3"}
_BUSY = (408, 425, 429)  # of HTTP's 4xx, those that another try may change


class RemoteFolder:
    """Read the files of a folder; made by `at`.

    Parameters
    ----------
    address : str
        What errors call the folder.
    files : fsspec file system
        Where it is.
    root : str
        What the file system calls it.
    """

    def __init__(self, address: str, files: Any, root: str) -> None:
        self.address = address
        self._files = files
        self._root = root
        self._is_http = root.startswith(("http://", "https://"))

    @classmethod
    def at(cls, address: str) -> "RemoteFolder":
        """Return the folder at `address`, SCHEME://...; asks no server.

        Raises
        ------
        ValueError
            fsspec does not know the scheme.
        MissingPackageError
            fsspec, or what it needs for the scheme, is not installed.
        """
        scheme, mark, rest = address.partition("://")
        scheme = scheme.lower()
        address = scheme + mark + rest
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise MissingPackageError(_missing(address, "remote"), name=error.name) from None
        if scheme not in fsspec.available_protocols():
            known = ", ".join(sorted(fsspec.available_protocols()))
            raise ValueError(f"{address}: expected a scheme that fsspec knows, found {scheme!r}; it knows {known}")
        options = {}
        if scheme in _HTTP:
            configured = {name: value for known in _HTTP for name, value in fsspec.config.conf.get(known, {}).items()}
            # As curl and requests do, but aiohttp does not unless told: proxies and passwords from the environment.
            options["client_kwargs"] = {"trust_env": True, **configured.get("client_kwargs", {})}
        try:
            # An instance of its own: its connections end with it, and it lists nothing from memory.
            files, root = fsspec.core.url_to_fs(address, skip_instance_cache=True, **options)
        except ImportError as error:
            name = getattr(error.__cause__, "name", None)
            needed = _missing(address, _EXTRAS[scheme]) if scheme in _EXTRAS else f"{address}: {error}"
            raise MissingPackageError(needed, name=name) from error
        except Exception as error:
            raise _failure(address, error) from error
        return cls(address, files, root)

    def read(self, name: str, limit: int) -> bytes:
        """Return the first `limit` bytes of a file, or all if it has fewer; raises what `blocks` raises."""
        patience = _Patience(self._address_of(name))
        path = self._path(name)
        while True:
            try:
                if self._is_http:
                    return b"".join(self._stream(path, 0, limit))
                return bytes(self._files.cat_file(path, start=0, end=limit))
            except Exception as error:
                patience.bear(error)

    def blocks(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `start` to `stop` of a file in blocks of some MiB at most.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        RemoteError
            It cannot be read, or ends before `stop`.
        """
        patience = _Patience(self._address_of(name))
        path = self._path(name)
        read = self._stream if self._is_http else self._ranges
        while start < stop:
            try:
                for block in read(path, start, stop):
                    yield block
                    start += len(block)
                    patience.renew()
                if start < stop:
                    raise EOFError(f"expected {stop:,} bytes, found {start:,}")
            except Exception as error:
                patience.bear(error)

    def exists(self) -> bool:
        """Say whether anything is known to be at the address itself; where nobody can tell, no."""
        try:
            return bool(self._files.exists(self._root))
        except Exception:
            return False

    def _stream(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `start` to `stop`, or to the end, out of one answer of an HTTP server."""
        import aiohttp

        headers = {**self._files.kwargs.get("headers", {}), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        # A total, as aiohttp sets one of five minutes, would end every large transfer.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
        # Without blocks fsspec streams; the size spares it asking.
        with self._files.open(path, "rb", block_size=0, size=stop, headers=headers, timeout=timeout) as file:
            here = start if file.r.status == 206 else 0
            while here < stop and (block := _fill(file, min(_PART_BYTES, stop - here))):
                skipped = max(start - here, 0)
                here += len(block)
                if here > start:
                    yield block[skipped:]

    def _ranges(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `start` to `stop`, asked for in ranges."""
        for first in range(start, stop, _AT_ONCE * _RANGE_BYTES):
            starts = list(range(first, min(first + _AT_ONCE * _RANGE_BYTES, stop), _RANGE_BYTES))
            stops = [min(start + _RANGE_BYTES, stop) for start in starts]
            blocks = self._files.cat_ranges([path] * len(starts), starts, stops, on_error="return")
            for begin, end, block in zip(starts, stops, blocks, strict=True):
                if isinstance(block, BaseException):
                    raise block
                if len(block) != end - begin:
                    raise EOFError(f"expected {end - begin:,} bytes from byte {begin:,} on, found {len(block):,}")
                yield bytes(block)

    def _path(self, name: str) -> str:
        return _join(self._root, name) if self._is_http else f"{self._root.rstrip('/')}/{name}"

    def _address_of(self, name: str) -> str:
        return _join(self.address, name) if self._is_http else f"{self.address}/{name}"


class _Patience:
    """Counts what went wrong with a file since something went well."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._failures = 0

    def renew(self) -> None:
        self._failures = 0

    def bear(self, error: Exception) -> None:
        """Wait before another try, or raise an error that names the file."""
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{self._address}: no such file") from None
        self._failures += 1
        status = getattr(error, "status", None)  # of aiohttp's errors
        refused = isinstance(status, int) and 400 <= status < 500 and status not in _BUSY
        if refused or isinstance(error, PermissionError | ModuleNotFoundError) or self._failures == _TRIES:
            raise _failure(self._address, error) from error
        time.sleep(_PAUSE * 2 ** (self._failures - 1))


def _join(url: str, name: str) -> str:
    """Return the URL of a file in a folder; what a query says, such as a signature, goes for the file too."""
    folder, mark, query = url.partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{query}"


def _fill(file: Any, count: int) -> bytes:
    """Read `count` bytes, or what there is, from a file that gives fewer at a time."""
    block = bytearray()
    while len(block) < count and (part := file.read(count - len(block))):
        block += part
    return bytes(block)


def _missing(address: str, extra: str) -> str:
    return f"{address}: a package to read it with is not installed: pip install 'vecstore[{extra}]'"


def _failure(address: str, error: Exception) -> RemoteError:
    text = " ".join(str(error).split())
    return RemoteError(f"{address}: cannot be read: {type(error).__name__}{': ' if text else ''}{text:.300}")
