"""Members who each know some topics, a judge who knows what is right, and a calibration in one call."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from local_fusion.calibrate.bench import Bench
from local_fusion.calibrate.calibration import Calibrated, Order, calibrate
from local_fusion.calibrate.space import Space
from local_fusion.config import Config, parse_config
from local_fusion.config.schema import ScriptedSettings
from local_fusion.engine import PassingEngine
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.evaluate.grading import Grader
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.runner import Runner
from local_fusion.evaluate.sets import EvalSet
from local_fusion.evaluate.store import CallStore
from local_fusion.types import Call, Completion, LabelCall, LabelRead, Message

TOPICS = {
    "sums": "Add the two numbers and say the sum",
    "words": "Count the letters of the word",
    "days": "Name the day",
}
CONFIG = """
models:
  ann: {engine: scripted}
  bob: {engine: scripted}
  cyd: {engine: scripted}
  jed: {engine: scripted}
fusions:
  # the one to calibrate
  trio:
    panel: [ann, cyd, jed]  # shuffled
    judge: bob
    mode: best-of
  # another
  other: {panel: [ann]}
runtime: {hosts: local}
"""


class Member(PassingEngine):
    """Right ("It is 4.") on what it knows, by `chance`; `likes`: label reads favour candidates that contain it."""

    def __init__(
        self, name: str, knows: str = "", chance: float = 1.0, likes: str | None = None, writes: int = 4
    ) -> None:
        super().__init__(ScriptedEngine(name, ScriptedSettings(prefer=likes, answers=("It is 4.",))))
        self._knows, self._chance, self._writes = knows.split(), chance, writes
        self.asked: Counter[str] = Counter()

    async def generate(self, call: Call) -> Completion:
        self.asked[call.stage] += 1
        done = await super().generate(call)
        if call.stage == "write":
            return replace(done, text=f"It is {self._writes}.")
        if call.stage != "panel":
            return done
        draw = random.Random(call.seed)
        knows = any(TOPICS[topic] in call.messages[-1].content for topic in self._knows)
        right = knows and draw.random() < self._chance
        return replace(done, text="It is 4." if right else f"It is {draw.randrange(5, 10)}.")

    async def label_read(self, call: LabelCall) -> LabelRead:
        self.asked[call.stage] += 1
        return await super().label_read(call)


def members() -> dict[str, Member]:
    """ann and bob know two thirds together, cyd nothing, and jed, who knows nothing himself, is the one to judge."""
    return {
        "ann": Member("ann", "sums words", likes="is 7"),
        "bob": Member("bob", "days", likes="is 7"),
        "cyd": Member("cyd", likes="is 7", writes=9),
        "jed": Member("jed", likes="is 4"),
    }


def items_of(count: int, topics: Sequence[str] = tuple(TOPICS), kinds: bool = False) -> list[Item]:
    """Items whose right answer is 4, the topics in turn."""
    found = []
    for number in range(count):
        topic = topics[number % len(topics)]
        prompt = Message("user", f"{TOPICS[topic]} ({number}).")
        found.append(Item(f"q{number}", (prompt,), "number", 4, kind=topic if kinds else ""))
    return found


def space_of(config: Config | None = None, **changes: object) -> Space:
    config = config or parse_config(CONFIG)
    settings = config.fusions["trio"]
    settings = type(settings).model_validate(settings.model_dump() | changes)
    return Space("trio", settings, config.models)


def order_of(folder: Path, items: Sequence[Item], space: Space, **more: object) -> Order:
    return Order(EvalSet("sums", "own", tuple(items), "0" * 64), space, space.present.judge_name, folder, **more)


async def run(order: Order, engines: dict[str, Member]) -> Calibrated:
    """Calibrate once; the folder is free again afterwards."""
    store = CallStore(order.folder, dict.fromkeys(order.models, "same"))
    try:
        return await calibrate(order, engines, store)
    finally:
        store.close()


def bench_of(folder: Path, items: Sequence[Item], engines: dict[str, Member]) -> tuple[Bench, CallStore]:
    """A bench over the items, and its store, to be closed."""
    store = CallStore(folder, dict.fromkeys(engines, "same"))
    return Bench(Runner(engines, store, Grader(engines, store, "jed")), items), store
