"""The final answer in OpenAI's chat form: the whole body, and the chunks of a stream. Pure.

Invariant: the deltas of a stream, joined, are the message that the whole body would hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_fusion.openai_api.reply import (
    analysis_body,
    failed_models,
    fusion_receipt,
    responses_body,
    stage_usage,
    usage,
)
from local_fusion.types import FinishReason, Fused, StageUsage, TokenLogprob, Tokens, ToolCall, ToolDelta


@dataclass(frozen=True, slots=True)
class Head:
    """What every object of one reply begins with. `created` in Unix seconds."""

    id: str
    created: int
    fingerprint: str
    model: str


@dataclass(frozen=True, slots=True)
class ChoiceBody:
    """One choice: its text and all that belongs to it. `logprobs` is None where none were asked for."""

    text: str
    finish_reason: FinishReason
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """What stands beside the choices: `usage`, the receipt under `fusion`, the client's metadata."""

    usage: Mapping[str, Any]
    fusion: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def chat_body(head: Head, choices: Sequence[ChoiceBody], rest: Rest) -> dict[str, Any]:
    """The body of a chat completion."""
    body = _head(head, "chat.completion") | {
        "choices": [_choice(index, choice) for index, choice in enumerate(choices)],
        "usage": dict(rest.usage),
    }
    if rest.fusion is not None:
        body["fusion"] = dict(rest.fusion)
    if rest.metadata:
        body["metadata"] = dict(rest.metadata)
    return body


def delta_chunk(
    head: Head,
    index: int,
    text: str = "",
    reasoning: str = "",
    tools: Sequence[ToolDelta] = (),
    logprobs: Sequence[TokenLogprob] | None = None,
    role: bool = False,
) -> dict[str, Any]:
    """A chunk with a piece of choice `index`; `role`: the choice's first."""
    delta: dict[str, Any] = {"role": "assistant", "content": ""} if role else {}
    if text:
        delta["content"] = text
    if reasoning:
        delta |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if tools:
        delta["tool_calls"] = [_tool_delta(tool) for tool in tools]
    content = None if not logprobs else logprobs_body(logprobs)
    return _chunk(head, [{"index": index, "delta": delta, "logprobs": content, "finish_reason": None}])


def finish_chunk(head: Head, index: int, reason: FinishReason) -> dict[str, Any]:
    """The last chunk of choice `index`."""
    return _chunk(head, [{"index": index, "delta": {}, "logprobs": None, "finish_reason": finish(reason)}])


def bare_chunk(head: Head, **rest: Any) -> dict[str, Any]:
    """A chunk without choices, for the usage or for what happens inside the fusion."""
    return _chunk(head, []) | rest


def fusion_body(fused: Fused, include: frozenset[str]) -> dict[str, Any]:
    """The receipt as far as `include` asks: panel, analysis, usage; receipt: everything."""
    if "receipt" in include:
        return fusion_receipt(fused)
    receipt = fused.receipt
    body: dict[str, Any] = {
        "status": "ok",
        "fusion": receipt.fusion,
        "mode": receipt.mode,
        "why": receipt.why,
        "writer": fused.model,
        "degraded": list(fused.degraded),
        "failed_models": failed_models(receipt.failures),
    }
    if "panel" in include:
        body["responses"] = responses_body(receipt.answers)
    if "analysis" in include and receipt.analysis is not None:
        body["analysis"] = analysis_body(receipt.analysis)
    return body


def failed_fusion_body(code: str, error: str) -> dict[str, Any]:
    """The same where the fusion failed and an outer model answered alone."""
    return {"status": "error", "failure_reason": code, "error": error}


def full_usage(tokens: Tokens, calls: Sequence[StageUsage]) -> dict[str, Any]:
    """The usage with its breakdown: by stage, and by member and stage."""
    members: dict[str, list[StageUsage]] = {}
    for call in calls:
        members.setdefault(call.model, []).append(call)
    by_member = {model: stage_usage(own) for model, own in members.items()}
    return usage(tokens) | {"fusion": {"stages": stage_usage(calls), "members": by_member}}


def logprobs_body(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's log-probabilities of chat tokens; a token without one counts as certain."""
    content = [
        {
            "token": token.token,
            "logprob": token.logprob if token.logprob is not None else 0.0,
            "bytes": list(token.raw or token.token.encode("utf-8", "surrogatepass")),
            "top_logprobs": [
                {"token": text, "logprob": value, "bytes": list(text.encode("utf-8", "surrogatepass"))}
                for text, value in token.top
            ],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def finish(reason: FinishReason) -> str:
    """OpenAI knows no abort: what was cut short is cut by length."""
    return "length" if reason == "abort" else reason


def _choice(index: int, choice: ChoiceBody) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.reasoning:
        message |= {"reasoning": choice.reasoning, "reasoning_content": choice.reasoning}
    if choice.tool_calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    logprobs = None if choice.logprobs is None else logprobs_body(choice.logprobs)
    reason = finish(choice.finish_reason)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}


def _chunk(head: Head, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return _head(head, "chat.completion.chunk") | {"choices": choices}


def _head(head: Head, kind: str) -> dict[str, Any]:
    return {
        "id": head.id,
        "object": kind,
        "created": head.created,
        "model": head.model,
        "service_tier": "default",
        "system_fingerprint": head.fingerprint,
    }


def _tool_delta(tool: ToolDelta) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": tool.arguments}
    if not tool.name:
        return {"index": tool.index, "function": function}
    return {"index": tool.index, "id": tool.id, "type": "function", "function": {"name": tool.name} | function}
