"""fetch: a local copy of a store at an address, made once a machine and kept in the cache.

``metadata.json`` is read first: it tells each other file's size and CRC-32. Files are written into a hidden folder
beside the copy's name, which outlives a broken transfer, so that the next try goes on where it stopped; if another
store is at the address by then, it starts over. What is whole and agrees with its checksums is published in one step.

A copy that is there is opened without asking the address again: a store never changes, and a thousand workers start
without a request, also while the server is down. To import what makes a request would alone cost each of them a fifth
to a third of a second. Who publishes another store under the same address asks for it with ``refresh``.
"""

import errno
import shutil
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from vecstore.arrays import checksum
from vecstore.cache import REMEDY, make_cache, wait_while_busy
from vecstore.disk import NewFile
from vecstore.errors import RemoteError, StoreError, TargetError, VecstoreError
from vecstore.layout import METADATA, METADATA_LIMIT, Metadata, is_whole, metadata_is_intact, open_files, parse_metadata
from vecstore.progress import Progress, ProgressCallback
from vecstore.remote import RemoteFolder
from vecstore.staging import StagedFolder

__all__ = ["fetch"]

_KEPT = ".fetching"
_PASSES = 2  # over all files: a store may have been replaced between two of them


def fetch(address: str, target: Path, *, refresh: bool = False, progress: ProgressCallback | None = None) -> None:
    """Make a local copy of a store, unless it is there.

    Processes that ask at once copy once; the others wait, and if the one that copies is killed, another goes on where
    it stopped.

    Parameters
    ----------
    address : str
        The store's folder, SCHEME://..., as fsspec knows it.
    target : Path
        The folder to make.
    refresh : bool, default False
        Whether to ask the address if another store is there by now, and to copy that.
    progress : callable, optional
        Called with a `Progress` several times a second while the store is copied or another process is waited for.

    Raises
    ------
    FileNotFoundError
        Nothing is at `address`.
    StoreError
        What is there is no store, or a damaged one.
    RemoteError
        It cannot be read.
    TargetError
        The copy cannot be written; the disk may be full.
    ValueError
        fsspec does not know the scheme.
    MissingPackageError
        fsspec, or what it needs for the scheme, is not installed.
    """
    copy = _Copy(address, target, refresh, progress or (lambda progress: None))
    if not copy.is_current():
        make_cache(target.parent)
        wait_while_busy(copy.make, copy.progress)


@dataclass(frozen=True, slots=True)
class _Copy:
    """What is copied, whereto, and whether a copy of another state of it will do."""

    address: str
    target: Path
    refresh: bool
    progress: ProgressCallback

    def is_current(self) -> bool:
        """Say whether the copy is there and need not be made."""
        if not is_whole(self.target):
            return False
        return not self.refresh or _read(self.target / METADATA) == _metadata_at(RemoteFolder.at(self.address))[0]

    def make(self) -> None:
        """Copy the store, unless another process has done so meanwhile; TargetBusyError while one does."""
        with StagedFolder(self.target, overwrite=True) as staged:
            if self.is_current():
                return
            # Not named as what `StagedFolder` removes. Without locks nothing is kept, since two could be writing it.
            kept = self.target.with_name(f".{self.target.name}{_KEPT}") if staged.is_locked else staged.path / _KEPT
            try:
                metadata = self._fill(kept)
                for name in (*metadata.files, METADATA):
                    (kept / name).rename(staged.path / name)
                shutil.rmtree(kept)
                staged.publish()
            except OSError as error:
                if isinstance(error, VecstoreError) or error.filename is None:
                    raise
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    shutil.rmtree(kept, ignore_errors=True)
                raise TargetError(
                    f"{self.target}: the copy of {self.address} cannot be written: {error.strerror}; {REMEDY}"
                ) from None

    def _fill(self, kept: Path) -> Metadata:
        """Make the folder `kept` a whole store."""
        folder = RemoteFolder.at(self.address)
        for passed in range(1, _PASSES + 1):
            data, metadata = _metadata_at(folder)
            if _read(kept / METADATA) != data:
                with suppress(FileNotFoundError):
                    shutil.rmtree(kept)
                kept.mkdir()
                with closing(NewFile(kept / METADATA)) as file:
                    file.write(data)
                    file.finish()
            try:
                self._fill_files(kept, folder, metadata)
                break
            except StoreError:
                if passed == _PASSES:
                    raise
            except RemoteError:
                # A file that ends early may be of another store by now.
                if passed == _PASSES or not _has_changed(folder, data):
                    raise
        try:
            open_files(kept)
        except StoreError as error:
            shutil.rmtree(kept)
            raise StoreError(str(error).replace(str(kept), self.address)) from None
        return metadata

    def _fill_files(self, kept: Path, folder: RemoteFolder, metadata: Metadata) -> None:
        """Copy what is missing of each file; raise StoreError, and remove the file, if it is not what it should be."""
        sizes = {name: file["size"] for name, file in metadata.files.items()}
        missing = sum(size - _size(kept / name) for name, size in sizes.items())
        free = shutil.disk_usage(kept).free
        if missing > free:
            raise TargetError(
                f"{self.target}: the copy of {self.address} needs {missing:,} bytes, {free:,} are free; {REMEDY}"
            )
        done = 0
        for name, size in sizes.items():
            path = kept / name
            if _size(path) > size:
                path.unlink()
            start = _size(path)
            crc = int(checksum(path), 16) if start else 0
            with closing(NewFile(path, resumed=True)) as file:
                try:
                    for block in folder.blocks(name, start, size):
                        file.write(block)
                        crc = isal_zlib.crc32(block, crc)
                        start += len(block)
                        self.progress(Progress("copying", done + start, sum(sizes.values())))
                except FileNotFoundError:
                    raise StoreError(f"{self.address}: {name} is missing") from None
                except BaseException:
                    with suppress(OSError):
                        file.flush()  # what has come need not come again; the checksum finds what a full disk left out
                    raise
                file.finish()
            done += size
            if f"{crc:08x}" != (expected := metadata.files[name]["crc32"]):
                path.unlink()
                raise StoreError(f"{self.address}: {name}: its checksum is wrong: expected {expected}, found {crc:08x}")


def _metadata_at(folder: RemoteFolder) -> tuple[bytes, Metadata]:
    """Return the store's ``metadata.json``, as it is and as what it says."""
    try:
        data = folder.read(METADATA, METADATA_LIMIT + 1)
    except FileNotFoundError:
        if folder.exists():
            raise StoreError(f"{folder.address}: not a store: it holds no {METADATA}") from None
        raise FileNotFoundError(f"{folder.address}: no such store") from None
    metadata = parse_metadata(data, folder.address)
    if not metadata_is_intact(data):
        raise StoreError(f"{folder.address}: {METADATA}: its checksum is wrong")
    return data, metadata


def _has_changed(folder: RemoteFolder, data: bytes) -> bool:
    try:
        return _metadata_at(folder)[0] != data
    except (VecstoreError, FileNotFoundError):
        return False


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    """Return the size of a file, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
