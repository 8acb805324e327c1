"""All batches of the server: made, looked up, cancelled, resumed. What each is doing lies in its folder.

Invariants: a batch's state on the disk is at most one step behind what a client was told, and each step can be taken
again, so that a killed server goes on where it stopped; a row that has ended is never run again (the core's journal).
So many batches run at once; others wait. Their calls yield to interactive ones by priority, inside the engines.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_fusion.errors import RequestError
from local_fusion.openai_api.batch_objects import BatchAsk
from local_fusion.openai_api.file_objects import Listing
from local_fusion.server.batches.record import BatchRecord, Counts, read_record
from local_fusion.server.batches.results import INPUT
from local_fusion.server.batches.stop import Stop
from local_fusion.server.batches.work import BatchWork, Step
from local_fusion.server.door.callers import Caller, owns
from local_fusion.server.ids import new_id
from local_fusion.server.problems import Overloaded
from local_fusion.server.service import Service
from local_fusion.server.stored.disk import remove_folder, stored, sync_folder
from local_fusion.server.stored.paging import cut_page

MAX_OPEN = 100
_COMING, _GONE = ".coming-", ".gone-"


class Batches:
    """The batches under `folder`. `start` resumes them; `close` leaves them as they are, to be resumed."""

    def __init__(self, service: Service, folder: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._service = service
        self._folder = folder
        self._clock_ns = clock_ns
        self._slots = asyncio.Semaphore(service.settings.batches_at_once)
        self._records: dict[str, BatchRecord] = {}
        self._coming: list[str] = []  # owners of batches that are being made
        self._live: dict[str, Counts] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._stops: dict[str, Stop] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._latest_ns = 0
        for place in sorted(folder.iterdir()):
            if place.name.startswith((_COMING, _GONE)):
                shutil.rmtree(place, ignore_errors=True)
            elif (record := read_record(place)) is not None:
                self._records[record.id] = record
                self._latest_ns = max(self._latest_ns, record.made_ns)

    def start(self) -> None:
        """Go on with everything that has not ended. Within a running loop."""
        order = sorted(self._records.values(), key=lambda one: (one.status != "in_progress", one.made_ns))
        for record in order:
            if not record.ended:
                self._begin(record)

    def stop(self) -> None:
        """Begin no more rows; those under way have a few seconds."""
        for stop in self._stops.values():
            stop.set("closing")

    async def close(self) -> None:
        """Stop all work, resumably, and wait for its end."""
        self.stop()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def create(self, caller: Caller, ask: BatchAsk) -> dict[str, Any]:
        """A new batch, at work from now on. Raises RequestError: the input is no file of this key for a batch;
        Overloaded: the key has too many, or no tokens left."""
        self._service.admission.check_tokens(caller)
        files = self._service.storage.files
        try:
            file = files.get(caller.owner, ask.input_file_id)
        except RequestError as problem:
            raise RequestError(problem.message, "file_not_found", "input_file_id") from None
        if file.purpose != "batch":
            raise RequestError("the input file was not uploaded for purpose batch", "invalid_field", "input_file_id")
        if self._open_of(caller.owner) >= MAX_OPEN:
            raise Overloaded(f"{MAX_OPEN} batches of this key have not ended; wait for one or cancel one", 60)
        self._latest_ns = made_ns = max(self._clock_ns(), self._latest_ns + 1)
        record = BatchRecord(
            id=new_id("batch_"),
            owner=caller.owner,
            input_file_id=file.id,
            endpoint=ask.endpoint,
            window=ask.window,
            made_ns=made_ns,
            expires_at=made_ns // 1_000_000_000 + ask.window_s,
            metadata=ask.metadata,
            output_expires_after_s=ask.output_expires_after_s,
        )
        self._coming.append(caller.owner)
        try:
            with stored():
                await asyncio.to_thread(self._make_folder, record, files.content(file))
            self._records[record.id] = record
        finally:
            self._coming.remove(caller.owner)
        self._begin(record)
        return record.body()

    def get(self, owner: str, batch_id: str) -> dict[str, Any]:
        """The batch object as it stands now. Raises RequestError (not_found)."""
        return self._body(self._mine(owner, batch_id))

    def page(self, owner: str, listing: Listing) -> tuple[list[dict[str, Any]], bool]:
        """One page of this key's batches. Raises RequestError where `after` is none."""
        mine = [record for record in self._records.values() if owns(owner, record.owner)]
        page, more = cut_page(mine, listing, lambda record: (record.made_ns, record.id))
        return [self._body(record) for record in page], more

    async def cancel(self, owner: str, batch_id: str) -> dict[str, Any]:
        """No new row is begun; what is under way has some seconds; finished rows are kept. Raises RequestError."""
        record = self._mine(owner, batch_id)
        if record.status not in ("validating", "in_progress", "cancelling"):
            raise RequestError(f"the batch is {record.status}; only one at work can be cancelled", "invalid_state")
        record = await self._change(batch_id, self._cancelling)
        if record.status == "cancelling" and batch_id in self._stops:
            self._stops[batch_id].set("cancelled")
        return self._body(record)

    def sweep(self) -> None:
        """Forget batches that ended longer ago than files of batches are kept."""
        oldest = self.now_s() - self._service.settings.file_days * 86_400
        for record in list(self._records.values()):
            if record.ended and max(record.times.values(), default=0) < oldest:
                del self._records[record.id]
                remove_folder(self.folder(record.id), self._folder / f"{_GONE}{record.id}")

    def now_s(self) -> int:
        """Unix seconds."""
        return self._clock_ns() // 1_000_000_000

    def folder(self, batch_id: str) -> Path:
        """Where a batch lies."""
        return self._folder / batch_id

    def _begin(self, record: BatchRecord) -> None:
        stop = self._stops[record.id] = Stop()
        left_s = max(0.0, record.expires_at - self.now_s())
        expiry = asyncio.get_running_loop().call_later(left_s, stop.set, "expired")
        files = self._service.storage.files
        files.hold(record.input_file_id, record.owner, self._input_bytes(record.id))
        work = BatchWork(
            self._service,
            self.folder(record.id),
            stop,
            self._slots,
            lambda step: self._change(record.id, step),
            lambda counts: self._live.__setitem__(record.id, counts),
            self.now_s,
            lambda: self._records[record.id],
        )

        def ended(task: asyncio.Task[None]) -> None:
            expiry.cancel()
            files.release(record.input_file_id)
            for known in (self._stops, self._tasks, self._live, self._locks):
                known.pop(record.id, None)

        task = self._tasks[record.id] = asyncio.create_task(work.to_the_end())
        task.add_done_callback(ended)

    def _input_bytes(self, batch_id: str) -> int:
        try:
            return (self.folder(batch_id) / INPUT).stat().st_size
        except OSError:
            return 0

    async def _change(self, batch_id: str, step: Step) -> BatchRecord:
        """The record's next step: on the disk first, then for everybody to see. Raises StorageProblem."""
        async with self._locks.setdefault(batch_id, asyncio.Lock()):
            record = step(self._records[batch_id])
            with stored():
                await asyncio.to_thread(record.save, self.folder(batch_id))
            self._records[batch_id] = record
        return record

    def _cancelling(self, record: BatchRecord) -> BatchRecord:
        if record.status not in ("validating", "in_progress"):
            return record
        return record.now("cancelling", self.now_s(), ending="cancelled")

    def _make_folder(self, record: BatchRecord, source: Path) -> None:
        """With the input, which the client may delete from its files at any time."""
        coming = self._folder / new_id(_COMING)
        coming.mkdir(mode=0o700)
        try:
            _take(source, coming / INPUT)
            record.save(coming)
            coming.rename(self.folder(record.id))
            sync_folder(self._folder)
        except OSError:  # what stayed would keep the input's bytes when its file is deleted, or be run unasked
            for place in (coming, self.folder(record.id)):
                shutil.rmtree(place, ignore_errors=True)
            raise

    def _open_of(self, owner: str) -> int:
        """Batches of this key that have not ended, those counted that are being made."""
        kept = [record.owner for record in self._records.values() if not record.ended]
        return sum(owns(owner, name) for name in (*self._coming, *kept))

    def _mine(self, owner: str, batch_id: str) -> BatchRecord:
        record = self._records.get(batch_id)
        if record is None or not owns(owner, record.owner):
            raise RequestError("no batch of that id; GET /v1/batches lists yours", "not_found")
        return record

    def _body(self, record: BatchRecord) -> dict[str, Any]:
        return record.body(None if record.ended else self._live.get(record.id))


def _take(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, place)
        place.chmod(0o600)
