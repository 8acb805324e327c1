"""Every call of an evaluation, kept on disk by its id: what was answered once is never asked again, in no arm.

Invariant: a finished call is appended before anyone gets its result, and a later arm, or the same evaluation started
again after a kill, gets that same result. A call's id follows from item, stage, model, sample and a digest of all that
decides it, so another judge, mode or wording finds the panel's answers here and only its own calls missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.files import AppendFile, FolderLock, write_atomically
from local_fusion.batch.records import Outcome, call_record, read_call
from local_fusion.errors import CallError, InputError

CALLS, ABOUT = "calls.jsonl", "eval.json"
_FORMAT = 1


class CallStore:
    """The calls of one evaluation folder, which this process has locked. `fresh`: calls run since it was opened."""

    def __init__(
        self, folder: Path, models: Mapping[str, str], retry_failed: bool = False, set_name: str | None = None
    ) -> None:
        """Open or make `folder`. `models`: digest of what decides each model's answers. `retry_failed`: calls that
        failed are forgotten. `set_name`: the only set that the folder may be of, in whatever version; None: not said.
        Raises InputError where a model or the set is not what it was, or RunError where writing fails."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise InputError(f"cannot make the folder {folder}: {problem.strerror}; name another one") from None
        self.fresh = 0
        self._lock = FolderLock(folder)
        try:
            _check_about(folder, models, set_name)
            self._places, size = _scan(folder / CALLS, retry_failed)
            self._file = AppendFile(folder / CALLS, size)
            self._reader = os.open(folder / CALLS, os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self._lock.release()
            raise

    def calls_of(self, line: int) -> dict[str, list[Outcome]]:
        """Finished calls of the item with this number (see `number_of`), by call id. Raises InputError."""
        known: dict[str, list[Outcome]] = {}
        for place in self._places.get(line, ()):
            call_id, outcome = self._read(place)
            known.setdefault(call_id, []).append(outcome)
        return known

    def call(self, line: int, call_id: str, outcome: Outcome) -> None:
        """Keep a finished call. Raises RunError."""
        place = self._file.size
        self._file.append(call_record(line, call_id, outcome))
        self._places.setdefault(line, []).append(place)
        self.fresh += 1

    @property
    def empty(self) -> bool:
        """No call is known."""
        return not self._places

    def sync(self) -> None:
        """Wait until everything is on the disk. Raises RunError."""
        self._file.sync()

    def close(self) -> None:
        """Sync, and give the folder free."""
        try:
            self._file.sync()
        finally:
            os.close(self._reader)
            self._file.close()
            self._lock.release()

    def _read(self, place: int) -> tuple[str, Outcome]:
        pieces, start = [], place
        while piece := os.pread(self._reader, 1 << 14, start):
            head, newline, _ = piece.partition(b"\n")
            pieces.append(head)
            if newline:
                break
            start += len(piece)
        try:
            return read_call(b"".join(pieces))
        except ValueError:
            raise _damaged(self._file.path, place) from None


def number_of(item_id: str) -> int:
    """The number under which the calls of an item are kept: 53 bits of a hash of its id."""
    return int.from_bytes(blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 11


def _check_about(folder: Path, models: Mapping[str, str], set_name: str | None) -> None:
    """Models that had a part before must be the same, and so must the set; what is new is noted."""
    path = folder / ABOUT
    known: dict[str, Any] = {}
    known_set: Any = None
    if path.exists():
        try:
            about = orjson.loads(path.read_bytes())
            known = dict(about["models"]) if about["format"] == _FORMAT else {}
            known_set = about.get("set")
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            raise InputError(f"{path} is of no evaluation that this version can go on with; name another") from None
    elif (folder / CALLS).exists():
        raise InputError(f"{folder} holds {CALLS} but no {ABOUT}: it is not the folder of an evaluation; name another")
    changed = [name for name, digest in models.items() if known.get(name, digest) != digest]
    if changed:
        raise InputError(
            f"{folder} holds answers of {', '.join(changed)} under other weights or engine settings; name another "
            "folder with --out, or put the settings back"
        )
    if known_set is not None and set_name is not None and known_set != set_name:
        raise InputError(
            f"{folder} holds the set {known_set}, whose report {set_name} would replace; name another folder with --out"
        )
    about = {"format": _FORMAT, "models": {**known, **models}}
    if kept := set_name or known_set:
        about["set"] = kept
    write_atomically(path, orjson.dumps(about, option=orjson.OPT_INDENT_2) + b"\n")


def _scan(path: Path, retry_failed: bool) -> tuple[dict[int, list[int]], int]:
    """Where each item's calls stand, and how much of the file is whole lines."""
    places: dict[int, list[int]] = {}
    if not path.exists():
        return places, 0
    offset = 0
    with open(path, "rb", buffering=1 << 20) as handle:
        for raw in handle:
            if not raw.endswith(b"\n"):
                break  # torn by the end of the process that wrote it
            try:
                line = int(raw[len(b'{"call":') : raw.index(b",")])
                failed = retry_failed and isinstance(read_call(raw)[1], CallError)
            except ValueError:
                raise _damaged(path, offset) from None
            if not failed:
                places.setdefault(line, []).append(offset)
            offset += len(raw)
    return places, offset


def _damaged(path: Path, offset: int) -> InputError:
    return InputError(
        f"{path} is damaged at byte {offset}; name another folder, or cut the file there "
        f"(truncate -s {offset} {path.name}) to run again what was kept later"
    )
