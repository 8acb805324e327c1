"""What is heard of an order, as the chunks of a chat completion stream.

Invariants: a role first, then deltas, one finish reason per choice, the usage where it was asked for, `[DONE]`; an
error after the beginning stands inside the stream. What happens inside the fusion goes out as comments, which every
client skips, or, where `fusion.include` has panel, as chunks without choices under the key `fusion`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from local_fusion.errors import LocalFusionError
from local_fusion.fusion.events import (
    AnalysisDone,
    AnalysisStarted,
    Guarded,
    MemberDelta,
    MemberDone,
    MemberFailed,
    MemberStarted,
    WriterStarted,
)
from local_fusion.openai_api.chat_reply import Head, bare_chunk, delta_chunk, finish_chunk
from local_fusion.openai_api.reply import analysis_body, failed_models
from local_fusion.openai_api.request import ChatRequest
from local_fusion.server.door import sse
from local_fusion.server.orders.live import Live
from local_fusion.server.orders.order import FusionBegan, FusionEnded, Heard, Piece, Reply
from local_fusion.server.problems import described
from local_fusion.server.watch.logs import log
from local_fusion.server.wire.chat_body import fusion_of, usage_of_reply


async def chat_events(live: Live, asked: ChatRequest, head: Head, outer: bool) -> AsyncIterator[bytes]:
    """The bytes of the stream, to its end. `outer`: an outer model writes, and not the fusion that it may consult."""
    chunks = _Chunks(asked, head, outer)
    try:
        async for item in live:
            for data in chunks.last(item) if isinstance(item, Reply) else chunks.heard(item):
                yield data
    except Exception as problem:
        if not isinstance(problem, LocalFusionError):
            log.failed("stream_failed", problem)
        _, body, _ = described(problem)
        yield sse.event(body)
    yield sse.DONE


class _Chunks:
    def __init__(self, asked: ChatRequest, head: Head, outer: bool) -> None:
        self._asked = asked
        self._head = head
        self._begun: set[int] = set()
        self._told = "panel" in asked.fusion.include
        self._outer = outer

    def heard(self, item: Heard) -> Iterator[bytes]:
        if isinstance(item, Piece):
            yield from self._piece(item)
            return
        if isinstance(item, WriterStarted) and not self._outer:
            self._head = replace(self._head, model=item.model)
        elif isinstance(item, FusionEnded) and item.fused is not None and not self._outer:
            self._head = replace(self._head, model=item.fused.model)
        told = _told(item, self._told)
        if told is not None and self._told:
            yield self._event(bare_chunk(self._head, fusion=told))
        elif told is not None:
            model = str(told.get("model", ""))
            yield f": fusion {told['event']} {model}".rstrip().encode() + b"\n\n"

    def last(self, reply: Reply) -> Iterator[bytes]:
        self._head = replace(self._head, model=reply.model)
        fusion = fusion_of(reply, self._asked)
        if fusion is not None and reply.replaced:
            fusion = {**fusion, "replaced": True, "final_text": reply.said[0].text}
        for index, said in enumerate(reply.said):
            yield from self._begin(index)
            chunk = finish_chunk(self._head, index, said.finish_reason)
            if fusion is not None and index == len(reply.said) - 1:
                chunk["fusion"] = fusion
            if self._asked.metadata and index == len(reply.said) - 1:
                chunk["metadata"] = dict(self._asked.metadata)
            yield self._event(chunk)
        if self._asked.stream_usage or self._asked.full_usage or "usage" in self._asked.fusion.include:
            yield sse.event(bare_chunk(self._head, usage=usage_of_reply(reply, self._asked)))

    def _piece(self, piece: Piece) -> Iterator[bytes]:
        reasoning = piece.reasoning if self._asked.show_reasoning else ""
        if not (piece.text or reasoning or piece.tools or piece.logprobs):
            return
        yield from self._begin(piece.index)
        yield self._event(
            delta_chunk(self._head, piece.index, piece.text, reasoning, piece.tools, piece.logprobs or None)
        )

    def _begin(self, index: int) -> Iterator[bytes]:
        if index not in self._begun:
            self._begun.add(index)
            yield self._event(delta_chunk(self._head, index, role=True))

    def _event(self, chunk: dict[str, Any]) -> bytes:
        """As at OpenAI, `usage` is null in every chunk but the last where it was asked for."""
        return sse.event(chunk | {"usage": None} if self._asked.stream_usage else chunk)


def _told(item: Heard, texts: bool) -> dict[str, Any] | None:
    """What happens inside a fusion. Token by token only where `texts`."""
    if isinstance(item, FusionBegan):
        return {"event": "started", "fusion": item.fusion}
    if isinstance(item, MemberStarted):
        return _member("panel.added", item.model, item.sample, item.round)
    if isinstance(item, MemberDelta):
        return _member_delta(item) if texts else None
    if isinstance(item, MemberDone):
        answer = item.answer
        return _member("panel.completed", answer.model, answer.sample, answer.round) | {"content": answer.text}
    if isinstance(item, MemberFailed):
        return {"event": "panel.failed"} | failed_models([item.failure])[0]
    if isinstance(item, AnalysisStarted):
        return {"event": "analysis.in_progress", "model": item.model}
    if isinstance(item, AnalysisDone):
        body = None if item.analysis is None else analysis_body(item.analysis)
        return {"event": "analysis.completed", "analysis": body}
    if isinstance(item, WriterStarted):
        return {"event": "writer.started", "model": item.model}
    if isinstance(item, Guarded):
        return {"event": "guard.completed", "kept": item.verdict.kept, "margin": round(item.verdict.margin, 6)}
    if isinstance(item, FusionEnded):
        return {"event": "completed"} if item.fused is not None else {"event": "failed", "failure_reason": item.code}
    return None


def _member(event: str, model: str, sample: int, turn: int) -> dict[str, Any]:
    body: dict[str, Any] = {"event": event, "model": model, "sample": sample}
    return body | {"round": turn} if turn else body


def _member_delta(item: MemberDelta) -> dict[str, Any]:
    body = _member("panel.delta", item.model, item.sample, item.round)
    if item.text:
        body["delta"] = item.text
    if item.reasoning:
        body["reasoning"] = item.reasoning
    return body
