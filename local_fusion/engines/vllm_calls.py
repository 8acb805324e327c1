"""A call made ready for vLLM, and vLLM's whole output made a completion. Pure but for the renderer and the parsers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.tool_parsers.utils import get_json_schema_from_tools

from local_fusion.engines import vllm_compat
from local_fusion.engines.vllm_chat import Chat, Prompt, chat_request, tool_call, wire_message
from local_fusion.engines.vllm_logprobs import TokenReader
from local_fusion.errors import CallError, ContextExceeded
from local_fusion.types import Call, Completion, FinishReason, TextCall, Timing, TokenLogprob, Tokens, ToolCall

# Only answers are weighed by certainty; elsewhere the log-probabilities would cost time for nothing.
_CERTAIN_STAGES = frozenset({"panel", "revise", "layer"})
_SEEDS = 2**63
FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "length", "abort": "abort"}
"""vLLM's reasons in our words."""


@dataclass(slots=True)
class Prepared:
    """Everything `AsyncLLM.generate` needs, and what reads its output."""

    prompt: Prompt
    params: SamplingParams
    request: ChatCompletionRequest | None
    parser: Any
    extra: dict[str, Any]


class Calls:
    """Prepares calls and reads outputs for one engine of `context` tokens."""

    def __init__(self, name: str, chat: Chat, reader: TokenReader, context: int) -> None:
        self.reader = reader
        self._name = name
        self._chat = chat
        self._context = context
        self._plain: ChatCompletionRequest | None = None
        if chat.parser_class is not None:
            plain = chat_request([{"role": "user", "content": ""}])
            self._plain = chat.parser().adjust_request(plain)

    async def prepare(self, call: Call) -> Prepared:
        """Render and clamp. Raises ContextExceeded, CallError (bad_request)."""
        tools = call.tools if call.tool_choice != "none" else ()
        prompt = await self._chat.render(call.messages, call.sampling.chat_template_kwargs, tools, call.cache_salt)
        if call.logprobs is not None:
            await self.reader.load()
        most = min(call.sampling.max_tokens, room_behind(self._name, prompt, self._context))
        if tools:
            return self._prepare_tools(call, prompt, most)
        parser = self._chat.parser(template_kwargs=prompt.template_kwargs)
        params = _chat_params(call, most)
        if self._plain is not None:
            params.skip_special_tokens = self._plain.skip_special_tokens
            params.spaces_between_special_tokens = self._plain.spaces_between_special_tokens
        extra = vllm_compat.reasoning_arguments(parser, prompt.token_ids, prompt.template_kwargs)
        return Prepared(prompt, params, self._plain, parser, extra)

    def _prepare_tools(self, call: Call, prompt: Prompt, most: int) -> Prepared:
        """As vLLM's server does: `auto` by the tool parser, a required or named tool by structured output."""
        forced = call.tool_choice not in (None, "auto")
        if not self._chat.has_tool_parser and not forced:
            raise CallError(f"{self._name}: tools need a `tool_parser` in models.yaml", "bad_request")
        request = chat_request(
            [wire_message(message) for message in call.messages],
            tools=call.tools,
            tool_choice=call.tool_choice,
            chat_template_kwargs=prompt.template_kwargs,
            response_format=_response_format(call),
        )
        parser = self._chat.parser(request.tools, prompt.template_kwargs)
        params = _chat_params(call, most)
        if self._chat.has_tool_parser:
            request = parser.adjust_request(request)
            made = request.to_sampling_params(most, {})
            params.structured_outputs = made.structured_outputs
            params.skip_special_tokens = made.skip_special_tokens
            params.spaces_between_special_tokens = made.spaces_between_special_tokens
        else:
            schema = get_json_schema_from_tools(request.tool_choice, request.tools)
            params.structured_outputs = vllm_compat.tight_json(schema)
        extra = vllm_compat.reasoning_arguments(parser, prompt.token_ids, prompt.template_kwargs)
        return Prepared(prompt, params, request, parser, extra)

    def read(self, call: Call, prepared: Prepared, output: Any) -> tuple[str | None, str | None, tuple[ToolCall, ...]]:
        """(text, reasoning, tool calls) of a finished output; text None where the model said only reasoning."""
        prompt_ids = prepared.prompt.token_ids
        text, reasoning, found = output.text, None, None
        if not prepared.params.detokenize:
            text = vllm_compat.text_of(self._chat.tokenizer, prompt_ids, prepared.params, output)
        if prepared.parser is not None:
            reasoning, text, found = vllm_compat.parse_whole(
                prepared.parser, text, output.token_ids, prompt_ids, prepared.request
            )
        calls = tuple(tool_call(i, f.id, f.name, f.arguments, call.seed) for i, f in enumerate(found or ()))
        if self.forces_by_schema(call):
            return None, reasoning, forced_calls(call, text or "")
        return (text.lstrip("\n") if reasoning and text else text), reasoning or None, calls

    def read_anew(self, call: Call, prepared: Prepared, text: str, token_ids: list[int]) -> str:
        """The text of a finished stream that holds no tool call, as `read` finds it in the whole output."""
        parser = self._chat.parser(
            prepared.request.tools if prepared.request else None, prepared.prompt.template_kwargs
        )
        output = SimpleNamespace(text=text, token_ids=token_ids, finish_reason=None)
        said, _, calls = self.read(call, replace(prepared, parser=parser), output)
        return "" if calls else said or ""

    def forces_by_schema(self, call: Call) -> bool:
        """Whether the output is a forced tool's JSON rather than text."""
        forced = bool(call.tools) and call.tool_choice not in (None, "auto", "none")
        return forced and not self._chat.has_tool_parser

    def completion(
        self,
        call: Call,
        prepared: Prepared,
        said: tuple[str | None, str | None, tuple[ToolCall, ...]],
        final: Any,
        tokens: int,
        timing: Timing,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> Completion:
        """The completion of a finished `RequestOutput`; `tokens`: tokens generated. It ends as "length" where a tool
        call was cut: its arguments are no whole JSON."""
        text, reasoning, calls = said
        output = final.outputs[0]
        finish = FINISH.get(output.finish_reason or "stop", "stop")
        if calls and (finish == "stop" or all(_is_json(call.arguments) for call in calls)):
            finish = "tool_calls"
        return Completion(
            call_id=call.id,
            model=self._name,
            text=text,
            finish_reason=finish,
            reasoning=reasoning,
            tool_calls=calls,
            tokens=Tokens(len(prepared.prompt.token_ids), final.num_cached_tokens or 0, tokens),
            logprob=output.cumulative_logprob,
            timing=timing,
            logprobs=logprobs,
        )


def room_behind(name: str, prompt: Prompt, context: int) -> int:
    """Tokens that fit behind a prompt of the engine `name`. Raises ContextExceeded where there is none."""
    room = context - len(prompt.token_ids)
    if room < 1:
        raise ContextExceeded(
            f"{name}: the prompt has {len(prompt.token_ids)} tokens, the context only {context}; "
            "shorten the prompt or raise max_model_len"
        )
    return room


def sampling_params(call: Call | TextCall, most: int, **more: Any) -> SamplingParams:
    """vLLM's parameters of a call; `most`: tokens at most; `more`: what only this kind of call has."""
    s = call.sampling
    return SamplingParams(
        max_tokens=most,
        temperature=s.temperature,
        top_p=s.top_p,
        top_k=s.top_k,
        min_p=s.min_p,
        presence_penalty=s.presence_penalty,
        frequency_penalty=s.frequency_penalty,
        repetition_penalty=s.repetition_penalty,
        stop=list(s.stop) or None,
        seed=call.seed % _SEEDS,
        thinking_token_budget=s.thinking_token_budget,
        ignore_eos=s.ignore_eos,
        output_kind=RequestOutputKind.DELTA if call.stream else RequestOutputKind.FINAL_ONLY,
        skip_clone=True,  # made for this request alone
        **more,
    )


def _chat_params(call: Call, most: int) -> SamplingParams:
    structured = None
    if call.json_schema is not None:
        structured = vllm_compat.tight_json(json.dumps(call.json_schema))
    logprobs = call.logprobs
    if logprobs is None and call.stage in _CERTAIN_STAGES:
        logprobs = 0
    return sampling_params(
        call,
        most,
        logprobs=logprobs,
        structured_outputs=structured,
        # Text is made once, at the end: token by token it costs as much as the log-probabilities.
        detokenize=call.stream or bool(call.sampling.stop),
    )


def label_params(label_ids: list[int]) -> SamplingParams:
    """One greedy token, with the exact log-probabilities of these tokens."""
    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=sorted(set(label_ids)),
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def forced_calls(call: Call, text: str) -> tuple[ToolCall, ...]:
    """Tool calls out of the structured output that a forced choice was held to; broken JSON gives none."""
    if isinstance(call.tool_choice, Mapping):
        return (tool_call(0, None, str(call.tool_choice["function"]["name"]), text, call.seed),)
    try:
        names = [
            (str(entry["name"]), json.dumps(entry["parameters"], ensure_ascii=False)) for entry in json.loads(text)
        ]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(tool_call(index, None, *named, call.seed) for index, named in enumerate(names))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _response_format(call: Call) -> dict[str, Any] | None:
    if call.json_schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(call.json_schema)}}
