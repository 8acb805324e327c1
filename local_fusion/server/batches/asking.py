"""A batch row's body to what is run for it: the same orders as of interactive requests, but with seeds and ids that
follow from the batch and the row, so that a resumed run finds its finished calls; and of lower priority."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from local_fusion.engine import Engines
from local_fusion.errors import RequestError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.openai_api import parse_chat
from local_fusion.server.batches.member import ask_member, member_recipe
from local_fusion.server.batches.record import BatchRecord
from local_fusion.server.door.callers import Caller
from local_fusion.server.orders.choose import order_for
from local_fusion.server.orders.order import FusionOrder, MemberOrder, Order
from local_fusion.server.service import Service
from local_fusion.types import Fused, Request

PRIORITY = 10
"""Every call of a request of priority 0 goes before any of these."""


class Asker:
    """The rows of one batch: `ask` makes a row's request, `fuse` runs it."""

    def __init__(self, service: Service, record: BatchRecord) -> None:
        self._service = service
        self._record = record
        self._caller = Caller(record.owner, None if record.allowed is None else frozenset(record.allowed))
        self._orders: dict[str, tuple[Recipe, bool]] = {}
        self._members: dict[str, Recipe] = {}

    def recipe(self, model: str) -> Recipe:
        """The recipe of a name that the batch was found to use."""
        return self._service.catalog.fusion(model) or self._member(model)

    def ask(self, row_id: str, body: Mapping[str, Any]) -> Request:
        """The request of a row, its documents placed. Raises RequestError."""
        record = self._record
        if isinstance(body.get("messages"), list):
            placed = self._service.storage.documents.placed_now(record.owner, body["messages"])
            body = {**body, "messages": placed}
        asked = parse_chat(body)
        if asked.stream:
            raise RequestError("a batch does not stream; leave stream out", "unsupported_field", "stream")
        request_id = f"{record.id}/{row_id}"
        if asked.seed is None:
            asked = replace(asked, seed=_seed(request_id))
        request = self._request(order_for(self._service, self._caller, asked, request_id))
        return replace(request, metadata={**asked.metadata, **asked.labels})

    async def fuse(self, request: Request, recipe: Recipe, engines: Engines) -> Fused:
        """Run a request that `ask` has made. Raises FusionError."""
        own, alone = self._orders.pop(request.id)
        fused = await (ask_member(request, own, engines) if alone else fuse(request, own, engines))
        self._service.storage.spent(self._caller, fused)
        return fused

    def _member(self, model: str) -> Recipe:
        if model not in self._members:
            self._members[model] = member_recipe(self._service.config, model)
        return self._members[model]

    def _request(self, order: Order) -> Request:
        if isinstance(order, FusionOrder):
            if not order.parallel_tools:
                raise RequestError(
                    "parallel_tool_calls must be true in a batch; leave it out",
                    "unsupported_field",
                    "parallel_tool_calls",
                )
            self._orders[order.request.id] = order.recipe, False
            return replace(order.request, priority=PRIORITY)
        if not isinstance(order, MemberOrder):
            raise RequestError(
                "a row of a batch asks a fusion or one model; leave the fusion plugin and tool out",
                "unsupported_field",
                "plugins",
            )
        for field, wrong in (
            ("n", order.n != 1),
            ("logprobs", order.logprobs is not None),
            ("parallel_tool_calls", not order.parallel_tools),
        ):
            if wrong:
                raise RequestError(f"{field} is not supported in a batch; leave it out", "unsupported_field", field)
        self._orders[order.id] = self._member(order.model), True
        return Request(
            id=order.id,
            messages=order.messages,
            seed=order.seed,
            sampling=order.sampling,
            json_schema=order.json_schema,
            tools=order.tools,
            tool_choice=order.tool_choice,
            cache_salt=order.cache_salt,
            priority=PRIORITY,
        )


def _seed(request_id: str) -> int:
    """53 bits that follow from batch and row."""
    return int.from_bytes(blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()) >> 11
