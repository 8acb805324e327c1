"""A reply as the body of a chat completion, with as much of the receipt as the request asks for."""

from __future__ import annotations

from typing import Any

from local_fusion.openai_api.chat_reply import (
    ChoiceBody,
    Head,
    Rest,
    chat_body,
    failed_fusion_body,
    full_usage,
    fusion_body,
)
from local_fusion.openai_api.reply import usage
from local_fusion.openai_api.request import ChatRequest
from local_fusion.server.orders.order import FusionOrder, MemberOrder, Order, Reply


def body_of(reply: Reply, asked: ChatRequest, head: Head) -> dict[str, Any]:
    """The whole body; `head.model` is the writer's already."""
    choices = [
        ChoiceBody(
            said.text,
            said.finish_reason,
            said.reasoning if asked.show_reasoning else None,
            said.tool_calls,
            said.logprobs if asked.logprobs is not None else None,
        )
        for said in reply.said
    ]
    return chat_body(head, choices, Rest(usage_of_reply(reply, asked), fusion_of(reply, asked), asked.metadata))


def fusion_of(reply: Reply, asked: ChatRequest) -> dict[str, Any] | None:
    """The key `fusion`: None where no fusion had a part."""
    if reply.fused is not None:
        return fusion_body(reply.fused, asked.fusion.include) | {"writer": reply.model}
    if reply.failed is not None:
        return failed_fusion_body(reply.failed.code, reply.failed.error)
    return None


def usage_of_reply(reply: Reply, asked: ChatRequest) -> dict[str, Any]:
    """Sums over every call; by stage and member where asked for."""
    if asked.full_usage or "usage" in asked.fusion.include:
        return full_usage(reply.tokens, reply.calls)
    return usage(reply.tokens)


def first_model(order: Order) -> str:
    """Who is going to write the answer, as far as is known at the start."""
    if isinstance(order, FusionOrder):
        return order.recipe.writers[0]
    return order.model if isinstance(order, MemberOrder) else order.member.model
