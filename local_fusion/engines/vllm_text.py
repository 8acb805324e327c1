"""Raw completions, token ids of texts, texts of token ids: vLLM's own renderer and tokenizer, no chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm.renderers import TokenizeParams
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from local_fusion.engines.vllm_calls import FINISH, Prepared, room_behind, sampling_params
from local_fusion.engines.vllm_chat import LONG_CHARACTERS, Prompt
from local_fusion.engines.vllm_logprobs import TokenReader
from local_fusion.engines.vllm_runs import Run
from local_fusion.errors import CallError
from local_fusion.types import Delta, TextCall, TextCompletion, Timing, TokenLogprob, Tokens


class Texts:
    """Prepares text calls and reads their outputs, for one engine of `context` tokens."""

    def __init__(self, name: str, engine: AsyncLLM, reader: TokenReader, context: int) -> None:
        self._name = name
        self._renderer = engine.renderer
        self._reader = reader
        self._context = context
        self._vocabulary = int(engine.model_config.get_vocab_size())

    async def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids of a text."""
        return (await self._render({"prompt": text}, special, None)).token_ids

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens included. Raises CallError (bad_request)."""
        known = len(self._reader.tokenizer)
        if tokens and not (min(tokens) >= 0 and max(tokens) < known):
            raise CallError(f"{self._name}: token ids are 0 to {known - 1}", "bad_request")
        text = self._reader.tokenizer.decode(
            list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return str(text)

    async def prepare(self, call: TextCall) -> Prepared:
        """Tokenize and clamp. Raises ContextExceeded, CallError (bad_request)."""
        if isinstance(call.prompt, str):
            given: dict[str, Any] = {"prompt": call.prompt}
        else:
            self._check_ids(call.prompt)
            given = {"prompt_token_ids": list(call.prompt)}
        prompt = await self._render(given, True, call.cache_salt)
        if not prompt.token_ids:
            raise CallError(f"{self._name}: the prompt is empty; give it at least one token", "bad_request")
        if call.logprobs is not None:
            await self._reader.load()
        room = room_behind(self._name, prompt, self._context)
        return Prepared(prompt, self._params(call, room), None, None, {})

    def delta(self, call: TextCall, output: Any) -> Delta | None:
        """The delta of one streamed `RequestOutput`, or None where it shows nothing."""
        piece = output.outputs[0]
        if call.sampling.max_tokens == 0:
            return None
        logprobs = self._logprobs(call, piece.token_ids, piece.logprobs)
        return Delta(text=piece.text, logprobs=logprobs) if piece.text or logprobs else None

    def completion(self, call: TextCall, prepared: Prepared, run: Run, said: Said, timing: Timing) -> TextCompletion:
        """The completion of a finished call."""
        prompt_ids = prepared.prompt.token_ids
        final = run.final.outputs[0]
        empty = call.sampling.max_tokens == 0
        tokens = [] if empty else said.tokens
        chances = run.prompt_logprobs if call.echo and call.logprobs is not None else None
        return TextCompletion(
            call_id=call.id,
            model=self._name,
            text="" if empty else said.text,
            finish_reason="length" if empty else FINISH.get(final.finish_reason or "stop", "stop"),
            prompt_token_ids=tuple(prompt_ids),
            token_ids=tuple(tokens),
            tokens=Tokens(len(prompt_ids), run.final.num_cached_tokens or 0, len(tokens)),
            logprobs=() if empty else self._logprobs(call, tokens, said.chances),
            prompt_logprobs=self._logprobs(call, prompt_ids, chances),
            timing=timing,
        )

    def _logprobs(self, call: TextCall, tokens: Sequence[int], chances: Any) -> tuple[TokenLogprob, ...]:
        return () if call.logprobs is None else self._reader.read_all(tokens, chances, call.logprobs)

    def _params(self, call: TextCall, room: int) -> SamplingParams:
        # vLLM makes one token at least; where none is wanted it is dropped.
        return sampling_params(
            call,
            max(1, min(call.sampling.max_tokens, room)),
            logprobs=call.logprobs,
            prompt_logprobs=call.logprobs if call.echo else None,
        )

    def _check_ids(self, tokens: Sequence[int]) -> None:
        if tokens and not (min(tokens) >= 0 and max(tokens) < self._vocabulary):
            raise CallError(f"{self._name}: token ids are 0 to {self._vocabulary - 1}", "bad_request")

    async def _render(self, given: dict[str, Any], special: bool, cache_salt: str | None) -> Prompt:
        params = TokenizeParams(max_total_tokens=None, add_special_tokens=special)
        extras = {"cache_salt": cache_salt} if cache_salt is not None else None
        if len(given.get("prompt", "")) < LONG_CHARACTERS:
            (rendered,) = self._renderer.render_cmpl([given], params, prompt_extras=extras)
        else:
            (rendered,) = await self._renderer.render_cmpl_async([given], params, prompt_extras=extras)
        return Prompt(rendered, list(rendered["prompt_token_ids"]), {})


class Said:
    """What a text call has generated so far."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens: list[int] = []
        self.chances: list[Any] = []

    def add(self, output: Any) -> None:
        """One more `RequestOutput`: of a stream what is new in it, else everything."""
        piece = output.outputs[0]
        self.text += piece.text
        self.tokens += piece.token_ids
        self.chances += piece.logprobs or ()
