"""Parts: what a job has finished, in a folder beside its target, ``NAME.unfinished``.

A part is a file ``part-00000.parquet`` and, in the folder ``_job``, a note of its figures, written after it: without
the note it is no part. ``_job/job.json`` says of which job they are, so that another does not go on with them. A lock
on the folder, which the system drops with the process, turns other runs away. When all parts are there the target gets
its name by one rename.
"""

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Self

from vecstore.disk import sync_folder
from vecstore.errors import TargetBusyError, TargetError
from vecstore.staging import is_taken, lock_folder, swap_folders, unlock_folder

__all__ = ["Parts", "unfinished"]

_NOTES, _JOB, _REPLACED = "_job", "job.json", "replaced"
_NEW = ".new"


def unfinished(target: Path) -> Path:
    """Return the folder of a target's parts."""
    return target.with_name(f"{target.name}.unfinished")


class Parts:
    """Use as a context manager: write parts that are not `finished`, `add` them, `publish` the target.

    On leaving the parts stay for the next run, unless there are none.

    Parameters
    ----------
    target : Path
        What is made of the parts.
    job : dict of str, JSON's values
        All that the parts depend on.
    suffix : str
        Of a part's file.
    is_folder : bool
        Whether the target is a folder, of the parts themselves.
    overwrite : bool
        Whether a target that is there may be replaced: a file, or a folder of parts.
    restart : bool
        Whether the parts of another job are removed, and those of this.

    Attributes
    ----------
    folder : Path
    finished : dict of int, Counter
        The figures of each part that is there.

    Raises
    ------
    TargetBusyError
        On entering: another process is at work on the target.
    TargetError
        On entering: the target exists, cannot be written, or there are parts of another job.
    """

    def __init__(
        self, target: Path, job: dict[str, Any], suffix: str, *, is_folder: bool, overwrite: bool, restart: bool
    ) -> None:
        self.target = target
        self._is_folder = is_folder
        self.folder = unfinished(target)
        self.finished: dict[int, Counter[str]] = {}
        self._job, self._suffix, self._overwrite, self._restart = job, suffix, overwrite, restart
        self._notes = self.folder / _NOTES
        self._lock: int | None = None
        self._is_published = False

    def __enter__(self) -> Self:
        self._check_target()
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise TargetError(f"{self.folder}: cannot be made: {error.strerror}") from None
        try:
            self._lock = lock_folder(self.folder)
        except (BlockingIOError, FileNotFoundError):  # locked, or just removed
            raise TargetBusyError(f"{self.target}: another process is at work on it") from None
        try:
            self._take_up()
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self.finished and not self._is_published:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._unlock()

    def path(self, number: int) -> Path:
        """Return where a part is."""
        return self.folder / f"part-{number:05}{self._suffix}"

    def new_path(self, number: int) -> Path:
        """Return where a part is to be written."""
        return self.path(number).with_name(f"{self.path(number).name}.{os.getpid()}{_NEW}")

    def add(self, number: int, figures: Counter[str]) -> None:
        """Take a part that was written to its `new_path`."""
        self.new_path(number).replace(self.path(number))
        sync_folder(self.folder)
        self.finished[number] = figures
        _write_note(self._note(number), figures)

    def paths(self) -> list[Path]:
        """Return all parts in order."""
        return [self.path(number) for number in sorted(self.finished)]

    def publish(self, made: Path) -> None:
        """Give what was made of the parts, a file in the folder or the folder itself, the target's name."""
        self._check_target()
        if made != self.folder:
            sync_folder(self.folder)
            made.replace(self.target)
        elif self.target.exists():  # an older one
            (self.target / _NOTES).mkdir(exist_ok=True)
            (self.target / _NOTES / _REPLACED).touch()  # so that it is known for debris under its new name
            if not swap_folders(self.folder, self.target):
                shutil.rmtree(self.target)
                self.folder.rename(self.target)
        else:
            self.folder.rename(self.target)
        sync_folder(self.target.parent)
        shutil.rmtree(self.target / _NOTES if made == self.folder else self.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._is_published = True

    def _note(self, number: int) -> Path:
        return self._notes / f"part-{number:05}.json"

    def _check_target(self) -> None:
        target = self.target
        if not is_taken(target, overwrite=self._overwrite):
            return
        if target.is_symlink() or target.is_dir() != self._is_folder:
            raise TargetError(f"{target}: exists and is something else; it will not be replaced")
        if target.is_dir():
            ours = re.compile(rf"part-\d{{5,}}{re.escape(self._suffix)}|{_NOTES}")
            others = [name for name in os.listdir(target) if not ours.fullmatch(name)]
            if others:
                raise TargetError(f"{target}: holds more than parts ({min(others)!r}); it will not be replaced")

    def _take_up(self) -> None:
        """Find the parts of an earlier run of this job, and remove what it left besides."""
        before = self._read_job()
        if before is None or self._restart:
            for path in self.folder.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            self._notes.mkdir()
            _write_note(self._notes / _JOB, self._job)
            sync_folder(self.folder)
            return
        for name in sorted({*before, *self._job}):
            if before.get(name) != self._job.get(name):
                raise TargetError(
                    f"{self.folder}: holds parts of another job, with {_difference(name, before, self._job)}; "
                    "go on with it as it was, or begin anew: --restart (restart=True)"
                )
        for path in self.folder.iterdir():
            number = path.name.removeprefix("part-").removesuffix(self._suffix)
            if number.isdigit() and self._note(int(number)).exists():
                self.finished[int(number)] = Counter(json.loads(self._note(int(number)).read_bytes()))
            elif path.name != _NOTES:
                path.unlink()

    def _read_job(self) -> dict[str, Any] | None:
        """Return the job of the parts that are there, None if there is none; refuse a folder that is no job's."""
        if not os.listdir(self.folder) or (self._notes / _REPLACED).exists():
            return None
        try:
            job = json.loads((self._notes / _JOB).read_bytes())
        except FileNotFoundError:
            if os.listdir(self.folder) == [_NOTES]:
                return None
            raise TargetError(f"{self.folder}: exists and is not an unfinished job; move it away") from None
        except ValueError:
            job = {}
        return job if isinstance(job, dict) else {}

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            unlock_folder(lock)


def _difference(name: str, before: dict[str, Any], now: dict[str, Any]) -> str:
    if name == "files":
        return "other files, or as they were before they changed"
    return f"{name} {before.get(name)!r} instead of {now.get(name)!r}"


def _write_note(path: Path, content: dict[str, Any] | Counter[str]) -> None:
    partial = path.with_name(path.name + _NEW)
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, default=str)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
