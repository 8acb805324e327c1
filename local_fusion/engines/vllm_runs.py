"""Calls under way on one `AsyncLLM`: submitted, limited in time, measured, aborted.

Invariant: a call that ends for any reason (done, cancelled, aborted, closed, timed out) is gone from the engine when
its owner hears of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from time import perf_counter
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from local_fusion.engines import vllm_compat
from local_fusion.engines.meter import ShareMeter
from local_fusion.engines.vllm_calls import Prepared
from local_fusion.errors import CallAborted, CallError, CallTimeout, EngineDied
from local_fusion.types import Call, LabelCall, TextCall, Timing


class Run:
    """A call under way. `final`: vLLM's last output; `share_s`: the call's share of the engine's seconds, at its end;
    `prompt_logprobs`: as vLLM gives them, with the first output that has some."""

    __slots__ = ("aborted", "begun", "call", "final", "prompt_logprobs", "share_s")

    def __init__(self, call: Call | LabelCall | TextCall) -> None:
        self.call = call
        self.begun = perf_counter()
        self.aborted = False
        self.final: Any = None
        self.prompt_logprobs: Any = None
        self.share_s = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left of the call's time; None where it is unlimited."""
        limit = self.call.timeout_s
        return None if limit is None else max(0.0, limit - (perf_counter() - self.begun))


class Runs:
    """All calls of one engine; `gpus` it holds."""

    def __init__(self, name: str, engine: AsyncLLM, gpus: float) -> None:
        self.died = False
        self._name = name
        self._engine = engine
        self._gpus = gpus
        self._meter = ShareMeter()
        self._live: dict[str, list[Run]] = {}

    @property
    def watching(self) -> int:
        """Calls that have an owner waiting."""
        return sum(map(len, self._live.values()))

    @property
    def running(self) -> int:
        """Calls under way, as vLLM counts them."""
        return int(self._engine.output_processor.get_num_unfinished_requests())

    @property
    def dead(self) -> bool:
        """The engine's processes are gone."""
        return self.died or bool(self._engine.errored)

    @contextlib.contextmanager
    def watched(self, call: Call | LabelCall | TextCall) -> Iterator[Run]:
        """Register a call for `abort`; turn vLLM's errors into ours."""
        run = Run(call)
        others = self._live.setdefault(call.id, [])
        others.append(run)
        try:
            yield run
        except EngineDeadError as problem:
            self.died = True
            raise EngineDied(f"{self._name}: the engine died under the call") from problem
        except EngineGenerateError as problem:
            kind = type(problem.__cause__ or problem).__name__
            raise CallError(f"{self._name}: the engine failed on this call ({kind})") from problem
        except vllm_compat.CLIENT_ERRORS as problem:
            told = vllm_compat.refusal(problem)
            raise CallError(f"{self._name}: vLLM refuses the call ({told})", "bad_request") from problem
        finally:
            others.remove(run)
            if not others:
                self._live.pop(call.id, None)

    @contextlib.asynccontextmanager
    async def limited(self, run: Run) -> AsyncIterator[None]:
        """Raise CallTimeout when the call's time is up; leaving vLLM's generator aborts the request."""
        try:
            async with asyncio.timeout(run.left_s) as scope:
                yield
        except TimeoutError as problem:
            if scope.expired():
                raise CallTimeout(f"{self._name}: the call's time was up") from None
            raise CallError(f"{self._name}: the chat template took too long", "bad_request") from problem

    async def outputs(self, run: Run, prepared: Prepared) -> AsyncGenerator[Any, None]:
        """vLLM's outputs as they come. Raises CallAborted, CallError, CallTimeout."""
        if run.aborted:  # while it was prepared
            raise CallAborted(f"{self._name}: the call was aborted")
        mark = self._meter.enter()
        try:
            async with contextlib.aclosing(self._submit(run, prepared)) as outputs:
                while True:
                    # The limit spans no yield: it would cancel whatever the consumer does in between.
                    async with self.limited(run):
                        output = await anext(outputs, None)
                    if output is None:
                        break
                    run.final = output
                    run.prompt_logprobs = run.prompt_logprobs or output.prompt_logprobs
                    yield output
        finally:
            run.share_s = self._meter.leave(mark)
        self._verify(run)

    async def final(self, run: Run, prepared: Prepared) -> Any:
        """The finished `RequestOutput`."""
        async with contextlib.aclosing(self.outputs(run, prepared)) as outputs:
            async for _ in outputs:
                pass
        return run.final

    async def abort(self, call_ids: Sequence[str]) -> None:
        """Stop these calls; unknown ids are ignored."""
        known = [call_id for call_id in call_ids if call_id in self._live]
        for call_id in known:
            for run in self._live[call_id]:
                run.aborted = True
        if known and not self.dead:
            await self._engine.abort(known)

    def timing(self, run: Run) -> Timing:
        """Of a call that has ended."""
        total_s, gpu_s = perf_counter() - run.begun, run.share_s * self._gpus
        stats = run.final.metrics
        if stats is None or not stats.scheduled_ts:
            return Timing(total_s, gpu_s=gpu_s)
        first = stats.first_token_ts - stats.scheduled_ts if stats.first_token_ts else None
        return Timing(total_s, max(0.0, stats.scheduled_ts - stats.queued_ts), first, gpu_s)

    def _submit(self, run: Run, prepared: Prepared) -> Any:
        call = run.call
        return self._engine.generate(
            prepared.prompt.engine_input, prepared.params, call.id, priority=call.priority, **prepared.extra
        )

    def _verify(self, run: Run) -> None:
        reason = run.final.outputs[0].finish_reason if run.final is not None else "abort"
        if run.aborted or reason == "abort":
            raise CallAborted(f"{self._name}: the call was aborted")
        if reason == "error":
            raise CallError(f"{self._name}: the engine failed on this call")
