"""The arms of an evaluation: one fusion made into the ways of answering that are compared. Pure.

For every arm early exit, deadline and straggler grace are off, so that what is measured is the quality of the whole
panel and not the load of this run; tokens of `vote` and `auto` are therefore those without early exit. A table of kinds
is consulted by `auto` alone: every other arm is one way of answering, for every item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from local_fusion.config.load import nearest
from local_fusion.errors import InputError
from local_fusion.fusion.recipe import Recipe, Seat

Kind = Literal["member", "judge", "self", "fusion", "oracle"]
FUSIONS: dict[str, dict[str, Any]] = {
    "vote": {"mode": "vote"},
    "best-of": {"mode": "best-of"},
    "merge": {"mode": "merge", "guard": True},
    "merge-unguarded": {"mode": "merge", "guard": False},
    "debate": {"mode": "debate"},
    "layered": {"mode": "layered"},
    "auto": {"mode": "auto"},
}
SELF = ("self-vote", "self-best-of")
PROBE, EQUAL = "self-vote", "self-equal"
"""The arm that tells what a self-sample costs, and the one of as many samples as the fusion's own tokens pay for."""
JUDGE, ORACLE = "judge-alone", "oracle"
ARMS = (*FUSIONS, *SELF, EQUAL, JUDGE, ORACLE)
"""Arms beside the members, which are always there."""
SELF_TEMPERATURE = 0.7
"""Of self-samples of a member that is asked without chance otherwise: its samples would all be the same."""
MOST_SAMPLES = 64
"""Of an item in the equal-compute arm."""
_ABOUT = {
    "vote": "answers reduced to values and counted",
    "best-of": "the judge picks one answer",
    "merge": "analysis, writer, guard",
    "merge-unguarded": "the same, what was written is returned unchecked",
    "debate": "members see the others' answers and revise",
    "layered": "members build on a layer before, then a writer",
    "auto": "a way chosen by what the answers are",
}


@dataclass(frozen=True)
class Arm:
    """One way of answering. `recipes`: by the member that it samples for a self arm, else one under ""; none yet for
    the equal-compute arm, whose samples are known once the fusion has been measured (`equal_arm`)."""

    name: str
    kind: Kind
    recipes: dict[str, Recipe]
    about: str = ""


@dataclass(frozen=True)
class Plan:
    """What is run. `panel`: the recipe whose first round is asked once; `main`: the arm that is the fusion's own."""

    panel: Recipe
    members: tuple[Arm, ...]
    others: tuple[Arm, ...]
    main: str
    notes: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm, members first."""
        return self.members + self.others


def make_plan(recipe: Recipe, wanted: Sequence[str] = (), judge_alone: Recipe | None = None) -> Plan:
    """The arms of `recipe`, or those of its name in `wanted` (members are always there).

    `judge_alone`: the judge as a panel of one, where it is no member. Raises InputError for an arm that is none.
    """
    for name in wanted:
        if name not in ARMS:
            raise InputError(f"no arm is called {name!r}{nearest(name, ARMS)}; members are always measured")
    if EQUAL in wanted and not any(name in FUSIONS for name in wanted):
        raise InputError(f"{EQUAL} spends what a fusion spends; name one beside it, such as {recipe.settings.mode}")
    panel = with_settings(recipe, {})
    seats = _first_seats(panel)
    members = tuple(Arm(name, "member", {"": alone(panel, seat, 1)}, _alone(seat)) for name, seat in seats.items())
    chosen = [name for name in ARMS if name in wanted] if wanted else list(ARMS)
    if panel.answers < 2:
        chosen = [name for name in chosen if name not in (*SELF, EQUAL)]
    if judge_alone is None or recipe.judge in seats:
        chosen = [name for name in chosen if name != JUDGE]
    others = tuple(_arm(name, recipe, panel, judge_alone) for name in chosen)
    notes = _cold(seats) if any(arm.kind == "self" for arm in others) else ()
    return Plan(panel, members, others, _main(recipe, chosen), notes)


def with_settings(recipe: Recipe, changes: dict[str, Any], seats: tuple[Seat, ...] | None = None) -> Recipe:
    """The recipe with settings changed, without its table of kinds, which would decide in their place, and with
    everything off that depends on the load of the machine."""
    off = {"early_exit": False, "deadline_s": None, "straggler_grace_s": None}
    settings = recipe.settings.model_copy(update={**off, **changes})
    seats = recipe.seats if seats is None else seats
    return replace(recipe, settings=settings, seats=seats, kinds=None, by_kind={})


def steady(recipe: Recipe, changes: dict[str, Any] | None = None) -> Recipe:
    """The same with its table of kinds, each of whose recipes is made steady too; `changes` are not put over those."""
    by_kind = {name: with_settings(one, {}) for name, one in recipe.by_kind.items()}
    return replace(with_settings(recipe, changes or {}), kinds=recipe.kinds, by_kind=by_kind)


def alone(recipe: Recipe, seat: Seat, samples: int, mode: str = "best-of") -> Recipe:
    """One member asked so many times: its first answer is the very one it gives on the panel."""
    taken = replace(seat, samples=samples, weight=1.0)
    if samples > 1 and seat.sampling.temperature == 0:
        taken = replace(taken, sampling=replace(seat.sampling, temperature=SELF_TEMPERATURE))
    return with_settings(recipe, {"mode": mode, "quorum": 1}, (taken,))


def bought(samples: int, spent: int, budget: int) -> int:
    """How many samples `budget` tokens pay for, where so many `samples` took the tokens `spent`."""
    return max(1, min(MOST_SAMPLES, round(samples * budget / spent))) if spent else 1


def equal_arm(panel: Recipe, main: str, samples: int) -> Arm:
    """The equal-compute arm: so many samples of the best member, for the tokens of the arm `main`."""
    about = f"{samples} answers of the best member, as many as the tokens of {main} pay for; vote"
    return self_samples(EQUAL, panel, samples, "vote", about)


def probe(panel: Recipe) -> Arm:
    """As many samples of the best member as the panel gives, counted."""
    return _self_arm(PROBE, panel)


def self_samples(name: str, panel: Recipe, count: int, mode: str, about: str) -> Arm:
    """An arm that asks the best member so many times."""
    recipes = {model: alone(panel, seat, count, mode) for model, seat in _first_seats(panel).items()}
    return Arm(name, "self", recipes, about)


def _self_arm(name: str, panel: Recipe) -> Arm:
    mode, count = name.removeprefix("self-"), panel.answers
    about = f"{count} answers of the best member, as many as the panel gives; {mode}"
    return self_samples(name, panel, count, mode, about)


def _first_seats(panel: Recipe) -> dict[str, Seat]:
    seats: dict[str, Seat] = {}
    for seat in panel.seats:
        seats.setdefault(seat.model, seat)
    return seats


def _arm(name: str, own: Recipe, panel: Recipe, judge_alone: Recipe | None) -> Arm:
    """`own`: the fusion as it is configured; `panel`: the same without its table of kinds."""
    if name == "auto" and own.kinds is not None:
        about = f"{_ABOUT[name]}, by the fusion's table of kinds (version {own.kinds.version})"
        return Arm(name, "fusion", {"": steady(own, FUSIONS[name])}, about)
    if name in FUSIONS:
        return Arm(name, "fusion", {"": with_settings(panel, FUSIONS[name])}, _ABOUT[name])
    if name in SELF:
        return _self_arm(name, panel)
    if name == EQUAL:
        return Arm(name, "self", {}, "as many answers of the best member as the fusion's own tokens pay for; vote")
    if name == JUDGE and judge_alone is not None:
        return Arm(name, "judge", {"": with_settings(judge_alone, {})}, f"{judge_alone.seats[0].model} asked alone")
    return Arm(ORACLE, "oracle", {}, "any answer of the panel is right: what a perfect choice would get")


def _alone(seat: Seat) -> str:
    return "alone" if seat.samples == 1 else f"alone, the first of its {seat.samples} samples"


def _main(recipe: Recipe, chosen: Sequence[str]) -> str:
    """The arm that is the fusion as it is configured; else the first fusion that is measured."""
    mode = recipe.settings.mode
    own = "merge-unguarded" if mode == "merge" and not recipe.settings.guard else mode
    return own if own in chosen else next((name for name in chosen if name in FUSIONS), "")


def _cold(seats: dict[str, Seat]) -> tuple[str, ...]:
    cold = [name for name, seat in seats.items() if seat.sampling.temperature == 0]
    if not cold:
        return ()
    return (f"self-samples of {', '.join(cold)} are drawn at temperature {SELF_TEMPERATURE}, the panel's at 0",)
