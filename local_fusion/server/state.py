"""The server's private folder on disk: files, batches, stored responses, receipts.

Invariant: one server at a time has it, and nobody else on the machine can read it (0700; files within 0600). The lock
is the process's own: it ends with it, however it dies, and processes it has started do not inherit it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from local_fusion.errors import ConfigError

_held: set[tuple[int, int]] = set()  # POSIX locks do not keep their own process out


class StateFolder:
    """An open state folder: this process holds its lock until `release`."""

    def __init__(self, path: Path) -> None:
        """Make it where it is not there. Raises ConfigError: not writable, another user's, or another server's."""
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_private(path)
            self._handle, self._key = _lock(path)
        except FileExistsError:
            raise ConfigError(f"server.state: {path} is a file; name a folder") from None
        except OSError as problem:
            raise ConfigError(
                f"server.state: cannot use {path}: {problem.strerror}; make it writable or name another folder"
            ) from None
        try:
            self.files = self._room("files")
            self.batches = self._room("batches")
            self.receipts = self._room("receipts")
        except BaseException:
            self.release()
            raise
        self.responses = path / "responses.sqlite3"
        self.feedback = path / "feedback.jsonl"

    def release(self) -> None:
        """Give the folder free; idempotent."""
        if self._key in _held:
            _held.discard(self._key)
            os.close(self._handle)

    def _room(self, name: str) -> Path:
        room = self.path / name
        try:
            room.mkdir(mode=0o700, exist_ok=True)
        except OSError as problem:
            raise ConfigError(
                f"server.state: cannot make {room}: {problem.strerror}; make the folder writable or name another"
            ) from None
        return room


def _make_private(path: Path) -> None:
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise ConfigError(f"server.state: {path} belongs to another user; name a folder of your own")
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)


def _lock(folder: Path) -> tuple[int, tuple[int, int]]:
    path = folder / "lock"
    if path.exists() and _key(path.stat()) in _held:
        raise ConfigError(_taken(folder))
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    key = _key(os.fstat(handle))
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        os.close(handle)
        if problem.errno in (errno.EACCES, errno.EAGAIN):
            raise ConfigError(_taken(folder)) from None
        raise
    _held.add(key)
    return handle, key


def _key(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _taken(folder: Path) -> str:
    return f"server.state: another server is using {folder}; stop it, or name another folder"
