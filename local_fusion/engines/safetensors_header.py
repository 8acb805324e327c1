"""Reads the header of a safetensors file: 8 bytes of length, JSON, then the tensors.

Source of the format: the safetensors README. Knows nothing of models; imports only the standard library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from local_fusion.errors import ModelFilesError

_MOST_HEADER_BYTES = 100_000_000  # the format's own limit
_LFS = b"version https://git-lfs"


def tensors_of(path: Path) -> frozenset[str]:
    """Names of the tensors of a safetensors file whose header is whole and whose bytes are all there.

    Raises ModelFilesError naming the file and the remedy.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if (start + file.read(len(_LFS) - 8)).startswith(_LFS):
                raise ModelFilesError(f"{path}: this is a Git LFS pointer, not the weights; run `git lfs pull` there")
            length = int.from_bytes(start, "little")
            if size < 8 or length > min(size - 8, _MOST_HEADER_BYTES):
                raise ModelFilesError(f"{path}: the header is cut short or corrupt; copy the file again")
            file.seek(8)
            header = json.loads(file.read(length))
    except OSError as problem:
        raise ModelFilesError(f"{path}: cannot be read ({problem.strerror}); correct its permissions") from None
    except ValueError:
        raise ModelFilesError(f"{path}: the header is not JSON; copy the file again") from None
    if not isinstance(header, dict):
        raise ModelFilesError(f"{path}: the header is not a JSON object; copy the file again")
    header.pop("__metadata__", None)
    end = max((_end(path, entry) for entry in header.values()), default=0)
    if end != size - 8 - length:
        raise ModelFilesError(
            f"{path}: the file has {size} bytes, its header says {end + 8 + length}; copy it again, it was cut short"
        )
    return frozenset(header)


def _end(path: Path, entry: Any) -> int:
    """Last byte of a tensor, after the header."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(offset, int) for offset in offsets)):
        raise ModelFilesError(f"{path}: the header is corrupt; copy the file again")
    begin, end = offsets
    if not 0 <= begin <= end:
        raise ModelFilesError(f"{path}: the header is corrupt; copy the file again")
    return int(end)
