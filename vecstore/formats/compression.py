"""Decompression: which way a file is packed, by its first bytes, and a function that reads it unpacked.

gzip and the deflate of zip are isal's, bz2 and xz Python's own, zstd is pyarrow's. What follows a whole stream is
another one (gzip, bz2, xz and zstd files may be put end to end), zeros to the end, or damage.

A zip archive is read in place: its member's name is compared and shown, never used as a path.
"""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from isal import igzip_lib, isal_zlib

from vecstore.errors import FormatError

if TYPE_CHECKING:
    import zipfile

__all__ = ["DamagedError", "Unpacked", "packing", "unpack", "unpack_member"]

_CHUNK = 1 << 18  # bytes read at a time
_FIRST = 1 << 10  # bytes that a stream is given first
_XZ_MEMORY = 1 << 28  # bytes that a dictionary may take; xz -9 needs 64 MiB
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # an empty archive
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class DamagedError(Exception):
    """Packed data ends early, fails its checksum, or is followed by something else."""


class Unpacked(NamedTuple):
    """How to read what is packed.

    Attributes
    ----------
    readinto : callable
        Fills a part of a memoryview and returns its length, 0 at the end; raises `DamagedError`, or the disk's own
        `OSError`.
    most : int or None
        No more bytes than this come out, if that is known.
    """

    readinto: Callable[[memoryview], int]
    most: int | None = None


def packing(head: bytes) -> str | None:
    """Return how a file that starts with `head` is packed: "gzip", "zip", "bz2", "xz", "zstd" or None."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def unpack(kind: str, raw: Any) -> Unpacked:
    """Return a reader of a stream packed as `kind`, any of `packing`'s but zip."""
    # Imported here: a process that converts nothing needs none of them.
    if kind == "gzip":
        from isal import igzip

        opened = igzip.open(raw, "rb")  # type: ignore[no-untyped-call]
        return Unpacked(_checked(opened.readinto))
    if kind == "bz2":
        import bz2

        return Unpacked(_checked(_into(_Streams(raw, bz2.BZ2Decompressor, b"BZh").read)))
    if kind == "xz":
        import lzma

        streams = _Streams(raw, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY), b"\xfd7zXZ\x00")
        return Unpacked(_checked(_into(streams.read)))
    import pyarrow as pa

    return Unpacked(_checked(pa.CompressedInputStream(raw, "zstd").readinto))


def unpack_member(path: Path, raw: Any, member: str | None) -> tuple[str, Unpacked]:
    """Return the name and a reader of one member of a zip archive.

    Parameters
    ----------
    path : Path
        The archive, for messages.
    raw : binary file
        The archive, seekable.
    member : str or None
        Its member; None for the only one.

    Raises
    ------
    FormatError
        The archive is damaged, has no such member, or several and none was named; or the member is encrypted,
        a symbolic link, or packed in a way that nobody here can read.
    """
    import zipfile

    try:
        archive = zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise FormatError(f"{path}: the zip archive is damaged or cut short ({error}); download it again") from None
    if any(name.endswith("/data.pkl") for name in archive.namelist()):
        raise FormatError(
            f"{path}: expected a file of word vectors, found a PyTorch file, a pickle, which may run code when loaded "
            "and is never read here; load it with torch and give vecstore.convert((keys, vectors), target)"
        )
    # macOS keeps its own notes beside the files of an archive.
    entries = [i for i in archive.infolist() if not i.filename.endswith("/") and not i.filename.startswith("__MACOSX/")]
    names = [entry.filename for entry in entries]
    shown = (", ".join(map(repr, names[:20])) or "none") + (", ..." if len(names) > 20 else "")
    if member is not None and names.count(member) != 1:
        raise FormatError(f"{path}: expected one member {member!r}, found {names.count(member)} among {shown}")
    if member is None and len(entries) != 1:
        remedy = f"; name one, as in '{path}::{names[0]}'" if names else ""
        raise FormatError(f"{path}: expected a zip archive of one file, found {len(names)}: {shown}{remedy}")
    entry = entries[0 if member is None else names.index(member)]
    where = f"{path}::{entry.filename}"
    if entry.flag_bits & 1:
        raise FormatError(f"{where}: is encrypted; unpack it first")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        # LZMA's dictionary may be of 4 GB, which zipfile allocates unseen.
        raise FormatError(f"{where}: cannot be unpacked (method {entry.compress_type}); unpack it first")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise FormatError(f"{where}: is a symbolic link; name the file that it points to")
    try:
        opened = archive.open(entry)  # checks the member's own header against the archive's directory
        if entry.compress_type == zipfile.ZIP_DEFLATED:
            return entry.filename, Unpacked(_checked(_into(_Deflated(raw, archive, entry).read)), entry.file_size)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise FormatError(f"{where}: cannot be unpacked ({error})") from None
    return entry.filename, Unpacked(_checked(_into(opened.read)), entry.file_size)


def _into(read: Callable[[int], bytes]) -> Callable[[memoryview], int]:
    """Make a function that returns bytes one that fills memory."""

    def readinto(view: memoryview) -> int:
        data = read(len(view))
        view[: len(data)] = data
        return len(data)

    return readinto


def _checked(readinto: Callable[[memoryview], int]) -> Callable[[memoryview], int]:
    """Make one error of all that libraries raise on damaged data."""

    def checked(view: memoryview) -> int:
        try:
            return readinto(view)
        except (MemoryError, DamagedError):
            raise
        except Exception as error:
            if getattr(error, "errno", None) is not None:
                raise  # the disk's
            raise DamagedError(str(error)) from None

    return checked


class _Streams:
    """Read streams that lie end to end, each with a decompressor of Python's usual kind.

    A stream that ends gives back what it was given too much. Each is therefore given little at first, so that many
    small ones do not cost the square of a chunk.
    """

    def __init__(self, raw: Any, new: Callable[[], Any], magic: bytes) -> None:
        self._raw = raw
        self._new = new
        self._magic = magic
        self._chunk, self._at = b"", 0
        self._current, self._head, self._most = new(), b"", _FIRST

    def read(self, n: int) -> bytes:
        while True:
            if self._current.eof:
                head = self._take(len(self._magic))
                while head and len(head) < len(self._magic) and (more := self._take(len(self._magic) - len(head))):
                    head += more
                if head != self._magic:
                    self._expect_zeros(head)
                    return b""
                self._current, self._head, self._most = self._new(), head, _FIRST
            piece = b""
            if self._current.needs_input:
                piece = self._head or self._take(self._most)
                self._head, self._most = b"", min(2 * self._most, _CHUNK)
                if not piece:
                    raise DamagedError("it ends before its end-of-stream mark")
            data: bytes = self._current.decompress(piece, n)
            if self._current.eof:
                self._at -= len(self._current.unused_data)
            if data:
                return data

    def _take(self, count: int) -> bytes:
        """Return the next bytes of the file, `count` at most."""
        if self._at == len(self._chunk):
            self._chunk, self._at = self._raw.read(_CHUNK), 0
        piece = self._chunk[self._at : self._at + count]
        self._at += len(piece)
        return piece

    def _expect_zeros(self, rest: bytes) -> None:
        while rest:
            if rest.strip(b"\0"):
                raise DamagedError("something else follows it")
            rest = self._take(_CHUNK)


class _Deflated:
    """Read a deflated member of a zip archive with isal, several times faster than `zipfile`; checks its CRC-32."""

    def __init__(self, raw: Any, archive: "zipfile.ZipFile", entry: "zipfile.ZipInfo") -> None:
        # `archive` has opened the member, so its local header is sound; its name and extra field come before the data.
        raw.seek(entry.header_offset + 26)
        lengths = raw.read(4)
        raw.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        self._raw = raw
        self._archive = archive
        self._left = entry.compress_size
        self._size, self._crc = entry.file_size, entry.CRC
        self._done, self._found = 0, 0
        self._current = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)

    def read(self, n: int) -> bytes:
        data = b""
        while not data and not self._current.eof:
            packed = b""
            if self._current.needs_input:
                packed = self._raw.read(min(_CHUNK, self._left))
                self._left -= len(packed)
                if not packed:
                    raise DamagedError("it ends before its end-of-stream mark")
            data = self._current.decompress(packed, n)
        self._done += len(data)
        self._found = isal_zlib.crc32(data, self._found)
        if self._done > self._size or (not data and (self._done, self._found) != (self._size, self._crc)):
            raise DamagedError(f"expected {self._size:,} bytes with CRC-32 {self._crc:08x}")
        return data
