"""Where spans go, and whether they may: a file, or a collector, which must be on this machine unless told otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from local_fusion.airgap.audit import is_local
from local_fusion.errors import InputError

TRACES_PATH = "/v1/traces"
_ENDPOINT = re.compile(
    r"(?P<origin>https?://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?)(?P<path>/[A-Za-z0-9._~/-]*)?"
)


@dataclass(frozen=True, slots=True)
class Collector:
    """The whole address spans are sent to."""

    endpoint: str


def read_target(target: str, remote: bool = False, taken: Iterable[Path] = ()) -> Path | Collector:
    """A file, or the address of a collector where `target` holds "://".

    Raises InputError for what is neither a file nor a new name, for one of the files `taken`, for what is no plain
    http address, and for one beyond this machine unless `remote`.
    """
    if "://" not in target:
        return _file(target, taken)
    match = _ENDPOINT.fullmatch(target)
    if match is None:
        raise InputError("--trace: this is no plain address; write http://127.0.0.1:4318, or name a file")
    if not remote and not is_local(match["host"]):
        raise InputError(
            f"--trace: {match['host']} is beyond this machine, and nothing leaves it unasked; "
            "name a collector on 127.0.0.1, or allow it with --trace-remote"
        )
    path = match["path"] or "/"
    return Collector(match["origin"] + (TRACES_PATH if path == "/" else path))


def _file(target: str, taken: Iterable[Path]) -> Path:
    file = Path(target)
    if not file.parent.is_dir() or file.is_dir():
        raise InputError(f"--trace: {target} cannot be written; name a file in a folder that exists")
    if file.exists() and not file.is_file():
        raise InputError(f"--trace: {target} is no file but a pipe or device; name a file")
    if any(_is_same(file, other) for other in taken):
        raise InputError(f"--trace: {target} is a file of the run itself; name another file")
    return file


def _is_same(file: Path, other: Path) -> bool:
    """By whatever name or link; also of files that are not there yet."""
    if file.exists() and other.exists():
        return file.samefile(other)
    return file.resolve() == other.resolve()
