"""A batch row's body to what is run for it: the same orders as of interactive requests, but with seeds and ids that
follow from the batch and the row, so that a resumed run finds its finished calls; and of lower priority."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from local_fusion.batch.recall import RowEngines
from local_fusion.engine import Engines
from local_fusion.errors import CallAborted, FusionError, RequestError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.openai_api import parse_chat
from local_fusion.server.batches.member import ask_member, member_recipe
from local_fusion.server.batches.record import BatchRecord
from local_fusion.server.documents.place import as_sent
from local_fusion.server.door.callers import Caller
from local_fusion.server.door.limits import check_counts, check_depth
from local_fusion.server.orders.choose import order_for
from local_fusion.server.orders.order import FusionOrder, MemberOrder, Order
from local_fusion.server.problems import Overloaded
from local_fusion.server.service import Service
from local_fusion.types import Fused, Request

LOOK_S = 1.0
"""Seconds after which a row that waits for tokens looks again at most: limits may have been raised."""
PRIORITY = 10
"""Every call of a request of priority 0 goes before any of these."""


class Asker:
    """The rows of one batch: `ask` makes a row's request, `fuse` runs it. `halt`: no more rows shall begin."""

    def __init__(self, service: Service, record: BatchRecord, caller: Caller, halt: asyncio.Event) -> None:
        self._service = service
        self._record = record
        self._halt = halt
        self._last = caller
        self._orders: dict[str, tuple[Recipe, bool]] = {}
        self._members: dict[str, Recipe] = {}

    def recipe(self, model: str) -> Recipe:
        """The recipe of a name that the batch was found to use."""
        return self._service.catalog.fusion(model) or self._member(model)

    def ask(self, row_id: str, body: Mapping[str, Any]) -> Request:
        """The request of a row, its documents placed. Raises RequestError."""
        check_depth(body)
        check_counts(dict(body))
        record = self._record
        sent = body.get("messages")
        if isinstance(sent, list):
            body = {**body, "messages": self._service.storage.documents.placed_now(record.owner, sent)}
        with as_sent(sent, body.get("messages")):
            asked = parse_chat(body)
        if asked.stream:
            raise RequestError("a batch does not stream; leave stream out", "unsupported_field", "stream")
        request_id = f"{record.id}/{row_id}"
        if asked.seed is None:
            asked = replace(asked, seed=_seed(request_id))
        request = self._request(order_for(self._service, self._caller, asked, request_id))
        return replace(request, metadata={**asked.metadata, **asked.labels})

    async def fuse(self, request: Request, recipe: Recipe, engines: Engines) -> Fused:
        """Run a request that `ask` has made, once its key has tokens left. Raises FusionError."""
        own, alone = self._orders.pop(request.id)
        await self._its_turn(engines)
        storage = self._service.storage
        try:
            fused = await (ask_member(request, own, engines) if alone else fuse(request, own, engines))
        except FusionError as problem:
            storage.wasted(self._caller, problem)
            raise
        storage.spent(self._caller, fused, alone)
        return fused

    @property
    def _caller(self) -> Caller:
        """The batch's key as it stands now; as it last was where it has been removed: then no row begins."""
        self._last = self._service.key_of(self._record.owner) or self._last
        return self._last

    async def _its_turn(self, engines: Engines) -> None:
        """Wait for tokens. Where no row shall begin any more, this one is left to the batch's next run."""
        while not self._halt.is_set():
            try:
                self._service.admission.check_tokens(self._caller)
                return
            except Overloaded as problem:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_S, float(problem.headers["retry-after"]))):
                        await self._halt.wait()
        if isinstance(engines, RowEngines):
            engines.abandoned = True
        raise CallAborted("the batch has stopped before this row began")

    def _member(self, model: str) -> Recipe:
        if model not in self._members:
            catalog = self._service.catalog
            limit_s = catalog.recipes[catalog.default].settings.member_timeout_s
            self._members[model] = member_recipe(self._service.config, model, limit_s)
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
