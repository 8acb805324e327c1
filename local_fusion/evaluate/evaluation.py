"""The door of this room: an order in, answers and grades out, then figures, texts and a page in the folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_fusion.engine import Engines
from local_fusion.errors import InputError
from local_fusion.evaluate.absent import SomeEngines, read_infos, write_infos
from local_fusion.evaluate.eval_page import write_page
from local_fusion.evaluate.grading import Given, Grader, Known
from local_fusion.evaluate.measure import Price, Results, measure
from local_fusion.evaluate.panel_study import study
from local_fusion.evaluate.plans import Plan
from local_fusion.evaluate.runner import Evaluated, Runner, Step
from local_fusion.evaluate.sets import EvalSet
from local_fusion.evaluate.store import CallStore
from local_fusion.evaluate.written import write_items, write_results
from local_fusion.fusion.recipe import Recipe


@dataclass(frozen=True)
class Order:
    """What is to be measured. `grader`: the model that grades what needs a judge; `price`: of a GPU for an hour;
    `in_flight`: items at once; `seed`: root of every seed."""

    items: EvalSet
    recipe: Recipe
    plan: Plan
    grader: str
    folder: Path
    seed: int = 0
    in_flight: int = 64
    price: float | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that must run."""
        return tuple(dict.fromkeys([*self.recipe.settings.models, self.grader]))

    @property
    def judging(self) -> tuple[str, ...]:
        """Those that judge, write or grade."""
        return tuple(dict.fromkeys([self.recipe.judge, *self.recipe.writers, self.grader]))


async def evaluate(
    order: Order,
    engines: Engines,
    store: CallStore,
    given: Given | None = None,
    stop: asyncio.Event | None = None,
    hear: Callable[[Step], None] = lambda step: None,
    known: Known | None = None,
) -> Evaluated:
    """Run every arm over every item; what `store` knows is not run again. `given`: the set's own grader; `known`: as of
    `Grader`.

    Raises RunError where it is stopped or writing fails; the same order goes on later.
    """
    stop = stop or asyncio.Event()
    grader = Grader(engines, store, order.grader, given, stop.is_set, known)
    runner = Runner(engines, store, grader, order.seed, order.in_flight, stop, hear)
    return await runner.run(order.plan, order.items.items)


async def evaluate_opening(
    order: Order,
    store: CallStore,
    opened: Callable[[Sequence[str]], AbstractAsyncContextManager[Engines]],
    given: Given | None = None,
    stop: asyncio.Event | None = None,
    hear: Callable[[Step], None] = lambda step: None,
) -> Evaluated:
    """As `evaluate`, starting by `opened` no more engines than the missing calls need: none, the judge's side, or all.

    What is missing is found by an evaluation without engines, whose result stands where it wanted none.
    """
    known: Known = {}
    if not store.empty:
        infos = read_infos(order.folder)
        nobody = SomeEngines(order.models, None, infos)
        evaluated = await evaluate(order, nobody, store, given, stop, known=known)
        if not nobody.wanted:
            return evaluated
        if nobody.wanted <= set(order.judging) and set(order.judging) < set(order.models):
            async with opened(order.judging) as started:
                some = SomeEngines(order.models, started, infos)
                evaluated = await evaluate(order, some, store, given, stop, hear, known)
                await write_infos(order.folder, started, order.judging)
            if not some.wanted:
                return evaluated
    async with opened(order.models) as engines:
        await write_infos(order.folder, engines, order.models)
        return await evaluate(order, engines, store, given, stop, hear, known)


def conclude(order: Order, evaluated: Evaluated, versions: Mapping[str, str]) -> Results:
    """Measure, and write results.json, items.jsonl and report.html into the folder.

    Raises InputError where not one item could be graded, RunError where writing fails.
    """
    results = measure(evaluated, Price(order.price), order.grader)
    if results is None:
        why = next((grade.why for one in evaluated.arms for grade in one.grades if grade.why), "no grader fits")
        raise InputError(f"not one item of {order.items.name} could be graded: {why}")
    found, about = study(evaluated), _about(order, versions)
    write_results(order.folder, about, results, found)
    write_items(order.folder, evaluated, found)
    write_page(order.folder, about, results, found, evaluated)
    return results


def _about(order: Order, versions: Mapping[str, str]) -> dict[str, Any]:
    recipe, items = order.recipe, order.items
    gpus = {model: info.gpus for model, info in read_infos(order.folder).items() if info.gpus}
    return {
        "set": items.name,
        "form": items.form,
        "set_sha256": items.digest,
        "fusion": recipe.name,
        "mode": recipe.settings.mode,
        "panel": [seat.model for seat in recipe.seats],
        "judge": recipe.judge,
        "writer": list(recipe.writers),
        "criteria": recipe.settings.criteria,
        "grader": order.grader,
        "seed": order.seed,
        "gpu_hour_price": order.price,
        "gpus": gpus,
        "templates": f"{recipe.prompts.name}:{recipe.prompts.digest}",
        "weights": dict(recipe.digests),
        "versions": dict(versions),
    }
