"""Runs an evaluation: the panel once, then every arm over the same bytes, each answer graded.

Invariant: no call that ended is run twice, in whatever arm, session or order; stopping or killing the process loses
only calls under way. Arms run one after the other, so that none warms or slows another; items within an arm at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from local_fusion.batch.recall import RowEngines
from local_fusion.engine import Engines
from local_fusion.errors import FusionError, RunError
from local_fusion.evaluate.choosing import Chooser
from local_fusion.evaluate.grading import Grader
from local_fusion.evaluate.items import TURN, Grade, Item, PanelAnswer, Said
from local_fusion.evaluate.plans import EQUAL, PROBE, Arm, Plan, bought, equal_arm, probe
from local_fusion.evaluate.store import CallStore, number_of
from local_fusion.fusion.first_round import first_round, panel_asks
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.fusion.session import Session
from local_fusion.types import Answer, Fused, Message, Request

T = TypeVar("T")
_TRIES = 3
STOPPED = "the evaluation was stopped; run the same command again to go on"


@dataclass(frozen=True, slots=True)
class Step:
    """Where an evaluation stands: so many items of an arm done."""

    arm: str
    done: int
    total: int


@dataclass(frozen=True)
class Answered:
    """What one arm said to each item, and the grades, in the items' order."""

    arm: Arm
    said: tuple[Said, ...]
    grades: tuple[Grade, ...]

    @property
    def spent(self) -> int:
        """Prompt and completion tokens of all calls."""
        return sum(said.tokens.prompt + said.tokens.completion for said in self.said)


@dataclass(frozen=True)
class Evaluated:
    """Everything that was said and graded. `best`: per item, the member a self arm sampled (see `choosing`)."""

    plan: Plan
    items: tuple[Item, ...]
    panel: tuple[tuple[PanelAnswer, ...], ...]
    arms: tuple[Answered, ...]
    best: tuple[str, ...]

    def arm(self, name: str) -> Answered:
        """By name. Raises KeyError."""
        for answered in self.arms:
            if answered.arm.name == name:
                return answered
        raise KeyError(name)


@dataclass
class Runner:
    """Runs a plan. `seed`: root of every seed; `in_flight`: items at once; `stop`: set to end early."""

    engines: Engines
    store: CallStore
    grader: Grader
    seed: int = 0
    in_flight: int = 64
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hear: Callable[[Step], None] = lambda step: None

    async def run(self, plan: Plan, items: Sequence[Item]) -> Evaluated:
        """Panel, members, the other arms, oracle. Raises RunError where it is stopped or writing fails."""
        panel = await self._each("panel", items, lambda _, item: self._panel(plan.panel, item))
        members = [await self._arm(arm, items, [""] * len(items), []) for arm in plan.members]
        first = members[0].said
        if any(item.match == "pair" and "baseline" not in item.details for item in items):
            members = [await self._arm(arm, items, [""] * len(items), first) for arm in plan.members]
        chooser = Chooser(items, {one.arm.name: one.grades for one in members})
        best = chooser.best
        arms = list(members)
        for arm in plan.others:
            if arm.kind == "oracle":
                arms.append(_oracle(arm, panel, members))
            elif arm.name == EQUAL:
                arms.append(await self._equal(plan, items, best, arms, first))
            else:
                arms.append(await self._arm(arm, items, best if arm.kind == "self" else [""] * len(items), first))
            self.store.sync()
        return Evaluated(plan, tuple(items), tuple(panel), tuple(arms), tuple(best))

    async def answer(self, arm: Arm, items: Sequence[Item], first: Sequence[Said] = ()) -> Answered:
        """One arm alone, of one recipe, over every item. `first`: what pairs are judged against where an item has no
        baseline of its own. Raises RunError as `run` does."""
        answered = await self._arm(arm, items, [""] * len(items), first)
        self.store.sync()
        return answered

    async def _equal(
        self, plan: Plan, items: Sequence[Item], best: Sequence[str], arms: Sequence[Answered], first: Sequence[Said]
    ) -> Answered:
        """The equal-compute arm. What a sample costs is seen on fewer or more of them: where the values cannot be
        counted the judge reads, and its reads do not grow with their number alone."""
        known = {one.arm.name: one for one in arms}
        tried = known.get(PROBE) or await self._arm(probe(plan.panel), items, best, first)
        samples, budget = plan.panel.answers, known[plan.main].spent
        for _ in range(_TRIES):
            wanted = bought(samples, tried.spent, budget)
            if tried.arm.name == EQUAL and wanted == samples:
                break
            samples = wanted
            tried = await self._arm(equal_arm(plan.panel, plan.main, samples), items, best, first)
        return tried

    async def _panel(self, recipe: Recipe, item: Item) -> tuple[PanelAnswer, ...]:
        """The first round, every answer graded; fewer than the quorum is what it is."""
        session = Session(self._request(item), recipe, self._row(item), None)
        try:
            answers = await first_round(session, panel_asks(session, final=False), required=False)
        finally:
            await session.close()
        return tuple([await self._graded(item, answer) for answer in answers])

    async def _graded(self, item: Item, answer: Answer) -> PanelAnswer:
        judged_later = item.match == "pair" or bool(item.then)
        grade = Grade(None) if judged_later else await self.grader.grade(item, Said((answer.text,), answer.model))
        return PanelAnswer(
            answer.model, answer.sample, answer.text, answer.certainty, grade, answer.timing, answer.tokens
        )

    async def _arm(self, arm: Arm, items: Sequence[Item], keys: Sequence[str], first: Sequence[Said]) -> Answered:
        """One arm over every item; `keys`: which of its recipes each item is answered by."""

        async def one(place: int, item: Item) -> tuple[Said, Grade]:
            said = await self._answer(arm.recipes[keys[place]], item)
            baseline = first[place].texts if first else ()
            if item.match == "pair" and not first and "baseline" not in item.details:
                return said, Grade(None)
            return said, await self.grader.grade(item, said, baseline)

        pairs = await self._each(arm.name, items, one)
        return Answered(arm, tuple(said for said, _ in pairs), tuple(grade for _, grade in pairs))

    async def _answer(self, recipe: Recipe, item: Item) -> Said:
        """Every turn of an item, each in the conversation this arm has had."""
        engines, request = self._row(item), self._request(item)
        done: list[Fused] = []
        for turn in range(1 + len(item.then)):
            try:
                done.append(await fuse(request, recipe, engines))
            except FusionError as problem:
                said = _said(done)
                return replace(said, failure=problem.code, texts=("",), calls=(*said.calls, *problem.calls))
            if turn < len(item.then):
                talk = (*request.messages, Message("assistant", done[-1].text), Message("user", item.then[turn]))
                request = replace(request, id=f"{item.id}{TURN}{turn + 2}", messages=talk)
        return _said(done)

    def _request(self, item: Item) -> Request:
        return Request(item.id, item.messages, self.seed)

    def _row(self, item: Item) -> RowEngines:
        return RowEngines(self.engines, self.store, number_of(item.id), self.stop.is_set)

    async def _each(self, name: str, items: Sequence[Item], work: Callable[[int, Item], Awaitable[T]]) -> list[T]:
        """`work` over every item, so many at once; raises RunError once `stop` is set."""
        results: dict[int, T] = {}
        waiting: Iterator[tuple[int, Item]] = iter(enumerate(items))

        async def worker() -> None:
            for place, item in waiting:
                if self.stop.is_set():
                    return
                results[place] = await work(place, item)
                self.hear(Step(name, len(results), len(items)))
                await asyncio.sleep(0)

        self.hear(Step(name, 0, len(items)))
        workers = [asyncio.create_task(worker()) for _ in range(min(self.in_flight, len(items)))]
        watch = asyncio.create_task(self._watch(workers))
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in (watch, *workers):
                task.cancel()
            await asyncio.gather(watch, *workers, return_exceptions=True)
        if self.stop.is_set():
            self.store.sync()
            raise RunError(STOPPED)
        for task in workers:
            problem = None if task.cancelled() else task.exception()  # the one that failed, not those it stopped
            if problem is not None:
                raise problem
        return [results[place] for place in range(len(items))]

    async def _watch(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Cancel what is under way once a stop is asked for: finished calls are kept, the others run again."""
        await self.stop.wait()
        for worker in workers:
            worker.cancel()


def _said(done: Sequence[Fused]) -> Said:
    if not done:
        return Said(("",))
    last = done[-1]
    choice = last.receipt.choice
    return Said(
        texts=tuple(fused.text for fused in done),
        model=last.model,
        why=last.receipt.why,
        verdict=last.receipt.verdict,
        probabilities=choice.probabilities if choice is not None else (),
        calls=tuple(call for fused in done for call in fused.receipt.calls),
    )


def _oracle(arm: Arm, panel: Sequence[Sequence[PanelAnswer]], members: Sequence[Answered]) -> Answered:
    """Per item the best graded answer of the panel; where its answers were not graded one by one, the best member."""
    said, grades = [], []
    for place, answers in enumerate(panel):
        pool = [(Said((one.text,), one.model), one.grade) for one in answers]
        pool += [(one.said[place], one.grades[place]) for one in members]
        scored = [(text, grade) for text, grade in pool if grade.score is not None]
        best = max(scored, key=lambda pair: pair[1].score or 0.0, default=(Said(("",)), Grade(None)))
        said.append(replace(best[0], calls=(), verdict=None, why=""))
        grades.append(best[1])
    return Answered(arm, tuple(said), tuple(grades))
