"""A small fusion on scripted engines, engines that count what they are asked, and an evaluation in one call."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from local_fusion.config import Config, parse_config
from local_fusion.engine import Engine, PassingEngine
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.evaluate.evaluation import Order, evaluate
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.plans import make_plan
from local_fusion.evaluate.runner import Evaluated
from local_fusion.evaluate.sets import EvalSet
from local_fusion.evaluate.store import CallStore
from local_fusion.fusion.recipe import Recipe, make_recipe
from local_fusion.types import Call, Completion, Delta, LabelCall, LabelRead, Message

CONFIG = """
models:
  ada: {engine: scripted, scripted: {answers: ["The sum is 4.", "The sum is 5."], prefer: "is 4"}}
  bob: {engine: scripted, scripted: {answers: ["It is 4.", "It is 6.", "It is 9."]}}
  cyd: {engine: scripted, scripted: {answers: ["It is 7."]}}
  jed: {engine: scripted, scripted: {answers: ["It is 4."], prefer: "is 4"}}
fusions:
  trio: {panel: [ada, bob, cyd], judge: jed, mode: merge}
"""


class CountingEngine(PassingEngine):
    """Counts the ids of the calls that reach the engine, and appends each to `log`, where there is one, first."""

    def __init__(self, engine: Engine, log: Path | None = None) -> None:
        super().__init__(engine)
        self.asked: Counter[str] = Counter()
        self._log = log

    def _note(self, call_id: str) -> None:
        self.asked[call_id] += 1
        if self._log is not None:
            with self._log.open("a") as lines:
                lines.write(json.dumps(call_id) + "\n")

    async def generate(self, call: Call) -> Completion:
        self._note(call.id)
        return await super().generate(call)

    async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
        self._note(call.id)
        async for item in super().stream(call):
            yield item

    async def label_read(self, call: LabelCall) -> LabelRead:
        self._note(call.id)
        return await super().label_read(call)


def config_of(text: str = CONFIG) -> Config:
    return parse_config(text)


def engines_of(config: Config, log: Path | None = None) -> dict[str, CountingEngine]:
    """A counting scripted engine per model."""
    return {name: CountingEngine(ScriptedEngine(name, model.scripted), log) for name, model in config.models.items()}


def recipe_of(config: Config, **changes: object) -> Recipe:
    """The fusion `trio` with settings changed."""
    settings = config.fusions["trio"]
    return make_recipe("trio", type(settings).model_validate(settings.model_dump() | changes), config.models)


def sums(count: int) -> list[Item]:
    """Items whose right answer is 4."""
    prompts = [f"What is 2 + 2? ({number})" for number in range(count)]
    return [Item(f"sum-{n}", (Message("user", prompt),), "number", 4) for n, prompt in enumerate(prompts)]


def order_of(
    folder: Path, items: Sequence[Item], recipe: Recipe, arms: Sequence[str] = (), grader: str = "jed", **more: object
) -> Order:
    """An order over `items`; the judge alone is an arm."""
    config = config_of()
    alone = recipe_of(config, panel=["jed"], judge="jed", mode="best-of")
    plan = make_plan(recipe, arms, alone)
    return Order(EvalSet("sums", "own", tuple(items), "0" * 64), recipe, plan, grader, folder, **more)


async def run(order: Order, engines: dict[str, CountingEngine], retry_failed: bool = False) -> Evaluated:
    """Evaluate once; the folder is free again afterwards."""
    store = CallStore(order.folder, dict.fromkeys(order.models, "same"), retry_failed)
    try:
        return await evaluate(order, engines, store)
    finally:
        store.close()


def asked(engines: dict[str, CountingEngine], stage: str = "") -> int:
    """Calls that reached the engines, of one stage or all."""
    return sum(
        count
        for engine in engines.values()
        for call_id, count in engine.asked.items()
        if not stage or call_id.split("/")[1] == stage
    )
