"""Files a run relies on: append-only with a known length, written atomically, or locked. A failure is a RunError."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

from local_fusion.errors import InputError, RunError

LOCK = "lock"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_held: set[tuple[int, int]] = set()  # POSIX locks do not keep their own process out


class AppendFile:
    """A file that only grows at its end; `size` is its length in bytes, all writes included."""

    def __init__(self, path: Path, keep: int | None = None) -> None:
        """Open or make `path`, cut to its first `keep` bytes (None: all). Raises RunError."""
        self.path = path
        self.synced = -1
        """Bytes known to be on the disk; -1 before the first sync, which an earlier process may not have made."""
        self._syncing = threading.Lock()
        self._closed = False
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if keep is not None:
                os.ftruncate(self._handle, keep)
            self.size = os.fstat(self._handle).st_size
        except OSError as problem:
            raise write_error(path, problem) from problem

    def append(self, data: bytes) -> int:
        """Write all of `data` in one piece where the system can; returns the new size. Raises RunError."""
        try:
            written = os.write(self._handle, data)
            while written < len(data):
                written += os.write(self._handle, data[written:])
        except OSError as problem:
            raise write_error(self.path, problem) from problem
        self.size += written
        return self.size

    def sync(self) -> None:
        """Wait until everything appended so far is on the disk; from any thread. Raises RunError."""
        with self._syncing:
            size = self.size
            if size == self.synced or self._closed:
                return
            try:
                os.fsync(self._handle)
            except OSError as problem:
                raise write_error(self.path, problem) from problem
            self.synced = size

    def close(self) -> None:
        """Close the handle, after a sync that is under way; not a sync itself."""
        with self._syncing:
            self._closed = True
            os.close(self._handle)


def write_error(path: Path, problem: OSError) -> RunError:
    """A failed write as a sentence with the remedy."""
    remedy = "free space there" if problem.errno in _FULL else "make the folder writable"
    return RunError(
        f"cannot write {path}: {problem.strerror}; {remedy} and run the same command again: finished rows are kept"
    )


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, whole or not at all, on the disk when this returns. Raises RunError."""
    try:
        replace_whole(path, data)
    except OSError as problem:
        raise write_error(path, problem) from problem
    sync_folder(path.parent)


def replace_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, whole or not at all. Raises OSError, and then leaves nothing of its own behind."""
    fresh = fresh_name(path)
    with open(fresh, "wb", opener=_private) as handle:
        try:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def fresh_name(path: Path) -> Path:
    """Where a file is written before it takes the place of `path`."""
    return path.with_name(path.name + ".new")


def sync_folder(folder: Path) -> None:
    """Wait until the names of new files in `folder` are on the disk. Raises RunError."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as problem:
        raise write_error(folder, problem) from problem


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class FolderLock:
    """One run per folder at a time. The lock is the process's own: it ends with it, however it dies, and processes
    it has started do not inherit it."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. Raises InputError where another run holds it or the folder cannot be written."""
        path = folder / LOCK
        if path.exists() and _key(os.stat(path)) in _held:
            raise InputError(_taken(folder))
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise InputError(
                f"cannot write in {folder}: {problem.strerror}; make it writable or name another output folder"
            ) from None
        self._key = _key(os.fstat(self._handle))
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(self._handle)
            if problem.errno in (errno.EACCES, errno.EAGAIN):
                raise InputError(_taken(folder)) from None
            raise InputError(f"cannot lock {path}: {problem.strerror}; name a folder on another file system") from None
        _held.add(self._key)

    def release(self) -> None:
        """Give the folder free; idempotent."""
        if self._key in _held:
            _held.discard(self._key)
            os.close(self._handle)


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _taken(folder: Path) -> str:
    return f"another run is using {folder}; wait for it to end, or name another output folder"
