"""The journal of a run: what makes every row end as exactly one record and no finished call run twice.

Order is the whole trick. A finished call is appended before anyone gets its result. A row's line is appended to the
output (or the errors) and synced to the disk before the row's end, with the size the file then had, is appended here.
So an end in the journal vouches for the line; lines that no end vouches for are cut off on resume, and their rows are
made again from the journaled calls alone. After a write has failed nothing is written any more.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from local_fusion.batch.files import AppendFile, sync_folder
from local_fusion.batch.past import ERRORS, JOURNAL, OUTPUT, Past, damaged
from local_fusion.batch.records import Outcome, call_record, dump, read_call
from local_fusion.errors import RunError

P = ParamSpec("P")
T = TypeVar("T")


class Journal:
    """Append-only record of calls and rows; owns the output and errors files, whose sizes it vouches for."""

    def __init__(self, folder: Path, past: Past, sync_s: float) -> None:
        """Cut the files to what `past` vouches for and go on from there. `sync_s`: seconds between syncs, 0: always.

        Raises RunError.
        """
        self._file = AppendFile(folder / JOURNAL, past.journal_bytes)
        self._rows = {name: AppendFile(folder / name, past.bytes_of[name]) for name in (OUTPUT, ERRORS)}
        self._reader = os.open(folder / JOURNAL, os.O_RDONLY | os.O_CLOEXEC)
        self._places = past.calls
        self._sync_s = sync_s
        self._ends: list[bytes] = []
        self._failure: RunError | None = None
        sync_folder(folder)
        self._append(self._file, dump({"session": past.sessions + 1}) + b"\n")

    def calls_of(self, line: int) -> dict[str, list[Outcome]]:
        """Finished calls of the row at `line` from earlier sessions, oldest last; they are forgotten here.

        Raises InputError where the journal is damaged.
        """
        known: dict[str, list[Outcome]] = {}
        for place in reversed(self._places.pop(line, ())):
            try:
                call_id, outcome = read_call(self._read_line(place))
            except ValueError:
                raise damaged(self._file.path, place) from None
            known.setdefault(call_id, []).append(outcome)
        return known

    def call(self, line: int, call_id: str, outcome: Outcome) -> None:
        """Append a finished call of the row at `line`. Raises RunError."""
        self._append(self._file, call_record(line, call_id, outcome, time.time()))
        if not self._sync_s:
            self._guarded(self._file.sync)

    def end(self, line: int, row_id: str | None, name: str, record: bytes, tally: Mapping[str, Any]) -> None:
        """Append the row's one line to the file `name`; its end reaches the journal with the next sync.

        `row_id`: None where the id belongs to another row. Raises RunError.
        """
        size = self._append(self._rows[name], record)
        self._ends.append(dump({"end": line, "id": row_id, "to": name, "at": size, **tally}) + b"\n")
        if not self._sync_s:
            self.sync_now()

    async def sync(self) -> None:
        """Rows to the disk, then their ends to the journal, then the journal to the disk; waits in a thread."""
        count = len(self._ends)
        await asyncio.to_thread(self._guarded, self._sync_rows)
        self._append_ends(count)
        await asyncio.to_thread(self._guarded, self._file.sync)

    def sync_now(self) -> None:
        """The same at once, blocking. Raises RunError."""
        self._guarded(self._sync_rows)
        self._append_ends(len(self._ends))
        self._guarded(self._file.sync)

    async def keep_synced(self) -> None:
        """Sync every so many seconds, for ever; one at a time. Raises RunError when a sync fails."""
        while self._sync_s:
            await asyncio.sleep(self._sync_s)
            await self.sync()
        await asyncio.Event().wait()

    def close(self) -> None:
        """A last sync, if nothing has failed, and the files are closed. Raises RunError."""
        try:
            if self._failure is None:
                self.sync_now()
        finally:
            os.close(self._reader)
            for file in (self._file, *self._rows.values()):
                file.close()

    def _append_ends(self, count: int) -> None:
        if count:
            self._append(self._file, b"".join(self._ends[:count]))
            del self._ends[:count]

    def _sync_rows(self) -> None:
        for file in self._rows.values():
            file.sync()

    def _append(self, file: AppendFile, data: bytes) -> int:
        return self._guarded(file.append, data)

    def _guarded(self, action: Callable[P, T], *arguments: P.args, **names: P.kwargs) -> T:
        if self._failure is not None:
            raise RunError(self._failure.message)
        try:
            return action(*arguments, **names)
        except RunError as problem:
            self._failure = problem
            raise

    def _read_line(self, place: int) -> bytes:
        pieces: list[bytes] = []
        while piece := os.pread(self._reader, 1 << 14, place):
            head, newline, _ = piece.partition(b"\n")
            pieces.append(head)
            if newline:
                break
            place += len(piece)
        return b"".join(pieces)


def journal_retry(folder: Path, past: Past) -> None:
    """Note that rows which ended as errors are to be run again; read the past anew afterwards. Raises RunError."""
    file = AppendFile(folder / JOURNAL, past.journal_bytes)
    try:
        file.append(dump({"retry": past.tally.failed}) + b"\n")
        file.sync()
    finally:
        file.close()
