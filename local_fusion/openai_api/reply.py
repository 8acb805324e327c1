"""A `Fused` to the body of a chat completion, with the receipt under the key `fusion`, and errors in OpenAI's form.

Names of the receipt are those of OpenRouter's Fusion tool result where it has one: status, analysis, responses,
failed_models. Everything returned is plain data for a JSON writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from local_fusion.types import Analysis, Answer, Failure, FailureReason, Fused, Receipt, StageUsage, Tokens, ToolCall

_STATUS: Mapping[FailureReason, int] = {
    "timeout": 504,
    "straggler": 504,
    "deadline": 504,
    "engine_died": 503,
    "aborted": 499,
    "context_exceeded": 400,
    "bad_request": 400,
}
_UPSTREAM_ERROR = 502


def chat_completion(fused: Fused, created: int, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The body of a chat completion; `created` in Unix seconds; `metadata` of the request, given back."""
    message: dict[str, Any] = {"role": "assistant", "content": fused.text, "refusal": None}
    if fused.reasoning:
        message["reasoning"] = fused.reasoning
    if fused.tool_calls:
        message["content"] = fused.text or None
        message["tool_calls"] = [_tool_call(call) for call in fused.tool_calls]
    finish = "length" if fused.finish_reason == "abort" else fused.finish_reason
    body = {
        "id": f"chatcmpl-{short_id(fused.request_id, str(fused.receipt.seed))}",
        "object": "chat.completion",
        "created": created,
        "model": fused.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage(fused.tokens),
        "fusion": fusion_receipt(fused),
    }
    if metadata:
        body["metadata"] = dict(metadata)
    return body


def usage(tokens: Tokens) -> dict[str, Any]:
    """OpenAI's usage object: sums over every call of the request."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
    }


def fusion_receipt(fused: Fused) -> dict[str, Any]:
    """The receipt as plain data. `analysis`, `choice` and `verdict` are left out where there was none."""
    receipt = fused.receipt
    body: dict[str, Any] = {
        "status": "ok",
        "fusion": receipt.fusion,
        "mode": receipt.mode,
        "why": receipt.why,
        "writer": fused.model,
        "responses": responses_body(receipt.answers),
        "failed_models": failed_models(receipt.failures),
        "degraded": list(fused.degraded),
        "notes": list(receipt.notes),
    }
    if receipt.analysis is not None:
        body["analysis"] = analysis_body(receipt.analysis)
    for name, value in (("choice", receipt.choice), ("verdict", receipt.verdict)):
        if value is not None:
            body[name] = asdict(value)
    body |= {
        "changed_minds": list(receipt.changed_minds),
        "early_exit": receipt.early_exit,
        "aborted": receipt.aborted,
        "usage": stage_usage(receipt.calls),
        "calls": [_call(call) for call in receipt.calls],
        "seconds": round(receipt.seconds, 6),
        "seed": receipt.seed,
    }
    return body | _origin(receipt)


def analysis_body(analysis: Analysis) -> dict[str, Any]:
    """The five lists, as in OpenRouter's `FusionAnalysisResult`."""
    return {
        "consensus": list(analysis.consensus),
        "contradictions": [
            {"topic": one.topic, "stances": [{"model": s.model, "stance": s.stance} for s in one.stances]}
            for one in analysis.contradictions
        ],
        "partial_coverage": [{"models": list(one.models), "point": one.point} for one in analysis.partial_coverage],
        "unique_insights": [{"model": one.model, "insight": one.insight} for one in analysis.unique_insights],
        "blind_spots": list(analysis.blind_spots),
    }


def responses_body(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The panel's answers, in OpenRouter's form with more beside."""
    return [_response(answer) for answer in answers]


def failed_models(failures: Sequence[Failure]) -> list[dict[str, Any]]:
    """OpenRouter's list of members that failed, with our typed reason, stage and sample beside."""
    return [
        {
            "model": failure.model,
            "error": failure.error,
            "status_code": _STATUS.get(failure.reason, _UPSTREAM_ERROR),
            "reason": failure.reason,
            "stage": failure.stage,
            "sample": failure.sample,
        }
        for failure in failures
    ]


def stage_usage(calls: Sequence[StageUsage]) -> dict[str, dict[str, Any]]:
    """Calls, tokens, seconds and GPU-seconds summed by stage."""
    stages: dict[str, dict[str, Any]] = {}
    for call in calls:
        total = stages.setdefault(
            call.stage,
            {"calls": 0, "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "seconds": 0.0, "gpu_s": 0.0},
        )
        total["calls"] += 1
        total["prompt_tokens"] += call.tokens.prompt
        total["cached_tokens"] += call.tokens.cached
        total["completion_tokens"] += call.tokens.completion
        total["seconds"] += call.timing.total_s
        total["gpu_s"] += call.timing.gpu_s
    for total in stages.values():
        total["seconds"], total["gpu_s"] = round(total["seconds"], 6), round(total["gpu_s"], 6)
    return stages


def error_body(message: str, code: str, param: str | None = None, status: int = 400) -> dict[str, Any]:
    """OpenAI's error object: the caller's mistake below 500, ours from there."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def short_id(*parts: str) -> str:
    """24 hex digits that are the same for the same parts."""
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _response(answer: Answer) -> dict[str, Any]:
    body: dict[str, Any] = {"model": answer.model, "content": answer.text, "sample": answer.sample}
    if answer.reasoning:
        body["reasoning"] = answer.reasoning
    if answer.round:
        body["round"] = answer.round
    if answer.cut:
        body["cut"] = True
    if answer.certainty is not None:
        body["certainty"] = round(answer.certainty, 6)
    return body


def _call(call: StageUsage) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": call.call_id,
        "stage": call.stage,
        "model": call.model,
        "sample": call.sample,
        "seed": call.seed,
        "prompt_tokens": call.tokens.prompt,
        "cached_tokens": call.tokens.cached,
        "completion_tokens": call.tokens.completion,
        "queued_s": round(call.timing.queued_s, 6),
        "total_s": round(call.timing.total_s, 6),
        "gpu_s": round(call.timing.gpu_s, 6),
    }
    if call.ended_s is not None:
        body["ended_s"] = round(call.ended_s, 6)
    return body


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _origin(receipt: Receipt) -> dict[str, Any]:
    origin: dict[str, Any] = {"templates": receipt.templates}
    if receipt.versions:
        origin["versions"] = dict(receipt.versions)
    if receipt.digests:
        origin["digests"] = dict(receipt.digests)
    return origin
