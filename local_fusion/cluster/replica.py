"""One replica of a model: its host's life from start to stop, watched, and started again when it dies or hangs.

Invariant: while `state` is `ready` the host answered its last probe or has sent events since; in any other state it
takes no new calls. What was under way on a host that is gone ends with `HostLost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from local_fusion.cluster.actor import create_actor, drop_actor, missing
from local_fusion.cluster.budget import RestartBudget
from local_fusion.cluster.carrier import Carrier, Gone, Question, RayCarrier
from local_fusion.cluster.direct import direct_line
from local_fusion.cluster.mailbox import HostLost, Mailbox
from local_fusion.cluster.plan import HostPlan
from local_fusion.cluster.session import Session
from local_fusion.cluster.state import HostState, State
from local_fusion.errors import CallError, LocalFusionError, StartError
from local_fusion.types import EngineInfo

_MARGIN_S = 2.0  # a probe's own time limit is kept in the host; this is for the message
_PLACING_S = 300.0
_SHUTDOWN_S = 20.0
_LONGEST_PAUSE_S = 30.0
_DEFAULT_IN_FLIGHT = 1024


class Replica:
    """`changed` is called whenever places may have come free or the state changed."""

    def __init__(self, plan: HostPlan, session: Session, changed: Callable[[Replica], None]) -> None:
        self.plan = plan
        self._session = session
        self._changed = changed
        self._actor: Any = None
        self._group: Any = None
        self._mailbox: Mailbox | None = None
        self._carrier: Carrier | None = None
        self._watch: asyncio.Task[None] | None = None
        self._revival: asyncio.Task[None] | None = None
        self._gone_asleep = False
        self.state: State = "starting"
        self.detail = ""
        self.taken = 0
        self.restarts = 0
        self._budget = RestartBudget(plan.settings.restarts)
        self.pid: int | None = None
        self.node: str | None = None
        self.info: EngineInfo | None = None
        self.last_probe_s: float | None = None
        self.running: int | None = None
        self.start_s: float | None = None
        self.capacity = plan.settings.in_flight or _DEFAULT_IN_FLIGHT

    @property
    def free(self) -> int:
        return max(0, self.capacity - self.taken) if self.state == "ready" else 0

    @property
    def mailbox(self) -> Mailbox:
        """Of the host that is up now. Raises HostLost where none is."""
        if self._mailbox is None:
            raise HostLost(f"{self.plan.model}: its host is not up")
        return self._mailbox

    def view(self, waiting: int = 0) -> HostState:
        """Now, as a value."""
        return HostState(
            model=self.plan.model,
            replica=self.plan.index,
            state=self.state,
            in_flight=self._mailbox.in_flight if self._mailbox is not None else 0,
            waiting=waiting,
            running=self.running,
            restarts=self.restarts,
            pid=self.pid,
            node=self.node,
            last_probe_s=self.last_probe_s,
            start_s=self.start_s,
            detail=self.detail,
        )

    async def start(self) -> None:
        """Bring the host up; returns when its one-token probe was answered. Raises StartError or a UserError."""
        begun = monotonic()
        try:
            async with asyncio.timeout(self.plan.settings.start_timeout_s):
                await self._bring_up()
        except TimeoutError:
            lacks = "" if self.pid else f": {missing(self.plan)}"
            await self._drop()
            limit = f"{self.plan.settings.start_timeout_s:g} s (models.start_timeout_s)"
            raise StartError(f"{self.plan.model}: not ready within {limit}{lacks}") from None
        except BaseException:
            await self._drop()
            raise
        self.start_s = monotonic() - begun
        self._budget.is_up()
        self._enter("ready")
        self._watch = asyncio.get_running_loop().create_task(self._watch_over())

    async def stop(self) -> None:
        """Shut the engine down, then its process; idempotent."""
        for task in (self._watch, self._revival):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._watch = self._revival = None
        if self._actor is not None and self.state in ("ready", "asleep"):
            with contextlib.suppress(RayError, TimeoutError, LocalFusionError):
                await asyncio.wait_for(self._actor.shutdown.remote(), _SHUTDOWN_S)
        await self._drop(orderly=True)
        self._enter("closed")

    async def sleep(self, level: int) -> None:
        """Give the GPU back; the caller has seen to it that nothing is under way. Waits for a restart to end first."""
        if self._revival is not None and not self._revival.done():
            await asyncio.wait([self._revival])
        if self.state not in ("ready", "not_ready"):
            return
        self._enter("asleep")
        try:
            await asyncio.wait_for(self._actor.sleep.remote(level), self.plan.settings.start_timeout_s)
        except (RayError, TimeoutError):
            self._gone_asleep = True
            await self._drop()

    async def wake(self) -> None:
        """The reverse; a host that died in its sleep, or cannot wake, is started afresh. Does not raise."""
        if self.state != "asleep":
            return
        if not self._gone_asleep:
            limit = self.plan.settings.start_timeout_s
            try:
                await asyncio.wait_for(self._actor.wake.remote(), limit)
            except TimeoutError:
                self.detail = f"it did not wake within {limit:g} s (models.start_timeout_s)"
            except RayError as problem:
                self.detail = str(_start_error(self.plan.model, problem))
            else:
                self._enter("ready")
                return
        self._gone_asleep = False
        self._enter("restarting")
        await self._revive()

    async def ask(self, question: Question, *packed: bytes) -> Any:
        """Ask the host something that takes no place. Raises CallError, or HostLost where it went away."""
        if self._carrier is None:
            raise HostLost(f"{self.plan.model}: its host is not up")
        try:
            return await self._carrier.ask(question, *packed)
        except Gone as gone:
            raise HostLost(f"{self.plan.model}: {gone}") from None

    def abort(self, call_ids: Sequence[str]) -> None:
        """Stop these calls; unknown ids are ignored."""
        if self._mailbox is not None:
            self._mailbox.abort(call_ids)

    async def probe(self) -> bool:
        """One token, now; whether it came in time."""
        limit = self.plan.runtime.probe_timeout_s
        begun = monotonic()
        try:
            health = await asyncio.wait_for(self._actor.check.remote(limit), limit + _MARGIN_S)
        except TimeoutError:
            self.detail = f"no answer to its probe within {limit:g} s"
            return False
        except (RayError, CallError) as problem:
            self.detail = f"its probe failed with {type(problem).__name__}"
            return False
        self.last_probe_s = monotonic() - begun
        self.running, self.detail = health.running, health.detail
        return bool(health.ready)

    async def _bring_up(self) -> None:
        try:
            async with asyncio.timeout(_PLACING_S):
                self._actor, self._group = await create_actor(self.plan)
                self.pid, self.node = await self._actor.hello.remote()
        except TimeoutError:
            raise StartError(f"{self.plan.model}: not placed within {_PLACING_S:g} s: {missing(self.plan)}") from None
        except RayError as problem:
            raise _start_error(self.plan.model, problem) from problem
        try:
            self.info, _ = await self._actor.start.remote()
        except RayTaskError as problem:
            raise _start_error(self.plan.model, problem) from None
        except RayActorError as problem:
            words = self._session.last_words(self.pid) if self.pid else ""
            raise StartError(
                f"{self.plan.model}: its process died while it started{': ' + words if words else ''}"
            ) from problem
        if self.plan.settings.in_flight is None and self.info.max_running:
            self.capacity = max(1, int(self.info.max_running * 1.1))
        if not await self.probe():
            raise StartError(
                f"{self.plan.model}: started, but {self.detail or 'gave no answer to its one-token probe'}"
            )
        self._carrier = await self._line()
        self._mailbox = Mailbox(self._carrier, self.plan.model, self._lost)
        self._mailbox.open()

    async def _line(self) -> Carrier:
        """Directly to a host on this node, else through Ray."""
        if self.plan.runtime.direct and self.node == ray.get_runtime_context().get_node_id():
            try:
                line = await direct_line(self._actor.listen.remote, self._session.folder)
            except RayError as problem:
                raise _start_error(self.plan.model, problem) from problem
            if line is not None:
                return line
        return RayCarrier(self._actor, self.plan.model)

    def _lost(self, reason: str) -> None:
        """The host is gone or must go: give its calls back and begin again; a sleeping one when it is woken."""
        if self.state not in ("ready", "not_ready", "asleep"):
            return
        self.detail = reason
        if self._mailbox is not None:
            self._mailbox.close(reason)
        if self.state == "asleep":
            self._gone_asleep = True
            return
        self._enter("restarting")
        self._revival = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        while self._budget.take():
            self.restarts += 1
            await self._drop()
            try:
                await self.start()
            except LocalFusionError as problem:
                self.detail = problem.message
            except Exception as problem:  # whatever it is: a host that nobody starts again would be waited for for ever
                self.detail = f"{type(problem).__name__} while it was started again"
            else:
                return
            await asyncio.sleep(min(_LONGEST_PAUSE_S, 0.1 * 2 ** min(self._budget.used, 16)))
        await self._drop()
        self.detail = f"{self.detail}; it was started again {self._budget.used} times in a row (models.restarts)"
        self._enter("failed")

    async def _watch_over(self) -> None:
        """Probe it for ever. A host that has sent events since the last look is alive, however busy."""
        while True:
            seen = self._events
            await asyncio.sleep(self.plan.runtime.probe_every_s)
            if not self._is("ready") or self._events != seen:
                continue
            if await self.probe() or not self._is("ready") or self._events != seen:
                continue
            self._enter("not_ready")  # no new calls, and one more chance: this machine itself may be busy
            alive = await self.probe() or self._events != seen
            if not self._is("not_ready"):
                continue
            if not alive:
                self._lost(self.detail or "it hangs")
                return
            self._enter("ready")

    def _is(self, state: State) -> bool:
        return self.state == state

    @property
    def _events(self) -> int:
        return self._mailbox.events if self._mailbox is not None else 0

    async def _drop(self, orderly: bool = False) -> None:
        """End the process and free what Ray reserved for it; unless `orderly`, kill it at once, hung or not."""
        if self._mailbox is not None:
            self._mailbox.close("its host was stopped")
            self._mailbox = self._carrier = None
        actor, group, pid = self._actor, self._group, self.pid
        self._actor = self._group = self.pid = None
        if actor is not None:
            drop_actor(actor, group)
            if pid is not None and not orderly and self.node == ray.get_runtime_context().get_node_id():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)

    def _enter(self, state: State) -> None:
        if self.state != state:
            self.state = state
            self._changed(self)


def _start_error(model: str, problem: RayError) -> LocalFusionError:
    """What was raised inside the host, as it is where it is ours, else its innermost cause in a sentence."""
    cause: BaseException = problem
    if isinstance(problem, RayTaskError) and problem.cause is not None:
        cause = problem.cause
    if isinstance(cause, LocalFusionError):
        return cause
    return StartError(f"{model}: {type(cause).__name__}: {cause}")
