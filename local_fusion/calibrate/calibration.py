"""The door of this room: items and a fusion in, what was found out, never worse on the items kept back.

The items are parted into two halves by a hash of their ids. Everything is chosen on one; on the other the chosen
arrangement is compared, once, with the present one, and a lower mean there changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local_fusion.calibrate.bench import Bench, Trial, graded_places
from local_fusion.calibrate.search import Proposal, search
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.steps import Step, points
from local_fusion.config.kinds import KindTable
from local_fusion.config.schema import FusionSettings
from local_fusion.engine import Engines
from local_fusion.errors import InputError
from local_fusion.evaluate.absent import SomeEngines, read_infos, write_infos
from local_fusion.evaluate.choosing import half_of
from local_fusion.evaluate.grading import Given, Grader
from local_fusion.evaluate.intervals import Interval
from local_fusion.evaluate.items import JUDGED, Item
from local_fusion.evaluate.runner import Runner
from local_fusion.evaluate.runner import Step as Progress
from local_fusion.evaluate.sets import EvalSet
from local_fusion.evaluate.store import CallStore

LEAST_OF_HALF = 10
FIT, HELD_OUT = 0, 1


@dataclass(frozen=True)
class Order:
    """What is to be calibrated. `version`: the number a change would get; `most_samples`: of a member, tried at most;
    `grader`: the model that grades what needs a judge; `in_flight`: items at once."""

    items: EvalSet
    space: Space
    grader: str
    folder: Path
    version: int = 1
    most_samples: int = 3
    seed: int = 0
    in_flight: int = 64

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that may be asked."""
        return tuple(dict.fromkeys([*self.space.present.models, self.grader]))

    def half(self, which: int) -> tuple[Item, ...]:
        """The items of one half. Raises InputError where they are too few."""
        found = tuple(item for item in self.items.items if half_of(item.id) == which)
        if len(found) < LEAST_OF_HALF:
            raise InputError(
                f"{self.items.name} has {len(self.items.items)} items, {len(found)} of them in one half; calibrate "
                f"needs {LEAST_OF_HALF} in each, and some hundred to tell arrangements apart"
            )
        return found


@dataclass(frozen=True)
class Calibrated:
    """What was found. `settings`, `table`: the new arrangement; `changes`: it is to be kept; `why`: a sentence.

    `old`, `new`: both on the held-out half, `gain`: their paired difference; `unit`: of effort; `calls`: that were run.
    """

    settings: FusionSettings
    table: KindTable | None
    changes: bool
    why: str
    steps: tuple[Step, ...]
    fit_items: int
    old: Trial
    new: Trial
    gain: Interval
    unit: str
    calls: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())


async def calibrate(
    order: Order,
    engines: Engines,
    store: CallStore,
    given: Given | None = None,
    stop: asyncio.Event | None = None,
    hear: Callable[[Progress], None] = lambda step: None,
) -> Calibrated:
    """Find the best arrangement. Raises InputError where nothing can be graded, RunError where it is stopped; the same
    order goes on later."""
    stop, begun, steps = stop or asyncio.Event(), time.monotonic(), list[Step]()
    grader = Grader(engines, store, order.grader, given, stop.is_set)
    runner = Runner(engines, store, grader, order.seed, order.in_flight, stop, hear)
    fit, held_out = order.half(FIT), order.half(HELD_OUT)
    bench = Bench(runner, fit)
    proposal = await search(order.space, bench, steps, order.most_samples, order.version)
    if all(score is None for score in proposal.present.scores):
        raise InputError(f"not one item of {order.items.name} could be graded; is it a set with right answers?")
    check = Bench(runner, held_out, bench.by_gpu, "items kept back")
    space = order.space
    old = await check.trial("before", space.present, space.own)
    new = old
    if proposal.found is not proposal.present:
        new = await check.trial("after", proposal.settings, space.recipe(proposal.settings, proposal.table))
    changes, why = decide(proposal, old, new, bench.unit)
    return Calibrated(
        settings=proposal.settings,
        table=proposal.table,
        changes=changes,
        why=why,
        steps=tuple(steps),
        fit_items=len(fit),
        old=old,
        new=new,
        gain=new.gain_over(old),
        unit=bench.unit,
        calls=store.fresh,
        seconds=time.monotonic() - begun,
        notes=_notes(order, fit),
    )


def decide(proposal: Proposal, old: Trial, new: Trial, unit: str) -> tuple[bool, str]:
    """Whether to change, and why: better on the held-out half, or as good and cheaper; never worse, and never where
    nothing there could be graded."""
    if proposal.found is proposal.present:
        return False, "nothing better than the present arrangement was found; nothing is changed"
    graded = graded_places(old.scores)
    if not graded:
        return False, "none of the items kept back could be graded, so nothing is known; nothing is changed"
    gain = new.gain_over(old)
    told = f"{points(gain)} on {len(graded)} items kept back"
    if lost := len(graded) - len(graded_places(new.scores, graded)):
        told += f" ({lost} of them can no longer be graded and count as wrong)"
    effort = f"{new.cost:,.3g} {unit} an answer, {old.cost:,.3g} before"
    if gain.value < 0:
        return False, f"what was best on one half is worse on the other, {told}; nothing is changed"
    if gain.value == 0 and new.cost >= old.cost:
        return (
            False,
            f"what was best on one half is neither better nor cheaper on the other, {told}; nothing is changed",
        )
    return True, f"{told}, {effort}"


async def calibrate_opening(
    order: Order,
    store: CallStore,
    opened: Callable[[Sequence[str]], AbstractAsyncContextManager[Engines]],
    given: Given | None = None,
    stop: asyncio.Event | None = None,
    hear: Callable[[Progress], None] = lambda step: None,
    again: bool = False,
) -> Calibrated:
    """As `calibrate`, starting the engines by `opened`; `again`: this was done before, so first try without any."""
    if again and not store.empty:
        nobody = SomeEngines(order.models, None, read_infos(order.folder))
        try:
            found = await calibrate(order, nobody, store, given, stop)
        except InputError:
            if not nobody.wanted:
                raise
        else:
            if not nobody.wanted:
                return replace(found, calls=0)
    async with opened(order.models) as engines:
        await write_infos(order.folder, engines, order.models)
        return await calibrate(order, engines, store, given, stop, hear)


def _notes(order: Order, fit: Sequence[Item]) -> tuple[str, ...]:
    told = []
    if len(fit) < 100:
        told.append(f"{len(fit)} items to choose on are few: arrangements that are close are told apart by chance")
    left = [model for model in order.space.present.models if model not in {seat.model for seat in order.space.pool}]
    if left:
        told.append(f"{', '.join(left)} did not fit on a panel of eight and was tried in other roles only")
    judged = any(item.match in JUDGED for item in order.items.items)
    if judged and order.grader in order.space.present.models:
        told.append(f"{order.grader} graded what it may have written or chosen, and judges like their own")
    return tuple(told)
