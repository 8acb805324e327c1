"""What carries calls to a host and its events back, seen from the driver; and the way through Ray.

Ray reaches a host on any machine, at some milliseconds a message. `direct.py` is the other way, for a host on the
driver's own node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from time import monotonic
from typing import Any, Literal, Protocol, TypeAlias

from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from local_fusion.cluster.wire import Event, Submission, pack, unpack
from local_fusion.errors import CallError

Question: TypeAlias = Literal["count_tokens", "tokenize", "detokenize", "count_running"]
"""What a host answers at once, beside its calls."""
DIED = "its process died"
_COLLECT_S = 30.0
_UNAVAILABLE_S = 20.0
_PAUSE_S = 0.5


class Gone(Exception):
    """The host cannot be reached any more; says why."""


class Carrier(Protocol):
    """One host's line. `receive` runs from the first call to the last."""

    async def submit(self, group: Sequence[Submission]) -> None:
        """Send calls. Raises Gone, or CallError where just these cannot be sent."""

    async def abort(self, tickets: Sequence[int]) -> None:
        """Stop these calls; unknown ones are ignored. Does not raise: with the host, its calls are gone too."""

    def receive(self) -> AsyncGenerator[list[Event], None]:
        """Events in the order of each call, as they come. Ends by raising Gone."""

    async def ask(self, question: Question, *packed: bytes) -> Any:
        """The host's answer. Raises CallError or Gone."""

    def close(self) -> None:
        """Let go of the line; the host itself is another's business."""


class RayCarrier:
    """Messages are calls of the actor's methods; one standing `collect` waits for events."""

    def __init__(self, actor: Any, name: str) -> None:
        self._actor = actor
        self._name = name

    async def submit(self, group: Sequence[Submission]) -> None:
        """See `Carrier.submit`."""
        packed = pack(group)
        while True:
            try:
                await self._actor.submit.remote(packed)
            except ActorUnavailableError:
                await asyncio.sleep(_PAUSE_S)  # `receive` decides when that has lasted too long
                continue
            except RayActorError:
                raise Gone(DIED) from None
            except RayError as problem:
                raise CallError(f"{self._name}: could not be sent: {type(problem).__name__}") from None
            return

    async def abort(self, tickets: Sequence[int]) -> None:
        """See `Carrier.abort`."""
        try:
            await self._actor.abort.remote(tickets)
        except RayError:
            return

    async def receive(self) -> AsyncGenerator[list[Event], None]:
        """See `Carrier.receive`."""
        seen = 0
        silent_since: float | None = None
        while True:
            try:
                seen, packed = await self._actor.collect.remote(seen, _COLLECT_S)
            except ActorUnavailableError:
                silent_since = silent_since or monotonic()
                if monotonic() - silent_since > _UNAVAILABLE_S:
                    raise Gone("it cannot be reached") from None
                await asyncio.sleep(_PAUSE_S)
                continue
            except RayActorError:
                raise Gone(DIED) from None
            except RayError as problem:
                raise Gone(f"its mailbox failed with {type(problem).__name__}") from None
            silent_since = None
            yield unpack(packed)

    async def ask(self, question: Question, *packed: bytes) -> Any:
        """See `Carrier.ask`."""
        try:
            return await getattr(self._actor, question).remote(*packed)
        except RayTaskError as problem:
            if isinstance(problem.cause, CallError):
                raise problem.cause from None
            raise CallError(f"{self._name}: {question} failed with {type(problem.cause).__name__}") from None
        except RayActorError:
            raise Gone(DIED) from None

    def close(self) -> None:
        """Nothing is held."""
