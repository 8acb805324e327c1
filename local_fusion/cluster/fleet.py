"""All hosts of a run: started together, watched, restarted, put to sleep and woken, and ended without a trace.

The wiring of this room, readable top to bottom. Satisfies `Engines`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from local_fusion.cluster.group import ModelGroup
from local_fusion.cluster.line import Line
from local_fusion.cluster.plan import Plan, make_plan
from local_fusion.cluster.remote import RemoteEngine
from local_fusion.cluster.replica import Replica
from local_fusion.cluster.session import Session
from local_fusion.cluster.state import HostState, Listen
from local_fusion.cluster.turns import TurnTaker
from local_fusion.config import Config
from local_fusion.engine import Engine


@dataclass(frozen=True, slots=True)
class _Model:
    """One model of the fleet: its replicas, the line before them, and the engine others see."""

    replicas: tuple[Replica, ...]
    line: Line[Replica]
    engine: RemoteEngine


class Fleet:
    """Engines by model name. Make it with `start`, end it with `close`, on the same event loop."""

    def __init__(self, session: Session, listen: Listen | None) -> None:
        self._session = session
        self._listen = listen
        self._models: dict[str, _Model] = {}
        self._turns: TurnTaker | None = None
        self._closed = False

    @classmethod
    async def start(cls, config: Config, models: Sequence[str], listen: Listen | None = None) -> Fleet:
        """Start a host for each replica of `models`, all together; ready when each answered a one-token probe.

        Where one fails, all are ended and the real cause is raised: StartError, or a UserError (model files,
        `vllm:` keys). `listen` hears of each change of a host's state.
        """
        names = tuple(dict.fromkeys(models))
        session = Session.open(config.runtime)  # on this thread: Ray's processes end with the one that started them
        fleet = cls(session, listen)
        try:
            await fleet._start(config, names)
        except BaseException:
            await fleet.close()
            raise
        return fleet

    def __getitem__(self, model: str) -> Engine:
        return self._models[model].engine

    def __contains__(self, model: object) -> bool:
        return model in self._models

    def snapshot(self) -> list[HostState]:
        """Every host as it is now."""
        return [
            replica.view(waiting=model.line.waiting) for model in self._models.values() for replica in model.replicas
        ]

    @property
    def swaps(self) -> int:
        """How often a group of models gave the GPUs to another."""
        return self._turns.swaps if self._turns is not None else 0

    @property
    def swap_s(self) -> float:
        """Seconds spent on that."""
        return self._turns.swap_s if self._turns is not None else 0.0

    async def close(self) -> None:
        """End engines, then hosts, then the Ray session if it is ours; idempotent. Calls under way fail."""
        if self._closed:
            return
        self._closed = True
        if self._turns is not None:
            await self._turns.stop()
        for name, model in self._models.items():
            model.line.close(f"{name}: the fleet was closed")
        replicas = [replica for model in self._models.values() for replica in model.replicas]
        await asyncio.gather(*(replica.stop() for replica in replicas), return_exceptions=True)
        self._session.close()

    async def _start(self, config: Config, names: Sequence[str]) -> None:
        plan = make_plan(config, names, self._session.resources)
        for name in names:
            self._add(name, plan)
        groups = [self._group(names_of_group, plan) for names_of_group in plan.groups]
        if len(groups) > 1:
            self._turns = TurnTaker(groups)
        for group, names_of_group in zip(reversed(groups), reversed(plan.groups), strict=True):
            await self._start_group(names_of_group)
            if group is not groups[0]:
                await group.sleep()
        if self._turns is not None:
            self._turns.start()

    def _add(self, name: str, plan: Plan) -> None:
        hosts = plan.hosts[name]
        replicas = tuple(Replica(host, self._session, self._changed) for host in hosts)
        line = Line(replicas, self._arrived)
        engine = RemoteEngine(name, hosts[0].settings, replicas, line)
        self._models[name] = _Model(replicas, line, engine)

    def _group(self, names: Sequence[str], plan: Plan) -> ModelGroup:
        models = [self._models[name] for name in names]
        replicas = [replica for model in models for replica in model.replicas]
        return ModelGroup([model.line for model in models], replicas, plan.sleep_level)

    async def _start_group(self, names: Sequence[str]) -> None:
        """All together, but those that measure a GPU they share one after another, when its others are up.

        Large ones ask first, so that shares fill GPUs as they were counted. The first error ends the wait."""
        replicas = [replica for name in names for replica in self._models[name].replicas]
        replicas.sort(key=lambda replica: -replica.plan.placement.gpus)
        alone = [replica for replica in replicas if replica.plan.starts_alone]
        try:
            async with asyncio.TaskGroup() as tasks:
                starts = {tasks.create_task(replica.start()): replica for replica in replicas if replica not in alone}
                sharing = [start for start, replica in starts.items() if replica.plan.placement.shares_a_gpu]
                if alone and sharing:
                    await asyncio.wait(sharing)
                for replica in alone:
                    await replica.start()
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    def _arrived(self) -> None:
        if self._turns is not None:
            self._turns.poke()

    def _changed(self, replica: Replica) -> None:
        model = self._models[replica.plan.model]
        if all(one.state == "failed" for one in model.replicas):
            model.line.close(f"{replica.plan.model}: none of its hosts is left: {replica.detail}")
        else:
            model.line.refresh()
        if self._listen is not None:
            self._listen(replica.view(waiting=model.line.waiting))
