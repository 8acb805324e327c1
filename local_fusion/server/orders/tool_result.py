"""What an outer model is told of a fusion: OpenRouter's tool result as JSON, made harmless and cut to its context.

Invariant: no text of a panel member can end the tool's turn or forge another; the whole leaves the model half of its
context, or what its answer may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from local_fusion.engine import Engine
from local_fusion.errors import CallError, FusionError
from local_fusion.openai_api.reply import analysis_body, failed_models
from local_fusion.prompts import neutralise
from local_fusion.prompts.brief import shorten
from local_fusion.types import Fused, Message

TRIES = 4
CAPPED = "fusion can be called once per turn; answer from what it gave you"


def result_of(fused: Fused) -> dict[str, Any]:
    """The result of a fusion that has at least one answer. `answer`: the fusion's own, where its mode wrote one."""
    receipt = fused.receipt
    body: dict[str, Any] = {"status": "ok"}
    if fused.text:
        body["answer"] = fused.text
    if receipt.analysis is not None:
        body["analysis"] = analysis_body(receipt.analysis)
    body["responses"] = [{"model": answer.model, "content": answer.text} for answer in receipt.answers]
    if receipt.failures:
        body["failed_models"] = _failed(receipt.failures)
    return body


def error_of(problem: FusionError) -> dict[str, Any]:
    """The result of a fusion that has none."""
    body: dict[str, Any] = {"status": "error", "failure_reason": problem.code, "error": problem.message}
    if problem.failures:
        body["failed_models"] = _failed(problem.failures)
    return body


def capped() -> dict[str, Any]:
    """The result of a second call in one turn."""
    return {"status": "error", "failure_reason": "fusion_invocation_capped", "error": CAPPED}


async def told(engine: Engine, messages: Sequence[Message], result: dict[str, Any], room: int) -> str:
    """The result as text, its answers shortened where `messages`, it and `room` tokens of answer would not fit."""
    try:
        info = await engine.info()
    except CallError:  # its next call will say so
        return _text(result, ())
    limit = info.context - min(room, info.context // 2)
    text = _text(result, info.special_tokens)
    longest = max((len(answer["content"]) for answer in result.get("responses", ())), default=0)
    for _ in range(TRIES):
        size = await _size(engine, [*messages, Message("tool", text, tool_call_id="fusion")], limit)
        if size <= limit or longest <= 1:
            break
        longest = max(1, int(longest * 0.9 * limit / size) - (size - limit) // 8)
        text = _text(_cut(result, longest), info.special_tokens)
    return text


async def _size(engine: Engine, messages: Sequence[Message], limit: int) -> int:
    """Tokens at most: by bytes where that is few enough, else as the engine counts."""
    size = sum(len(message.content.encode("utf-8", "surrogatepass")) + 16 for message in messages)
    if size <= limit:
        return size
    try:
        return (await engine.count_tokens([list(messages)]))[0]
    except CallError:  # its template may not know such turns; the next call will say so
        return size // 3


def _cut(result: dict[str, Any], longest: int) -> dict[str, Any]:
    answers = [answer | {"content": shorten(answer["content"], longest)[0]} for answer in result["responses"]]
    body = result | {"responses": answers}
    if "answer" in body:
        body["answer"] = shorten(body["answer"], longest)[0]
    return body


def _failed(failures: Sequence[Any]) -> list[dict[str, Any]]:
    return [{name: entry[name] for name in ("model", "error", "status_code")} for entry in failed_models(failures)]


def _text(result: dict[str, Any], specials: Sequence[str]) -> str:
    return neutralise(orjson.dumps(result).decode(), specials)
