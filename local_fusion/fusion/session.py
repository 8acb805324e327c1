"""One request being fused: every engine call goes through here, so that it is bounded, typed and entered once.

Invariants: a call lives no longer than the member timeout with its engine, and never beyond the deadline; whatever an
engine raises becomes a `CallError` with a typed reason; when the request ends or is cancelled, no call of it is left
running.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from local_fusion.answers import Reader
from local_fusion.engine import Engine, Engines, innermost
from local_fusion.errors import CallError, CallTimeout
from local_fusion.fusion.calls import call_id, digest_of, priority_of, seed_of
from local_fusion.fusion.clock import Clock, Overdue
from local_fusion.fusion.events import Event, Listener, deaf
from local_fusion.fusion.ledger import Ledger
from local_fusion.fusion.recipe import Recipe
from local_fusion.types import (
    Analysis,
    Answer,
    Call,
    Choice,
    Completion,
    Delta,
    EngineInfo,
    Failure,
    LabelCall,
    LabelRead,
    Message,
    Request,
    Sampling,
    Stage,
    Verdict,
)

T = TypeVar("T")
Heard = Callable[[Delta], None]
"""Hears each streamed piece."""
LEAVE_S = 1.0
INFO_S = 5.0
_INFOS: WeakKeyDictionary[Engine, EngineInfo] = WeakKeyDictionary()


class Session:
    """Engines, clock, ledger and what the receipt will say. One per `fuse()`; modes write their findings into it."""

    def __init__(self, request: Request, recipe: Recipe, engines: Engines, listener: Listener | None) -> None:
        self.request = request
        self.recipe = recipe
        self.settings = recipe.settings
        self.hear = listener.hear if listener else deaf
        self.deltas = listener is not None and bool(listener.deltas)
        self.member_deltas = listener is not None and listener.deltas is True
        self.ledger = Ledger()
        self.answers: list[Answer] = []
        self.failures: list[Failure] = []
        self.weights: dict[tuple[str, int], float] = {}
        self.notes: list[str] = []
        self.degraded: list[str] = []
        self.changed_minds: list[str] = []
        self.analysis: Analysis | None = None
        self.choice: Choice | None = None
        self.verdict: Verdict | None = None
        self.early_exit = False
        self.aborted = 0
        self._engines = engines
        self._loop = asyncio.get_running_loop()
        self._left: list[asyncio.Task[Any]] = []
        self.begun = self._loop.time()
        self.deadline = None if self.settings.deadline_s is None else self.begun + self.settings.deadline_s

    @cached_property
    def reader(self) -> Reader:
        """Reads the values of this request's answers."""
        return Reader(self.question)

    @property
    def question(self) -> str:
        """What the user said last."""
        said = [message.content for message in self.request.messages if message.role == "user"]
        return said[-1] if said else ""

    @property
    def seconds(self) -> float:
        return self._loop.time() - self.begun

    @property
    def expired(self) -> bool:
        """The deadline has passed: only what is at hand may be returned."""
        return self.deadline is not None and self._loop.time() >= self.deadline

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The client's tools, unless it forbids their use."""
        return () if self.request.tool_choice == "none" else self.request.tools

    @property
    def has_tools(self) -> bool:
        return bool(self.tools)

    @property
    def stop(self) -> tuple[str, ...]:
        """The client's stop strings."""
        return self.request.sampling.stop if self.request.sampling else ()

    @property
    def takes_answers(self) -> bool:
        """A member's answer, given without the client's schema and tools, may be the final one."""
        return self.request.json_schema is None and not self.has_tools

    def short_enough(self, answer: Answer) -> bool:
        """A member's answer is no longer than the client allows the final one to be; its thinking does not count."""
        most = self.request.max_tokens
        return most is None or said_tokens(answer) <= most

    def may_return(self, answer: Answer) -> bool:
        """A member's answer keeps everything the client asked of the final one."""
        return self.takes_answers and self.short_enough(answer)

    def degrade(self, phrase: str) -> None:
        if phrase not in self.degraded:
            self.degraded.append(phrase)

    def note(self, phrase: str) -> None:
        if phrase not in self.notes:
            self.notes.append(phrase)

    def weight(self, answer: Answer) -> float:
        """Weight of the vote of the seat that gave this answer."""
        return self.weights.get((answer.model, answer.sample), 1.0)

    def failed(self, model: str, stage: Stage, problem: CallError, sample: int = 0) -> Failure:
        """Enter the failure of a judge or writer call."""
        failure = Failure(model, problem.reason, problem.message, stage, sample)
        self.failures.append(failure)
        return failure

    def emit(self, event: Event) -> None:
        self.hear(event)

    def engine(self, model: str) -> Engine:
        """Raises CallError where no engine of that name runs."""
        if model not in self._engines:
            raise CallError(f"no engine named {model} is running; check the models of fusion {self.recipe.name}")
        return self._engines[model]

    async def info(self, model: str) -> EngineInfo:
        """What the engine says of itself, asked once per engine, whoever stands in front of it. Raises CallError."""
        engine = innermost(self.engine(model))
        known = _INFOS.get(engine)
        if known is None:
            known = await self._bounded(engine.info(), model, INFO_S)
            _INFOS[engine] = known
        return known

    async def count_tokens(self, model: str, conversations: Sequence[Sequence[Message]]) -> list[int]:
        work = self.engine(model).count_tokens(conversations)
        return await self._bounded(work, model, self.settings.member_timeout_s)

    async def generate(
        self,
        stage: Stage,
        model: str,
        sample: int,
        messages: tuple[Message, ...],
        sampling: Sampling,
        turn: int = 0,
        json_schema: Mapping[str, Any] | None = None,
        tools: tuple[Mapping[str, Any], ...] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        delta: Heard | None = None,
        clock: Clock | None = None,
    ) -> tuple[Completion, int]:
        """Run one generation to its end; returns it with its seed. `delta`: hears each piece; `clock`: runs with it.

        Raises CallError."""
        request = self.request
        seed = seed_of(request, model, sample, stage, turn)
        digest = digest_of(messages, sampling, seed, json_schema, tools, tool_choice)
        call = Call(
            id=call_id(request, stage, model, sample, digest),
            messages=messages,
            sampling=sampling,
            seed=seed,
            json_schema=json_schema,
            tools=tools,
            tool_choice=tool_choice,
            priority=priority_of(request, stage),
            timeout_s=self._timeout(),
            cache_salt=request.cache_salt,
            stream=delta is not None,
            stage=stage,
        )
        engine = self.engine(model)
        work = engine.generate(call) if delta is None else _streamed(engine, call, delta)
        completion = await self._bounded(work, model, self.settings.member_timeout_s, clock)
        self.ledger.enter(stage, sample, completion, seed, self.seconds)
        return completion, seed

    async def label_read(
        self, stage: Stage, model: str, sample: int, messages: tuple[Message, ...], labels: tuple[str, ...]
    ) -> LabelRead:
        """Read the log-probabilities of `labels` as the next token. Raises CallError."""
        kwargs = self.recipe.judge_sampling.chat_template_kwargs
        call = LabelCall(
            id=call_id(self.request, stage, model, sample, digest_of(messages, labels, kwargs)),
            messages=messages,
            labels=labels,
            priority=priority_of(self.request, stage),
            timeout_s=self._timeout(),
            cache_salt=self.request.cache_salt,
            stage=stage,
            chat_template_kwargs=kwargs,
        )
        read = await self._bounded(self.engine(model).label_read(call), model, self.settings.member_timeout_s)
        if len(read.logprobs) != len(labels):
            raise CallError(f"{model} read {len(read.logprobs)} labels of {len(labels)}")
        self.ledger.enter(stage, sample, read, ended_s=self.seconds)
        return read

    def leave(self, tasks: Sequence[asyncio.Task[Any]]) -> None:
        """Abort these tasks; their end is awaited when the session closes."""
        for task in tasks:
            if not task.done() and task not in self._left:
                task.cancel()
                self._left.append(task)

    async def close(self) -> None:
        """Wait, a second at most, until every aborted call has ended."""
        left = [task for task in self._left if not task.done()]
        if left:
            await asyncio.wait(left, timeout=LEAVE_S)

    def _timeout(self) -> float | None:
        limits = [self.settings.member_timeout_s]
        if self.deadline is not None:
            limits.append(max(0.0, self.deadline - self._loop.time()))
        return min((limit for limit in limits if limit is not None), default=None)

    async def _bounded(self, work: Awaitable[T], model: str, limit_s: float | None, clock: Clock | None = None) -> T:
        try:
            return await (clock or Clock()).limit(work, limit_s, self.deadline)
        except Overdue:
            raise self._late(model, limit_s) from None
        except TimeoutError:
            raise CallTimeout(f"{model}: the engine's own time for the call was up") from None
        except CallTimeout as problem:
            raise (self._late(model, limit_s) if self.expired else problem) from None
        except CallError:
            raise
        except Exception as problem:  # an engine's own bug must not take the row with it; its words may hold a prompt
            raise CallError(f"{model}: the engine raised {type(problem).__name__}") from None

    def _late(self, model: str, limit_s: float | None) -> CallTimeout:
        if self.expired:
            return CallTimeout(f"{model} was still busy when the request's deadline passed", "deadline")
        remedy = "raise member_timeout_s or shorten max_tokens"
        return CallTimeout(f"{model} did not end within {limit_s or 0:g} s; {remedy}")


def said_tokens(answer: Answer) -> int:
    """Tokens of the answer's text: all it took, less the share that its thinking has of the characters."""
    total = answer.tokens.completion
    if not answer.reasoning or not total:
        return total
    return math.ceil(total * len(answer.text) / (len(answer.text) + len(answer.reasoning)))


async def _streamed(engine: Engine, call: Call, delta: Heard) -> Completion:
    completion: Completion | None = None
    async with aclosing(engine.stream(call)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Delta):
                delta(piece)
            else:
                completion = piece
    if completion is None:
        raise CallError(f"the stream of call {call.id} ended without a completion")
    return completion
