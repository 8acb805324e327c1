"""From the body of a Responses request, or from a stored one, to an order ready to be run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from local_fusion.errors import RequestError
from local_fusion.openai_api.request import ChatRequest, parse_chat
from local_fusion.openai_api.responses_events import ResponseEvents
from local_fusion.openai_api.responses_input import chat_turns
from local_fusion.openai_api.responses_request import ResponsesRequest, parse_responses, renamed
from local_fusion.server.documents.place import as_sent
from local_fusion.server.door.callers import Caller
from local_fusion.server.ids import new_id, new_seed
from local_fusion.server.orders.choose import order_for
from local_fusion.server.orders.order import MemberOrder, Order
from local_fusion.server.responses.store import ResponseStore, Stored
from local_fusion.server.service import Service

EVENTS_PER_RUN = 10_000_000
"""A run begun again numbers its events from the next multiple, above all that a client may have seen."""


@dataclass(frozen=True, slots=True)
class Made:
    """A response about to be run. `chat`: its request as a chat; `stored`: its row as it stands before."""

    asked: ResponsesRequest
    caller: Caller
    order: Order
    chat: ChatRequest
    events: ResponseEvents
    stored: Stored


async def make(service: Service, store: ResponseStore, caller: Caller, body: Mapping[str, Any]) -> Made:
    """Check a body; nothing is begun. Its seed is settled here, so that it can be run again. Raises RequestError."""
    asked = parse_responses(body, new_id)
    asked = replace(asked, chat={"seed": new_seed(), **asked.chat})
    response_id, created = new_id("resp_"), int(time.time())
    chat, order = await _order(service, store, caller, asked, response_id)
    events = events_of(response_id, created, {**asked.head, "model": asked.head["model"] or _model(order)})
    request = {
        "chat": asked.chat,
        "head": asked.head,
        "instructions": asked.instructions,
        "stream": asked.stream,
    }
    stored = Stored(
        id=response_id,
        owner=caller.owner,
        created=created,
        status="queued",
        background=asked.background,
        attempts=0,
        previous=asked.previous,
        request=request,
        items=asked.items,
        body=events.body(),
    )
    return Made(asked, caller, order, chat, events, stored)


async def made_again(service: Service, store: ResponseStore, stored: Stored, caller: Caller) -> Made:
    """The same of a run that a restart interrupted; `caller`: its owner as the key stands now.

    Raises RequestError: what it needs is not there any more, or not for this key."""
    request = stored.request
    asked = ResponsesRequest(
        chat=request["chat"],
        items=stored.items,
        head=request["head"],
        instructions=request["instructions"],
        stream=request["stream"],
        background=True,
        previous=stored.previous,
    )
    chat, order = await _order(service, store, caller, asked, stored.id)
    return Made(asked, caller, order, chat, events_again(stored), stored)


def events_again(stored: Stored) -> ResponseEvents:
    """The events of one more run, numbered above those of the runs before."""
    head = {**stored.request["head"], "model": stored.body["model"]}
    return events_of(stored.id, int(stored.created), head, stored.attempts * EVENTS_PER_RUN)


def events_of(response_id: str, created: int, head: Mapping[str, Any], first: int = 0) -> ResponseEvents:
    """A response that nothing is known of yet but its request."""
    return ResponseEvents({"id": response_id, "object": "response", "created_at": created, **head}, new_id, first)


async def _order(
    service: Service, store: ResponseStore, caller: Caller, asked: ResponsesRequest, response_id: str
) -> tuple[ChatRequest, Order]:
    earlier = await store.conversation(caller.owner, asked.previous) if asked.previous else []
    turns = chat_turns(asked.instructions, earlier, asked.items)
    try:
        messages = await service.storage.documents.placed(caller.owner, list(turns.messages))
        with as_sent(list(turns.messages), messages):
            chat = parse_chat({**asked.chat, "messages": messages})
        return chat, order_for(service, caller, chat, response_id)
    except RequestError as problem:
        raise renamed(problem, turns) from None


def _model(order: Order) -> str:
    """What stands for the model until somebody has written, where the client named none."""
    return order.model if isinstance(order, MemberOrder) else order.recipe.name
