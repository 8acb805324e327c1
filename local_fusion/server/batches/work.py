"""One batch from wherever it stands to its end: validate, run, collect. Each step can be taken again after a kill."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from local_fusion.batch.identity import digest_of, identity_of
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.progress import Progress
from local_fusion.batch.run import run_batch
from local_fusion.errors import InputError, RequestError, RunError
from local_fusion.runtime import identity_of_models, versions
from local_fusion.server.batches.asking import Asker
from local_fusion.server.batches.record import BatchRecord, Counts, Ending, Problem
from local_fusion.server.batches.results import INPUT, RUN, clear, collect
from local_fusion.server.batches.stop import Stop
from local_fusion.server.batches.validate import Limits, validate
from local_fusion.server.documents.place import Reference
from local_fusion.server.door.callers import Caller
from local_fusion.server.ids import new_id
from local_fusion.server.service import Service
from local_fusion.server.stored.disk import StorageProblem, stored
from local_fusion.server.watch.logs import log

GRACE_S, RETRY_S, OWNER_LOOK_S, _LOOK_S = 5.0, 30.0, 0.5, 0.2
_CHANGED = Problem(
    "settings_changed",
    "models or fusions of the server have changed since the batch began; finished rows are kept, make a new batch "
    "of the others",
)
_OUR_FAULT = Problem("internal_error", "the server failed on this batch; finished rows are kept")


Step = Callable[[BatchRecord], BatchRecord]


@dataclass(frozen=True)
class BatchWork:
    """`change` takes the record a step further and puts it on the disk, one step at a time; `current` is the record as
    it stands; `tell` hears counts while rows run; `now_s`: Unix seconds."""

    service: Service
    folder: Path
    stop: Stop
    slots: asyncio.Semaphore
    change: Callable[[Step], Awaitable[BatchRecord]]
    tell: Callable[[Counts], None]
    now_s: Callable[[], int]
    current: Callable[[], BatchRecord]

    async def to_the_end(self) -> None:
        """Work until the batch has ended or the server closes. A full disk is waited out."""
        while True:
            try:
                await self._steps()
                return
            except (RunError, StorageProblem) as problem:
                log.failed("batch_waits", problem, batch=self.folder.name)
            except Exception as problem:
                log.failed("batch_failed", problem, batch=self.folder.name)
                if _OUR_FAULT in self.current().problems:
                    await self._fail()
                    return
                with contextlib.suppress(StorageProblem):
                    await self.change(lambda record: replace(record, problems=(_OUR_FAULT,)))
                continue
            if not await self.stop.pause(RETRY_S):
                return

    async def _steps(self) -> None:
        record = self.current()
        ending: Ending | None = record.ending if record.status in ("cancelling", "finalizing") else None
        if _OUR_FAULT in record.problems:
            ending = "failed"
        if ending is None and not record.models and await self._has_owner():
            ending = await self._validate()
        if ending is None:
            ending = await self._in_turn()
        if ending is not None:
            await self._finish(ending)

    async def _validate(self) -> Ending | None:
        """Read the input through, and the documents it refers to. An ending where it cannot be run."""
        record, settings = self.current(), self.service.settings
        limits = Limits(settings.max_batch_lines, settings.max_file_bytes, settings.max_body_bytes)
        found = await asyncio.to_thread(validate, self.folder / INPUT, record.endpoint, self._known, limits)
        if found.problems:
            await self.change(lambda record: replace(record, problems=found.problems))
            return "failed"
        for file_id in found.file_ids:
            if self.stop.event.is_set():
                return None
            with contextlib.suppress(RequestError):  # the rows that need it will say so
                await self.service.storage.documents.document(record.owner, Reference("messages", file_id))
        counts = replace(record.counts, total=found.rows)
        await self.change(lambda record: replace(record, models=found.models, counts=counts))
        return None

    async def _in_turn(self) -> Ending | None:
        """Run once a slot is free, and again where the owner went and came back. None: the server closes, and the batch
        goes on another time."""
        while await self._has_owner() and await self.stop.acquired(self.slots):
            try:
                while not self.service.ready and not self.stop.event.is_set():
                    await self.stop.pause(_LOOK_S)
                if not self.stop.event.is_set():
                    finished = await self._run()
                    if finished is not None:
                        return finished
            finally:
                self.slots.release()
        reason = self.stop.reason
        return None if reason is None or reason == "closing" else reason

    @property
    def _owner(self) -> Caller | None:
        return self.service.key_of(self.current().owner)

    async def _has_owner(self) -> bool:
        """Wait while the batch's key is removed: it goes on if that comes back, and else expires. False: stopped."""
        if self._owner is None:
            log.warning("batch_without_key", batch=self.folder.name)
        while not self.stop.event.is_set():
            if self._owner is not None:
                return True
            await self.stop.heard(OWNER_LOOK_S)
        return False

    async def _watch(self, halt: asyncio.Event) -> None:
        """Set `halt` when the batch stops or its owner is gone."""
        while self._owner is not None and not await self.stop.heard(OWNER_LOOK_S):
            pass
        halt.set()

    async def _run(self) -> Ending | None:
        """Run what is left of the rows. None: stopped before the last one."""
        owner, halt = self._owner, asyncio.Event()
        if owner is None:
            return None
        watching = asyncio.create_task(self._watch(halt))
        try:
            return await self._rows(owner, halt)
        finally:
            watching.cancel()

    async def _rows(self, owner: Caller, halt: asyncio.Event) -> Ending | None:
        record = await self.change(self._begun)
        asker = Asker(self.service, record, owner, halt)
        runtime = self.service.config.runtime
        options = BatchOptions(
            in_flight=self.service.settings.batch_in_flight,
            grace_s=GRACE_S,
            journal_sync_s=runtime.journal_sync_s,
            stop=halt,
            identity=self._identity(asker, record.models),
            versions=versions(),
            ask=asker.ask,
        )
        recipe = asker.recipe(record.models[0])
        try:
            summary = await run_batch(
                self.folder / INPUT,
                self.folder / RUN,
                self.service.engines,
                recipe,
                options,
                self._progress,
                asker.fuse,
            )
        except InputError as problem:
            log.failed("batch_cannot_go_on", problem, batch=record.id)
            await self.change(lambda record: replace(record, problems=(_CHANGED,)))
            return "failed"
        return "completed" if summary.status == "finished" else None

    async def _finish(self, ending: Ending) -> None:
        """Turn what there is into files, and the batch into what it will stay."""
        record = await self.change(lambda record: self._finalizing(record, ending))
        with stored():
            results = await asyncio.to_thread(collect, self.folder, record.ending if record.models else "completed")
        kept: list[str | None] = []
        for kind, path, file_id in (
            ("output", results.output, record.output_file_id),
            ("error", results.errors, record.error_file_id),
        ):
            kept.append(None if path is None else file_id)
            if path is not None and file_id is not None:
                name = f"{record.id}_{kind}.jsonl"
                await self.service.storage.files.put(
                    file_id, path, record.owner, name, "batch_output", record.output_expires_after_s
                )
        counts = results.counts if record.models else record.counts

        def ended(record: BatchRecord) -> BatchRecord:
            whole = replace(record, output_file_id=kept[0], error_file_id=kept[1], counts=counts)
            return whole.now(record.ending, self.now_s())

        await self.change(ended)
        await asyncio.to_thread(clear, self.folder)

    async def _fail(self) -> None:
        """The last resort: the batch ends without files."""

        def ended(record: BatchRecord) -> BatchRecord:
            return replace(record, output_file_id=None, error_file_id=None).now("failed", self.now_s())

        with contextlib.suppress(StorageProblem):
            await self.change(ended)

    def _begun(self, record: BatchRecord) -> BatchRecord:
        return record.now("in_progress", self.now_s()) if record.status == "validating" else record

    def _finalizing(self, record: BatchRecord, ending: Ending) -> BatchRecord:
        """Ids of the files to come are chosen once, so that after a kill the same files are made."""
        if record.output_file_id is not None:
            return record
        record = replace(record, output_file_id=new_id("file-"), error_file_id=new_id("file-"), ending=ending)
        if record.status == "cancelling":
            return replace(record, ending="cancelled")
        return record.now("finalizing", self.now_s())

    def _known(self, model: str | None) -> str | None:
        """What a name stands for, where this batch's key may use it."""
        owner, catalog = self._owner, self.service.catalog
        recipe = catalog.fusion(model)
        name = recipe.name if recipe is not None else model
        if name is None or (recipe is None and not catalog.is_member(name)):
            return None
        return name if owner is not None and (owner.may_use(name) or owner.may_use(model or name)) else None

    def _identity(self, asker: Asker, models: tuple[str, ...]) -> dict[str, str]:
        """What must not change while the batch is at work: its recipes, and their models."""
        found: dict[str, str] = {}
        for name in models:
            recipe = asker.recipe(name)
            found[name] = digest_of(identity_of(recipe, BatchOptions()))
            found |= identity_of_models(self.service.config, recipe.settings.models)
        return found

    def _progress(self, progress: Progress) -> None:
        tokens = progress.tokens
        done = progress.done - progress.failed
        self.tell(Counts(progress.total, done, progress.failed, tokens.prompt, tokens.cached, tokens.completion))
