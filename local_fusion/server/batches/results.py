"""The files a batch ends with: what its run vouches for, and a line for every row that was never run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import orjson

from local_fusion.batch.lines import read_lines
from local_fusion.batch.past import ERRORS, OUTPUT, Past, read_past
from local_fusion.openai_api.reply import short_id
from local_fusion.server.batches.record import Counts, Ending
from local_fusion.server.stored.disk import private

RUN, INPUT = "run", "input.jsonl"
_CHUNK_BYTES = 1 << 20
_NEVER_RUN = {
    "expired": ("batch_expired", "the completion window was over before this request was run"),
    "cancelled": ("batch_cancelled", "the batch was cancelled before this request was run"),
    "failed": ("batch_failed", "the batch failed before this request was run"),
}


@dataclass(frozen=True, slots=True)
class Results:
    """Files made in the batch's folder, None where they would be empty; and the final counts."""

    output: Path | None
    errors: Path | None
    counts: Counts


def collect(folder: Path, ending: Ending) -> Results:
    """Make both files anew out of the batch's folder. Raises OSError, or InputError where the run is damaged."""
    past = read_past(folder / RUN)
    output, errors = folder / "final-output.jsonl", folder / "final-errors.jsonl"
    with open(output, "wb", opener=private) as out:
        _copy(folder / RUN / OUTPUT, past.bytes_of[OUTPUT], out)
    never = 0
    with open(errors, "wb", opener=private) as out:
        _copy(folder / RUN / ERRORS, past.bytes_of[ERRORS], out)
        if ending in _NEVER_RUN:
            for line in _never_run(folder / INPUT, past, *_NEVER_RUN[ending]):
                out.write(line)
                never += 1
    tally = past.tally
    counts = Counts(
        tally.done + never,
        tally.succeeded,
        tally.failed + never,
        tally.tokens.prompt,
        tally.tokens.cached,
        tally.tokens.completion,
    )
    return Results(_unless_empty(output), _unless_empty(errors), counts)


def clear(folder: Path) -> None:
    """Remove what only a running batch needs; its record stays."""
    shutil.rmtree(folder / RUN, ignore_errors=True)
    for name in (INPUT, "final-output.jsonl", "final-errors.jsonl"):
        (folder / name).unlink(missing_ok=True)


def _copy(source: Path, size: int, out: BinaryIO) -> None:
    """The first `size` bytes, which are those that the journal vouches for."""
    if not size:
        return
    with open(source, "rb") as handle:
        while size > 0 and (chunk := handle.read(min(size, _CHUNK_BYTES))):
            out.write(chunk)
            size -= len(chunk)


def _never_run(source: Path, past: Past, code: str, message: str) -> Iterator[bytes]:
    for number, raw in read_lines(source):
        if number in past.done:
            continue
        row_id = orjson.loads(raw or b"{}").get("custom_id", f"line-{number}")
        error = {"code": code, "message": message, "param": None, "line": number}
        name = f"batch_req_{short_id(row_id, str(number), 'row')}"
        yield orjson.dumps({"id": name, "custom_id": row_id, "response": None, "error": error}) + b"\n"


def _unless_empty(path: Path) -> Path | None:
    return path if path.stat().st_size else None
