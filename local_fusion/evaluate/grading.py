"""Grades what an arm said by the item's own rule: without a model, in the sandbox, or by a judge model.

Invariant: the same texts to the same item get the same grade, and are graded once, whichever arms said them: code,
above all, is run once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from local_fusion.batch.recall import RowEngines
from local_fusion.engine import Engines
from local_fusion.errors import CallError
from local_fusion.evaluate.code_scorer import CodeScorer
from local_fusion.evaluate.items import JUDGED, Grade, Item, Said
from local_fusion.evaluate.judged import JudgeGrader
from local_fusion.evaluate.scorers import PURE, quote
from local_fusion.evaluate.store import CallStore, number_of

Given = Callable[[str, str], bool]
"""A set's own grader: (expected, text) to right or wrong."""
Known = dict[tuple[str, tuple[str, ...], tuple[str, ...]], Grade]
"""Grades by item, texts and the texts they were held against."""


class Grader:
    """Grades texts. `model`: the judge for the kinds that need one. `given`: for items whose match is `given`. `known`:
    grades of the same items that no judge gave, by another grader of this process; added to here."""

    def __init__(
        self,
        engines: Engines,
        store: CallStore,
        model: str,
        given: Given | None = None,
        stopping: Callable[[], bool] = lambda: False,
        known: Known | None = None,
    ) -> None:
        self.model = model
        self._engines = engines
        self._store = store
        self._given = given
        self._stopping = stopping
        self._code = CodeScorer()
        self._known: Known = {} if known is None else known
        self._judged_already: Known = {}

    async def grade(self, item: Item, said: Said, baseline: Sequence[str] = ()) -> Grade:
        """The grade; an arm that failed has 0. `baseline`: the turns that a pair is judged against where the item has
        none."""
        if said.failure:
            return Grade(0.0, f"no answer: {said.failure}")
        against = tuple(item.details.get("baseline", baseline)) if item.match == "pair" else ()
        key = (item.id, said.texts, against)
        known = self._judged_already if item.match in JUDGED else self._known
        if key not in known:
            known[key] = await self._grade(item, said.texts, against)
        return known[key]

    async def _grade(self, item: Item, texts: tuple[str, ...], against: tuple[str, ...]) -> Grade:
        last = texts[-1]
        if item.match in PURE:
            return PURE[item.match](item, last)
        if item.match == "code":
            return await self._code.grade(item, last)
        if item.match in JUDGED:
            return await self._judged(item, texts, against)
        if self._given is None:
            return Grade(None, "the set brings no grader")
        right = self._given(str(item.expected), last)
        return Grade(float(right), f"expected {quote(item.expected)}")

    async def _judged(self, item: Item, texts: tuple[str, ...], against: tuple[str, ...]) -> Grade:
        row = RowEngines(self._engines, self._store, number_of(item.id), self._stopping)
        judge = JudgeGrader(self.model, row[self.model], item)
        try:
            if item.match == "rubric":
                return await judge.rubric(texts[-1])
            if item.match == "points":
                return await judge.points(texts)
            return await judge.pair(texts, against)
        except CallError as problem:
            return Grade(None, f"{self.model} could not grade it ({problem.reason})")
