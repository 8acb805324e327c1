"""What earlier sessions left in a run folder, read from its journal in one pass and little memory.

Of ended rows only a bit, a hash of the id and the sums are kept; of rows under way the places of their calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.ids import IdSet, LineSet
from local_fusion.batch.tally import Tally
from local_fusion.errors import InputError

JOURNAL, OUTPUT, ERRORS = "journal.jsonl", "output.jsonl", "errors.jsonl"
_CALL, _END, _RETRY, _SESSION = b'{"call":', b'{"end":', b'{"retry":', b'{"session":'


@dataclass
class Past:
    """`calls`: places in the journal of the finished calls of each unfinished row. Sizes in bytes: what of each file
    is whole and vouched for by the journal; what lies beyond is cut off."""

    done: LineSet = field(default_factory=LineSet)
    ids: IdSet = field(default_factory=IdSet)
    calls: dict[int, list[int]] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    sessions: int = 0
    journal_bytes: int = 0
    bytes_of: dict[str, int] = field(default_factory=lambda: {OUTPUT: 0, ERRORS: 0})
    retry_at: int = 0
    last_failed: int = 0
    """The last line of the input that ended as an error."""


def read_past(folder: Path) -> Past:
    """Read the journal of `folder`; an empty `Past` where there is none. Raises InputError where it is damaged."""
    if not (folder / JOURNAL).exists():
        for name in (OUTPUT, ERRORS):
            if (folder / name).exists() and (folder / name).stat().st_size:
                raise InputError(
                    f"{folder} holds {name} but its {JOURNAL} is gone; put it back, or name another output folder"
                )
        return Past()
    past = _scan(folder / JOURNAL, 0)
    if past.retry_at:
        past = _scan(folder / JOURNAL, past.retry_at)
    for name, size in past.bytes_of.items():
        path = folder / name
        found = path.stat().st_size if path.exists() else 0
        if found < size:
            raise InputError(
                f"{path} has {found} bytes, but {size} were written by this run; put the file back, "
                "or name another output folder"
            )
    return past


def _scan(path: Path, retried_at: int) -> Past:
    """One pass. Rows that ended as errors before the byte `retried_at` count as never run."""
    past = Past()
    calls, offset = past.calls, 0
    with open(path, "rb", buffering=1 << 20) as handle:
        for raw in handle:
            if not raw.endswith(b"\n"):
                break  # torn by the end of the process that wrote it
            if raw.startswith(_CALL):
                calls.setdefault(_call_line(raw, path, offset), []).append(offset)
            elif raw.startswith(_END):
                try:
                    _end(past, orjson.loads(raw), offset < retried_at)
                except (ValueError, KeyError, TypeError):
                    raise damaged(path, offset) from None
            elif raw.startswith(_RETRY):
                past.retry_at = offset
                past.bytes_of[ERRORS] = 0
            elif raw.startswith(_SESSION):
                past.sessions += 1
            else:
                raise damaged(path, offset)
            offset += len(raw)
    past.journal_bytes = offset
    return past


def _end(past: Past, end: dict[str, Any], before_retry: bool) -> None:
    line = end["end"]
    past.calls.pop(line, None)
    if before_retry and end["to"] == ERRORS:
        return
    if end["to"] not in past.bytes_of:
        raise KeyError(end["to"])
    past.bytes_of[end["to"]] = end["at"]
    if end["to"] == ERRORS:
        past.last_failed = max(past.last_failed, line)
    past.done.add(line)
    if end["id"] is not None:
        past.ids.add(end["id"])
    past.tally.add(end)


def _call_line(raw: bytes, path: Path, offset: int) -> int:
    try:
        return int(raw[len(_CALL) : raw.index(b",")])
    except ValueError:
        raise damaged(path, offset) from None


def damaged(path: Path, offset: int) -> InputError:
    """The sentence for a journal that something else has changed."""
    told = f"{path} is damaged at byte {offset}; name another output folder"
    if not _is_retried_after(path, offset):
        told += f", or cut the file there (truncate -s {offset} {path.name}) to run again what was journaled later"
    return InputError(told)


def _is_retried_after(path: Path, offset: int) -> bool:
    """What stands before a retry vouches for errors that are gone: a journal cut there would be wrong."""
    with open(path, "rb") as handle:
        handle.seek(offset)
        return any(_RETRY in raw for raw in handle)
