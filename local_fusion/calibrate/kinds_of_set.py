"""A recipe per kind of task, from what was tried on the set: no call but those of the arrangement as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from local_fusion.calibrate.bench import Bench, Trial, graded_places, no_worse, ranking
from local_fusion.calibrate.by_kind import LEAST_PROMPTS, Option, winner
from local_fusion.calibrate.sorting import Sorted, by_given, by_likeness, table_of
from local_fusion.calibrate.space import Space, names_of
from local_fusion.calibrate.steps import Step, Tried, points, step
from local_fusion.config.kinds import KindTable
from local_fusion.config.schema import FusionSettings
from local_fusion.evaluate.items import Item

RECIPE_KEYS = ("panel", "judge", "writer", "mode", "exit_confidence", "guard_margin", "quorum")


async def table_for(
    space: Space, bench: Bench, steps: list[Step], best: Trial, trials: Sequence[Trial], version: int
) -> tuple[KindTable, Trial] | None:
    """A table of kinds over `best`, and what the fusion with it gets; None where no kind is better served by another
    of the `trials`, or the table as a whole gains nothing."""
    items = bench.items
    kinds = sort_items(items)
    if len(kinds.centre) < 2:
        return None
    best = replace(best, name=way_of(best.settings))
    present = _option(best, best)
    by_name = {way_of(trial.settings): trial for trial in reversed(trials) if _within(trial, best)}
    usable = [replace(trial, name=name) for name, trial in by_name.items()]
    options = [_option(trial, best) for trial in usable if trial.name != best.name]
    recipes: dict[str, tuple[dict[str, Any], int, str]] = {}
    told = []
    for name in kinds.centre:
        places = [place for place, label in enumerate(kinds.label) if label == name]
        won = winner(places, present, options)
        told.append(f"{name}: {won.why}")
        recipe = won.option.recipe if won.option is not None else {"mode": best.settings.mode}
        recipes[name] = (recipe, won.prompts, won.why)
        steps.append(_by_kind_step(name, places, best, usable, won.option))
    if all(set(recipe) == {"mode"} and recipe["mode"] == best.settings.mode for recipe, _, _ in recipes.values()):
        return None
    otherwise = None if best.settings.mode == "auto" else {"mode": best.settings.mode}
    table = table_of(kinds, recipes, version, otherwise)
    settings = space.but(best.settings, mode="auto")
    whole = await bench.trial("by kind", settings, space.recipe(settings, table))
    gain = whole.gain_over(best)
    gains = no_worse(whole, best) and (gain.value > 0 or whole.cost < best.cost)
    why = (
        "; ".join(told) + f". As a whole {points(gain)}; {100 * kinds.recovered:.0f} % of the prompts found their kind"
    )
    question = f"Does it pay to answer by kind of prompt? (at least {LEAST_PROMPTS} of a kind)"
    steps.append(step(question, best, [best, whole], whole if gains else best, why))
    return (table, whole) if gains else None


def way_of(settings: FusionSettings) -> str:
    """An arrangement in words."""
    if len(settings.panel) == 1 and settings.panel[0].samples == 1 and settings.mode in ("vote", "best-of"):
        return f"{settings.panel[0].model} alone"
    sure = f", until {settings.exit_confidence:g} sure" if settings.exit_confidence and settings.mode == "vote" else ""
    judged = f", {settings.judge_name} judging" if settings.mode != "vote" else ""
    wrote = f", {settings.writer_names[0]} writing" if settings.writer_names[0] != settings.judge_name else ""
    return f"{settings.mode} of {names_of(settings.panel)}{sure}{judged}{wrote if settings.mode == 'merge' else ''}"


def _within(trial: Trial, best: Trial) -> bool:
    """It uses no model that the arrangement does not use."""
    return set(trial.settings.models) <= set(best.settings.models)


def sort_items(items: Sequence[Item]) -> Sorted:
    """By the set's own kinds where it has some, else by likeness."""
    texts = [item.question for item in items]
    given = [item.kind.strip() for item in items]
    if len(set(given)) > 1 and all(given):
        names = plain_names(given)
        return by_given(texts, [names[kind] for kind in given])
    return by_likeness(texts, 2 * LEAST_PROMPTS)


def plain_names(kinds: Sequence[str]) -> dict[str, str]:
    """A set's names of its kinds as the table may hold them, each another: numbered where several come to the same."""
    found: dict[str, str] = {}
    for kind in dict.fromkeys(kinds):
        plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in kind).strip("-")
        name = plain = plain[:64] or "kind"
        number = 1
        while name in found.values():
            number += 1
            name = f"{plain}-{number}"
        found[kind] = name
    return found


def recipe_over(settings: FusionSettings, base: FusionSettings) -> dict[str, Any]:
    """What `settings` change of `base`, as a kind's recipe; the mode stands in any case."""
    mine, theirs = settings.model_dump(mode="json", exclude_defaults=False), base.model_dump(mode="json")
    changed = {key: mine[key] for key in RECIPE_KEYS if mine[key] != theirs[key]}
    return {"mode": settings.mode} | changed


def _option(trial: Trial, best: Trial) -> Option:
    """Over the items that were graded for the best one, so that all are compared on the same."""
    scores = {place: trial.scores[place] or 0.0 for place in graded_places(best.scores)}
    effort = dict(enumerate(trial.effort))
    return Option(trial.name, recipe_over(trial.settings, best.settings), scores, effort)


def _by_kind_step(
    name: str, places: Sequence[int], best: Trial, trials: Sequence[Trial], chosen: Option | None
) -> Step:
    """What each way got on one kind, the best five."""
    cut = [_at(trial, places) for trial in trials]
    reference = _at(best, places)
    ranked = ranking(cut)[:5]
    wanted = best.name if chosen is None else chosen.name
    shown = [reference, *(trial for trial in ranked if trial.name != reference.name)]
    shown += [trial for trial in cut if trial.name == wanted and wanted not in [one.name for one in shown]]
    made = step(f"Prompts of kind {name} ({len(places)})", reference, shown, None, f"{wanted} is kept")
    tried = tuple(Tried(one.name, one.accuracy, one.against, one.effort, one.name == wanted) for one in made.tried)
    return Step(made.question, made.reference, tried, made.why)


def _at(trial: Trial, places: Sequence[int]) -> Trial:
    return Trial(
        trial.name,
        trial.settings,
        (),
        tuple(trial.scores[place] for place in places),
        tuple(trial.effort[place] for place in places),
    )
