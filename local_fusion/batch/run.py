"""Runs a batch: prompts of a file through a fusion, to a folder, resumable.

Invariant: every row ends as exactly one line in output.jsonl or errors.jsonl, whatever dies and however often; the
same command goes on where the last one stopped. There is no barrier between rows: a fixed number of workers each take
the next row when their last one has ended. This file knows rows, journal and `fuse`; no engine by kind.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from local_fusion.batch.check import check_retry, check_rows, terms_of
from local_fusion.batch.folder import RunFolder
from local_fusion.batch.journal import Journal, journal_retry
from local_fusion.batch.meter import Meter
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.output import bad_line, failed_line, output_line
from local_fusion.batch.past import ERRORS, OUTPUT, Past, read_past
from local_fusion.batch.progress import Progress, Status, Summary
from local_fusion.batch.recall import RowEngines
from local_fusion.batch.rows import BadRow, Row, read_rows
from local_fusion.batch.tally import failure_tally, summary_of, tally_of
from local_fusion.engine import Engines
from local_fusion.errors import FusionError, RunError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.types import Fused, Request

_log = logging.getLogger(__name__)
_BREATH_ROWS = 64  # rows that end without waiting for anything, until the loop gets a turn


class Fuse(Protocol):
    """The one thing a run asks of the fusion rooms."""

    def __call__(self, request: Request, recipe: Recipe, engines: Engines) -> Awaitable[Fused]: ...


async def run_batch(
    source: Path,
    folder: Path,
    engines: Engines,
    recipe: Recipe,
    options: BatchOptions,
    progress: Callable[[Progress], None] | None = None,
    fuse_with: Fuse = fuse,
) -> Summary:
    """Run, or go on with, the batch of `source` into `folder`. `progress` hears where it stands as it goes.

    Raises InputError where the input or the folder is wrong (nothing was changed) and RunError where writing fails
    (the run can be resumed by the same call).
    """
    if options.dry_run:
        return await asyncio.to_thread(check_rows, source, recipe, options)
    place = await asyncio.to_thread(RunFolder, source, folder, recipe, options)
    try:
        past = await asyncio.to_thread(_read_past, source, folder, options)
        run = _Run(source, place, past, engines, recipe, options, fuse_with)
        return await run.to_the_end(progress)
    finally:
        place.release()


def _read_past(source: Path, folder: Path, options: BatchOptions) -> Past:
    past = read_past(folder)
    check_retry(source, past, options)
    if options.retry_failed and past.tally.failed:
        journal_retry(folder, past)
        past = read_past(folder)
    return past


class _Run:
    """One session of a run."""

    def __init__(
        self,
        source: Path,
        place: RunFolder,
        past: Past,
        engines: Engines,
        recipe: Recipe,
        options: BatchOptions,
        fuse_with: Fuse,
    ) -> None:
        self._place, self._engines, self._recipe, self._options, self._fuse = place, engines, recipe, options, fuse_with
        self._tally = past.tally
        self._sessions = past.sessions + 1
        rows = place.rows if options.limit is None else min(place.rows, options.limit)
        self._meter = Meter(max(rows, past.tally.done), past.tally)
        # An input that grows meanwhile is not read on: its new rows are of no known run.
        left = read_rows(source, terms_of(source, recipe, options), past.done, past.ids, rows)
        first = next(left, None)
        self._rows = chain(() if first is None else (first,), left)
        if first is not None:
            place.note_versions()
        place.write("running", self._tally, 0.0, self._sessions)
        self._journal = Journal(place.path, past, options.journal_sync_s)
        self._stop = options.stop or asyncio.Event()
        self._in_flight = 0
        self._unfinished = 0
        self._exhausted = False

    async def to_the_end(self, progress: Callable[[Progress], None] | None) -> Summary:
        """Work until the rows end or the run is stopped; the folder is whole in either case."""
        status: Status | str = "failed"
        try:
            await self._work(progress)
            status = "finished" if self._is_all_done() else "interrupted"
        except asyncio.CancelledError:
            status = "interrupted"
            raise
        finally:
            try:
                self._journal.close()
            finally:
                self._place.write(status, self._tally, self._meter.seconds, self._sessions)
        if progress is not None:
            progress(self._meter.look(0))
        meter = self._meter
        done: Status = "finished" if status == "finished" else "interrupted"
        return summary_of(done, self._tally, meter.total, meter.resumed, meter.seconds, self._place.path)

    def _is_all_done(self) -> bool:
        """Whether every row has ended, be it while a stop was heard; takes a row that is left from the others."""
        return not self._unfinished and (self._exhausted or next(self._rows, None) is None)

    async def _work(self, progress: Callable[[Progress], None] | None) -> None:
        """Workers until there is nothing left, a stop with its grace time is over, or a write has failed."""
        workers = [asyncio.create_task(self._worker()) for _ in range(self._options.in_flight)]
        helpers = [asyncio.create_task(coroutine) for coroutine in self._helpers(progress)]
        syncing, stopped = helpers[0], helpers[1]
        working = asyncio.gather(*workers)
        try:
            await asyncio.wait({working, syncing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done() and not working.done():
                await asyncio.wait(
                    {working, syncing}, timeout=self._options.grace_s, return_when=asyncio.FIRST_COMPLETED
                )
            if syncing.done():
                syncing.result()
            if working.done():
                working.result()
        finally:
            working.cancel()
            for task in (*workers, *helpers):
                task.cancel()
            await asyncio.gather(*workers, *helpers, working, return_exceptions=True)

    def _helpers(self, progress: Callable[[Progress], None] | None) -> list[Coroutine[Any, Any, Any]]:
        helpers: list[Coroutine[Any, Any, Any]] = [self._journal.keep_synced(), self._stop.wait()]
        if progress is not None:
            helpers.append(self._report(progress))
        return helpers

    async def _report(self, progress: Callable[[Progress], None]) -> None:
        while True:
            progress(self._meter.look(self._in_flight))
            await asyncio.sleep(self._options.progress_every_s)

    async def _worker(self) -> None:
        """Take the next row until there is none or the run is stopping."""
        ended = 0
        while not self._stop.is_set():
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                return
            if isinstance(row, BadRow):
                self._end_bad(row)
            else:
                await self._one(row)
            ended += 1
            if ended % _BREATH_ROWS == 0:
                await asyncio.sleep(0)

    async def _one(self, row: Row) -> None:
        engines = RowEngines(self._engines, self._journal, row.line, self._stop.is_set)
        self._in_flight += 1
        self._unfinished += 1
        try:
            fused = await self._fuse(row.request, self._recipe, engines)
        except RunError:
            raise
        except Exception as problem:
            if not engines.abandoned:
                self._end_failed(row, problem)
                self._unfinished -= 1
        else:
            if not engines.abandoned:
                self._end(row.line, row.id, OUTPUT, output_line(row, fused), tally_of(fused))
                self._unfinished -= 1
        finally:
            self._in_flight -= 1

    def _end_failed(self, row: Row, problem: Exception) -> None:
        failures = problem.failures if isinstance(problem, FusionError) else ()
        record, code = failed_line(row, problem)
        if code == "unexpected_error":
            # The place only: the message may hold a prompt.
            place = traceback.extract_tb(problem.__traceback__)[-1]
            _log.error("line %d: %s at %s:%s", row.line, type(problem).__name__, place.filename, place.lineno)
        models = tuple(failure.model for failure in failures)
        reasons = tuple(failure.reason for failure in failures)
        self._end(row.line, row.id, ERRORS, record, failure_tally(code, models, reasons))

    def _end_bad(self, row: BadRow) -> None:
        row_id = row.id if row.owns_id else None
        self._end(row.line, row_id, ERRORS, bad_line(row), failure_tally(row.code))

    def _end(self, line: int, row_id: str | None, name: str, record: bytes, tally: dict[str, Any]) -> None:
        self._journal.end(line, row_id, name, record, tally)
        self._tally.add(tally)
