"""A call made ready for vLLM, and vLLM's output made a completion. Pure but for the renderer and the parsers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.tool_parsers.utils import get_json_schema_from_tools

from local_fusion.engines import vllm_compat
from local_fusion.engines.vllm_chat import Chat, Prompt, chat_request, tool_call, wire_message
from local_fusion.errors import CallError, ContextExceeded
from local_fusion.types import Call, Completion, Delta, FinishReason, Timing, Tokens, ToolCall

# Only answers are weighed by certainty; elsewhere the log-probabilities would cost time for nothing.
_CERTAIN_STAGES = frozenset({"panel", "revise", "layer"})
_SEEDS = 2**63
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "length", "abort": "abort"}


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

    def __init__(self, name: str, chat: Chat, context: int) -> None:
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
        most = min(call.sampling.max_tokens, self.room(prompt))
        if tools:
            return self._prepare_tools(call, prompt, most)
        parser = self._chat.parser(template_kwargs=prompt.template_kwargs)
        params = _sampling(call, most)
        if self._plain is not None:
            params.skip_special_tokens = self._plain.skip_special_tokens
            params.spaces_between_special_tokens = self._plain.spaces_between_special_tokens
        extra = vllm_compat.reasoning_arguments(parser, prompt.token_ids, prompt.template_kwargs)
        return Prepared(prompt, params, self._plain, parser, extra)

    def room(self, prompt: Prompt) -> int:
        """Tokens that fit behind a prompt. Raises ContextExceeded where there is none."""
        room = self._context - len(prompt.token_ids)
        if room < 1:
            raise ContextExceeded(
                f"{self._name}: the prompt has {len(prompt.token_ids)} tokens, the context only {self._context}; "
                "shorten the prompt or raise max_model_len"
            )
        return room

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
        params = _sampling(call, most)
        if self._chat.has_tool_parser:
            request = parser.adjust_request(request)
            made = request.to_sampling_params(most, {})
            params.structured_outputs = made.structured_outputs
            params.skip_special_tokens = made.skip_special_tokens
            params.spaces_between_special_tokens = made.spaces_between_special_tokens
        else:
            schema = get_json_schema_from_tools(request.tool_choice, request.tools)
            params.structured_outputs = StructuredOutputsParams(json=schema)
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
    ) -> Completion:
        """The completion of a finished `RequestOutput`; `tokens`: tokens generated."""
        text, reasoning, calls = said
        output = final.outputs[0]
        finish: FinishReason = "tool_calls" if calls else _FINISH.get(output.finish_reason or "stop", "stop")
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
        )


class Joiner:
    """Splits a stream's deltas into reasoning, text and tool calls, and joins them again."""

    def __init__(self, call: Call, prepared: Prepared, calls: Calls) -> None:
        self.tokens = 0
        self._call = call
        self._prepared = prepared
        self._by_schema = calls.forces_by_schema(call)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tools: dict[int, list[str]] = {}  # index: id, name, arguments

    def feed(self, output: Any) -> Delta | None:
        """The delta of one streamed `RequestOutput`, or None where it shows nothing."""
        piece = output.outputs[0]
        self.tokens += len(piece.token_ids)
        text, reasoning = piece.text, ""
        if self._prepared.parser is not None:
            message = self._prepared.parser.parse_delta(
                piece.text,
                list(piece.token_ids),
                self._prepared.request,
                self._prepared.prompt.token_ids,
                finished=output.finished,
            )
            text = (message.content or "") if message is not None else ""
            reasoning = (message.reasoning or "") if message is not None else ""
            for part in (message.tool_calls or ()) if message is not None else ():
                self._feed_tool(part)
        self._reasoning.append(reasoning)
        if not any(self._text) and any(self._reasoning):
            text = text.lstrip("\n")  # the lines that part reasoning from answer belong to neither
        self._text.append(text)
        shown = "" if self._by_schema else text
        return Delta(shown, reasoning) if shown or reasoning else None

    def _feed_tool(self, part: Any) -> None:
        known = self._tools.setdefault(part.index, ["", "", ""])
        function = part.function
        known[0] = part.id or known[0]
        known[1] = (function.name if function else None) or known[1]
        known[2] += (function.arguments if function else None) or ""

    def said(self) -> tuple[str | None, str | None, tuple[ToolCall, ...]]:
        """As `Calls.read`."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        if self._by_schema:
            return None, reasoning or None, forced_calls(self._call, text)
        tools = tuple(
            tool_call(index, known[0] or None, known[1], known[2], self._call.seed)
            for index, known in sorted(self._tools.items())
        )
        return (None if not text and (reasoning or tools) else text), reasoning or None, tools


def _sampling(call: Call, most: int) -> SamplingParams:
    s = call.sampling
    structured = None
    if call.json_schema is not None:
        structured = StructuredOutputsParams(json=json.dumps(call.json_schema))
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
        logprobs=0 if call.stage in _CERTAIN_STAGES else None,
        thinking_token_budget=s.thinking_token_budget,
        ignore_eos=s.ignore_eos,
        structured_outputs=structured,
        output_kind=RequestOutputKind.DELTA if call.stream else RequestOutputKind.FINAL_ONLY,
        # Text is made once, at the end: token by token it costs as much as the log-probabilities.
        detokenize=call.stream or bool(s.stop),
        skip_clone=True,  # made for this request alone
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
        wanted = json.loads(text)
        return tuple(
            tool_call(index, None, entry["name"], json.dumps(entry["parameters"], ensure_ascii=False), call.seed)
            for index, entry in enumerate(wanted)
        )
    except (ValueError, KeyError, TypeError):
        return ()


def _response_format(call: Call) -> dict[str, Any] | None:
    if call.json_schema is None:
        return None
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(call.json_schema)}}
