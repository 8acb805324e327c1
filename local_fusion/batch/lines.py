"""Lines of an input file, one at a time, gzip or plain; and what must be known of the file before a run.

Memory is bounded: a line over the cap is skipped and reported, never held.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase, BufferedReader, FileIO
from pathlib import Path

from local_fusion.errors import InputError

MAX_LINE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Survey:
    """Identity and size of an input: sha256 of the file as it lies on the disk, rows (lines that are not blank)."""

    sha256: str
    rows: int


def read_lines(path: Path, max_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | None]]:
    """Line number from 1 and bytes without line end of each line that is not blank; None for one over `max_bytes`.

    Raises InputError where the file cannot be read or is no whole gzip file.
    """
    try:
        with _open(path) as handle:
            yield from _split(handle, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InputError(f"{path} is not a whole gzip file; compress it again") from None
    except OSError as problem:
        raise _unreadable(path, problem) from None


def count_rows(path: Path) -> int:
    """Lines that are not blank. Reads the whole file. Raises InputError."""
    return sum(1 for _ in read_lines(path))


def digest_file(path: Path) -> str:
    """sha256 of the file, hexadecimal. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as problem:
        raise _unreadable(path, problem) from None


def survey(path: Path) -> Survey:
    """Read the whole file once for its digest and once for its rows. Raises InputError, also when it has no row."""
    rows = count_rows(path)
    if not rows:
        raise no_rows(path)
    return Survey(digest_file(path), rows)


def no_rows(path: Path) -> InputError:
    """The sentence for an input that is empty or blank."""
    return InputError(f"{path} has no rows; write one prompt or JSON object per line")


def _open(path: Path) -> BufferedIOBase:
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is no file but a pipe or device, which cannot be read twice; write it to a file")
    with open(path, "rb") as handle:
        packed = handle.read(2) == _GZIP_MAGIC
    if packed:
        return gzip.GzipFile(path, "rb")
    return BufferedReader(FileIO(path), _CHUNK_BYTES)


def _split(handle: BufferedIOBase, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    while line := handle.readline(max_bytes + 1):
        number += 1
        cut = len(line) > max_bytes and not line.endswith(b"\n")
        if cut:
            while (rest := handle.readline(_CHUNK_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, None
            continue
        line = line.removeprefix(_BOM).strip(b" \t\r\n")  # of any line: files joined by cat have one within
        if line:
            yield number, line


def _unreadable(path: Path, problem: OSError) -> InputError:
    remedy = "name a file of prompts" if path.is_dir() else "name a readable file"
    return InputError(f"cannot read {path}: {problem.strerror}; {remedy}")
