"""A group of models as the turn-taker sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from local_fusion.cluster.line import Line
from local_fusion.cluster.replica import Replica
from local_fusion.cluster.turns import Demand


class ModelGroup:
    """Lines and replicas of the models that are awake together. Satisfies `turns.Troupe`."""

    def __init__(self, lines: Sequence[Line[Replica]], replicas: Sequence[Replica], level: int) -> None:
        self._lines = lines
        self._replicas = replicas
        self._level = level

    def demand(self) -> Demand:
        """Over all its lines."""
        return Demand(
            waiting=sum(line.waiting for line in self._lines),
            oldest_s=max((line.oldest_s for line in self._lines), default=0.0),
            under_way=sum(line.taken for line in self._lines),
        )

    def hold(self) -> None:
        """Let no more calls in."""
        for line in self._lines:
            line.asleep = True

    async def sleep(self) -> None:
        """Give the GPUs back."""
        self.hold()
        await asyncio.gather(*(replica.sleep(self._level) for replica in self._replicas))

    async def wake(self) -> None:
        """Take the GPUs and let calls in."""
        await asyncio.gather(*(replica.wake() for replica in self._replicas))
        for line in self._lines:
            line.asleep = False
            line.refresh()
