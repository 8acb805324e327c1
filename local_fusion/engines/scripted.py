"""An engine that says what it is told to: seeded answers, delays, hangs, crashes and garbage on demand.

Invariant: what a call gives is a function of its seed (label reads: of their messages), the engine's name and the
settings; never of time or of other calls. No tasks and, without delays, no timers: one cooperative yield a call.
A token is a word with the space before it. Ids of words are given out as they are met, in this process only.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from time import perf_counter

from local_fusion import __version__
from local_fusion.config.schema import ScriptedSettings
from local_fusion.engines import scripted_text
from local_fusion.engines.scripted_live import Live
from local_fusion.engines.scripted_tokens import Vocabulary, prompt_logprobs, token_logprob
from local_fusion.errors import CallAborted, CallError, CallTimeout, ContextExceeded
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    EngineInfo,
    FinishReason,
    Health,
    LabelCall,
    LabelRead,
    Message,
    TextCall,
    TextCompletion,
    Timing,
    TokenLogprob,
    Tokens,
    ToolCall,
    ToolDelta,
)

_FULL = float(2**64)
_ARGUMENT_PIECE = 8
"""Characters of a tool call's arguments in one delta."""


class ScriptedEngine:
    """Satisfies `Engine`. Public counters: `started`, `finished`, `failed`, `aborted` calls so far."""

    def __init__(self, name: str, settings: ScriptedSettings | None = None) -> None:
        self.name = name
        self.settings = settings or ScriptedSettings()
        self.started = 0
        self.finished = 0
        self.failed = 0
        self.aborted = 0
        self._hung = False
        self._vocabulary = Vocabulary()
        self._live: dict[str, list[Live]] = {}
        s = self.settings
        self._draws_needed = bool(s.fail_rate or s.hang_rate or s.garbage_rate or s.empty_rate or s.delay_spread)

    @property
    def running(self) -> int:
        """Calls under way now."""
        return self.started - self.finished - self.failed - self.aborted

    async def start(self) -> None:
        """Take `start_s` seconds; crash where the settings say so."""
        if self.settings.start_s:
            await asyncio.sleep(self.settings.start_s)
        if self.settings.crash_after == 0:
            self._crash()

    async def generate(self, call: Call) -> Completion:
        """See `Engine.generate`."""
        begun = perf_counter()
        live = self._enter(call.id)
        try:
            prompt = self._prompt_tokens(call.messages)
            text, delay, hangs = self._script(call, prompt)
            await self._wait(live, None if hangs else delay, begun, call.timeout_s)
            completion = self._completion(call, prompt, text, begun, None)
        except BaseException as problem:
            self._leave(call.id, live, problem)
            raise
        self._leave(call.id, live, None)
        return completion

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        """See `Engine.stream`: a delta a word, or a piece of a tool call."""
        begun = perf_counter()
        live = self._enter(call.id)
        try:
            prompt = self._prompt_tokens(call.messages)
            text, delay, hangs = self._script(call, prompt)
            pause = 1.0 / self.settings.tokens_per_s if self.settings.tokens_per_s else 0.0
            before = max(0.0, delay - pause * len(text.split()))
            await self._wait(live, None if hangs else before, begun, call.timeout_s)
            first = perf_counter() - begun
            completion = self._completion(call, prompt, text, begun, first)
            for delta in self._deltas(call, completion):
                await self._wait(live, pause, begun, call.timeout_s)
                yield delta
            completion = self._completion(call, prompt, text, begun, first)
        except BaseException as problem:
            self._leave(call.id, live, problem)
            raise
        self._leave(call.id, live, None)
        yield completion

    async def label_read(self, call: LabelCall) -> LabelRead:
        """See `Engine.label_read`. Favours the candidate that contains `prefer`; else a seeded liking by text."""
        begun = perf_counter()
        live = self._enter(call.id)
        try:
            prompt = self._prompt_tokens(call.messages)
            _, fails, hangs, _, _, share = self._draws(_content_seed(call))
            if fails:
                raise CallError(f"{self.name}: scripted failure")
            delay = self._delay(share)
            await self._wait(live, None if hangs else delay, begun, call.timeout_s)
            chances = scripted_text.label_chances(
                self.name, call.messages, call.labels, self.settings.prefer, self.settings.certainty
            )
            read = LabelRead(
                call.id,
                self.name,
                tuple(math.log(chance) for chance in chances),
                Tokens(prompt=prompt, completion=1),
                Timing(total_s=perf_counter() - begun),
            )
        except BaseException as problem:
            self._leave(call.id, live, problem)
            raise
        self._leave(call.id, live, None)
        return read

    async def complete(self, call: TextCall) -> AsyncGenerator[Delta | TextCompletion, None]:
        """See `Engine.complete`: what a chat of that one message would be answered, a delta a word."""
        begun = perf_counter()
        live = self._enter(call.id)
        try:
            prompt = self._vocabulary.ids(call.prompt) if isinstance(call.prompt, str) else list(call.prompt)
            asked = Message("user", self._vocabulary.text(prompt))
            self._check_context(len(prompt))
            chat = Call(call.id, (asked,), call.sampling, call.seed)
            said, delay, hangs = self._script(chat, len(prompt))
            most = min(call.sampling.max_tokens, self.settings.context - len(prompt))
            words = list(scripted_text.pieces(said))
            reason: FinishReason = "length" if len(words) > most or most == 0 else "stop"
            words = words[:most]
            pause = 1.0 / self.settings.tokens_per_s if self.settings.tokens_per_s and call.stream else 0.0
            await self._wait(live, None if hangs else max(0.0, delay - pause * len(words)), begun, call.timeout_s)
            first = perf_counter() - begun
            for word in words if call.stream else ():
                await self._wait(live, pause, begun, call.timeout_s)
                yield Delta(text=word, logprobs=self._logprobs(word, call.logprobs))
            text = "".join(words)
            scored = call.echo and call.logprobs is not None
            completion = TextCompletion(
                call_id=call.id,
                model=self.name,
                text=text,
                finish_reason=reason,
                prompt_token_ids=tuple(prompt),
                token_ids=tuple(self._vocabulary.ids(text)),
                tokens=Tokens(len(prompt), 0, len(words)),
                logprobs=self._logprobs(text, call.logprobs),
                prompt_logprobs=prompt_logprobs(self._vocabulary, self.name, prompt, call.logprobs) if scored else (),
                timing=Timing(perf_counter() - begun, 0.0, first),
            )
        except BaseException as problem:
            self._leave(call.id, live, problem)
            raise
        self._leave(call.id, live, None)
        yield completion

    async def tokenize(self, text: str | Sequence[Message], special: bool = True) -> list[int]:
        """See `Engine.tokenize`; no token is special."""
        texts = [text] if isinstance(text, str) else [message.content for message in text]
        return [token for one in texts for token in self._vocabulary.ids(one)]

    async def detokenize(self, tokens: Sequence[int]) -> str:
        """See `Engine.detokenize`."""
        return self._vocabulary.text(tokens)

    async def count_running(self) -> int:
        """See `Engine.count_running`."""
        return self.running

    async def count_tokens(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """A token is a word."""
        return [_words(messages) for messages in conversations]

    async def abort(self, call_ids: Sequence[str]) -> None:
        """See `Engine.abort`."""
        for call_id in call_ids:
            for live in self._live.get(call_id, ()):
                live.abort()

    async def check(self, timeout_s: float = 10.0) -> Health:
        """Ready, unless `hang_rate` is 1 and a call has hung: then, as in a stuck engine, the probe hangs too."""
        if self._hung and self.settings.hang_rate >= 1.0:
            await asyncio.sleep(timeout_s)
            return Health(False, f"no token within {timeout_s:g} s", running=self.running)
        return Health(True, running=self.running)

    async def info(self) -> EngineInfo:
        """What a real engine would say."""
        return EngineInfo(
            model=self.name,
            context=self.settings.context,
            versions={"local-fusion": __version__, "engine": "scripted"},
            special_tokens=("<|im_start|>", "<|im_end|>"),
        )

    async def close(self) -> None:
        """Abort what is under way."""
        await self.abort(list(self._live))

    def _enter(self, call_id: str) -> Live:
        self.started += 1
        if self.settings.crash_after is not None and self.started >= self.settings.crash_after:
            self._crash()
        live = Live()
        others = self._live.get(call_id)
        if others is None:
            self._live[call_id] = [live]
        else:
            others.append(live)
        return live

    def _leave(self, call_id: str, live: Live, problem: BaseException | None) -> None:
        others = self._live[call_id]
        if len(others) == 1:
            del self._live[call_id]
        else:
            others.remove(live)
        if problem is None:
            self.finished += 1
        elif isinstance(problem, CallError) and not isinstance(problem, CallAborted):
            self.failed += 1
        else:
            self.aborted += 1

    def _crash(self) -> None:
        once = self.settings.crash_once_file
        if once is not None:
            try:
                Path(once).touch(exist_ok=False)
            except FileExistsError:
                return
        os._exit(1)

    def _prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Words of the prompt. Raises ContextExceeded."""
        prompt = _words(messages)
        self._check_context(prompt)
        return prompt

    def _check_context(self, prompt: int) -> None:
        if prompt + 1 > self.settings.context:
            raise ContextExceeded(
                f"{self.name}: the prompt has {prompt} tokens, the context only {self.settings.context}; shorten it"
            )

    def _logprobs(self, text: str | None, top: int | None) -> tuple[TokenLogprob, ...]:
        """Of each word of a generated text; none where `top` is None."""
        if top is None:
            return ()
        tokens = self._vocabulary.ids(text or "")
        return tuple(token_logprob(self._vocabulary, token, self.settings.certainty, top) for token in tokens)

    def _deltas(self, call: Call, completion: Completion) -> Iterator[Delta]:
        for word in scripted_text.pieces(completion.reasoning or ""):
            yield Delta(reasoning=word)
        for word in scripted_text.pieces(completion.text or ""):
            yield Delta(text=word, logprobs=self._logprobs(word, call.logprobs))
        for index, tool in enumerate(completion.tool_calls):
            yield Delta(tools=(ToolDelta(index, tool.id, tool.name),))
            for begin in range(0, len(tool.arguments), _ARGUMENT_PIECE):
                yield Delta(tools=(ToolDelta(index, arguments=tool.arguments[begin : begin + _ARGUMENT_PIECE]),))

    def _draws(self, seed: int) -> tuple[bytes, bool, bool, bool, bool, float]:
        """Digest of the seed, and what it decides: fails, hangs, is garbage, is empty, share of the delay's spread."""
        digest = hashlib.blake2b(f"{self.name}:{seed}".encode(), digest_size=48).digest()
        if not self._draws_needed:
            return digest, False, False, False, False, 0.5
        s = self.settings
        part = [int.from_bytes(digest[i : i + 8], "big") / _FULL for i in range(0, 40, 8)]
        fails, hangs = part[0] < s.fail_rate, part[1] < s.hang_rate
        return digest, fails, hangs, part[2] < s.garbage_rate, part[3] < s.empty_rate, part[4]

    def _delay(self, share: float) -> float:
        s = self.settings
        return s.delay_s * (1.0 + s.delay_spread * (2.0 * share - 1.0)) if s.delay_s else 0.0

    def _script(self, call: Call, prompt: int) -> tuple[str, float, bool]:
        """Text, seconds and whether the call hangs. Raises CallError for a scripted failure."""
        digest, fails, hangs, garbage, empty, share = self._draws(call.seed)
        if fails:
            raise CallError(f"{self.name}: scripted failure")
        if empty:
            text = ""
        elif garbage:
            text = scripted_text.garbage(digest, call.messages)
        else:
            text = scripted_text.answer(self.settings.answers, call, digest)
        for stop in call.sampling.stop:
            if stop in text:
                text = text[: text.index(stop)]
        delay = self._delay(share)
        if self.settings.tokens_per_s:
            delay += len(text.split()) / self.settings.tokens_per_s
        return text, delay, hangs

    def _completion(self, call: Call, prompt: int, said: str, begun: float, first: float | None) -> Completion:
        most = min(call.sampling.max_tokens, self.settings.context - prompt)
        reason: FinishReason = "stop"
        count = len(said.split())
        if count > most:
            said, reason, count = scripted_text.first_words(said, most), "length", most
        reasoning, text = scripted_text.split_reasoning(said) if said.startswith("<think>") else (None, said)
        tool_calls: tuple[ToolCall, ...] = ()
        if call.tools and call.tool_choice is not None and call.tool_choice not in ("auto", "none"):
            tool_calls = scripted_text.tool_calls(call)
            text, reason = None, "tool_calls"
        elif text is not None and call.tools and call.tool_choice != "none":
            text, tool_calls = scripted_text.split_tool_calls(text, call)
            reason = "tool_calls" if tool_calls else reason
        count = self.settings.tokens or max(1, count)
        return Completion(
            call_id=call.id,
            model=self.name,
            text=text,
            finish_reason=reason,
            reasoning=reasoning,
            tool_calls=tool_calls,
            tokens=Tokens(prompt, 0, count),
            logprob=count * math.log(self.settings.certainty),
            timing=Timing(perf_counter() - begun, 0.0, first),
            logprobs=self._logprobs(text, call.logprobs),
        )

    async def _wait(self, live: Live, seconds: float | None, begun: float, timeout_s: float | None) -> None:
        """Wait `seconds` (None: for ever), but no longer than `timeout_s` after `begun`.

        Raises CallAborted, CallTimeout.
        """
        left = None if timeout_s is None else max(0.0, timeout_s - (perf_counter() - begun))
        self._hung = self._hung or seconds is None
        late = await live.wait(seconds, left)
        if live.aborted:
            raise CallAborted(f"{self.name}: the call was aborted")
        if late:
            raise CallTimeout(f"{self.name}: the call's time was up")


def _words(messages: Sequence[Message]) -> int:
    total = 0
    for message in messages:
        total += len(message.content.split())
    return total


def _content_seed(call: LabelCall) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for message in call.messages:
        digest.update(message.content.encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest(), "big")
