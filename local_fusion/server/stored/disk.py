"""Private files, written whole or not at all; a full or broken disk becomes a sentence with the right status."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from local_fusion.server.problems import Refusal

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StorageProblem(Refusal):
    """The server's disk is full or broken; nothing was kept."""

    code = "storage_unavailable"


@contextlib.contextmanager
def stored() -> Iterator[None]:
    """Turn an OSError of the state folder into StorageProblem. No path of the server is told to clients."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _FULL:
            raise StorageProblem(
                "the server has no space left to store this; delete files or ask its operator", 60
            ) from problem
        raise StorageProblem("the server cannot use its state folder; ask its operator to look at it", 60) from problem


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data` (0600), on the disk when this returns. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    with open(fresh, "wb", opener=private) as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(fresh, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in `folder` are on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def private(path: str, flags: int) -> int:
    """An opener for `open`: 0600 from the first moment."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def remove_folder(folder: Path, gone: Path) -> None:
    """Remove `folder` in one step as others see it: renamed to `gone`, then deleted. Missing is fine."""
    try:
        os.rename(folder, gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)
