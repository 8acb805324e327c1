"""Everything the server keeps on disk, wired in one place: files, documents, batches, receipts; and its sweeping."""

from __future__ import annotations

import asyncio

from local_fusion.config.keys import state_folder
from local_fusion.errors import FusionError
from local_fusion.server.batches.desk import Batches
from local_fusion.server.documents.library import Library
from local_fusion.server.door.callers import Caller
from local_fusion.server.responses.desk import Responses
from local_fusion.server.service import Service
from local_fusion.server.state import StateFolder
from local_fusion.server.stored.file_store import FileLimits, FileStore
from local_fusion.server.stored.receipts import Receipts
from local_fusion.server.watch.logs import log
from local_fusion.types import Fused, Tokens

SWEEP_S = 300.0


class Storage:
    """The open state folder and what lies in it. `start` within a running loop; `close` when the server ends."""

    def __init__(self, service: Service) -> None:
        """Raises ConfigError: the folder cannot be used, or another server uses it."""
        settings = service.settings
        self.folder = StateFolder(state_folder(settings.state))
        limits = FileLimits(
            settings.max_file_bytes,
            settings.max_stored_bytes,
            settings.max_files,
            settings.file_days * 86_400,
            settings.max_key_bytes,
        )
        self.files = FileStore(self.folder.files, limits)
        self.documents = Library(self.files, self.folder.files)
        self.receipts = Receipts(self.folder.receipts, self.folder.feedback, settings.receipt_days)
        self.batches = Batches(service, self.folder.batches)
        self.responses = Responses(service, self.folder.responses)
        self._service = service
        self._sweeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Resume batches and responses; sweep now and every few minutes."""
        self.batches.start()
        self.responses.start()
        self._sweeper = asyncio.create_task(self._sweep())

    def stop(self) -> None:
        """The server is about to end: no batch begins another row."""
        self.batches.stop()

    async def close(self) -> None:
        """Stop batches, resumably, and give the folder free; idempotent."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self.batches.close()
        await self.responses.close()
        self.folder.release()

    def spent(self, caller: Caller, fused: Fused, alone: bool = False) -> None:
        """A row of a batch has cost this: counted, and charged to its key, like an interactive request. `alone`: a
        member answered, and no fusion."""
        if alone:
            for call in fused.receipt.calls:
                self._service.metrics.called(call.model, call.stage, call.tokens, call.timing.total_s)
        else:
            self._service.metrics.fused(fused)
        self._service.admission.spend(caller, fused.tokens)

    def wasted(self, caller: Caller, problem: FusionError) -> None:
        """A row of a batch has failed: the same of what it has cost until then."""
        self._service.metrics.failed(problem)
        for call in problem.calls:
            self._service.metrics.called(call.model, call.stage, call.tokens, call.timing.total_s)
        self._service.admission.spend(caller, sum((call.tokens for call in problem.calls), Tokens()))

    async def _sweep(self) -> None:
        while True:
            for step in (self._sweep_files, self.receipts.sweep, self.responses.store.sweep):
                try:
                    await step()
                except Exception as problem:
                    log.failed("sweep_failed", problem)
            await asyncio.sleep(SWEEP_S)

    async def _sweep_files(self) -> None:
        self.files.sweep()
        self.batches.sweep()
