"""Learns from what was already run: sorts past prompts into kinds and keeps for each the recipe that won.

No engine is asked. The prompts are parted by a hash: on half of them the winner of each kind is found, on a quarter it
is kept or dropped, and what is claimed comes from the last quarter, on which nothing was chosen. Nothing changes where
that is worse, or tells too little. Recipes that were given other prompts than the fusion are observed, not measured:
they are reported apart, and no paired gain is claimed of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from local_fusion.calibrate.by_kind import LEAST_PROMPTS, Option, Winner, compare
from local_fusion.calibrate.marks import Marks
from local_fusion.calibrate.past import MOST_PROMPTS, PastPrompt
from local_fusion.calibrate.sorting import Sorted, by_likeness, table_of
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.steps import Step, Tried
from local_fusion.calibrate.verdicts import LEAST_KEPT, Report, part_of, report_of, winner_of
from local_fusion.calibrate.ways import is_own, name_of, options_of, present_way
from local_fusion.config.kinds import KindTable
from local_fusion.config.schema import FusionSettings
from local_fusion.errors import InputError
from local_fusion.evaluate.intervals import share

OF_A_KIND = 3 * LEAST_PROMPTS
"""Prompts that a kind should have about, so that half of them, and a quarter, can tell."""
OBSERVED = (
    "the recipe and the fusion were given different prompts (users' thumbs, other runs), so that their difference is "
    "an observation, which may have other causes, and no measured gain"
)


@dataclass(frozen=True)
class Learnt:
    """What past prompts tell. `changes`: there is a table worth keeping; `why`: a sentence; `report`: what is claimed,
    on prompts that nothing was chosen on, None where nothing was to be reported."""

    settings: FusionSettings
    table: KindTable | None
    changes: bool
    why: str
    steps: tuple[Step, ...]
    prompts: int
    graded: int
    unit: str
    notes: tuple[str, ...] = ()
    report: Report | None = None


def learn(space: Space, prompts: Sequence[PastPrompt], marks: Marks, version: int) -> Learnt:
    """Sort, compare, keep. Raises InputError where nothing of it can be used."""
    usable = [prompt for prompt in prompts if set(prompt.panel) <= set(space.present.models)]
    if not usable:
        raise InputError(
            f"{len(prompts)} past prompts were found, and none that models of fusion {space.name} answered; name its "
            "runs, or a server's state folder"
        )
    by_gpu = all(answer.gpu_s > 0 for prompt in usable for answer in prompt.answers)
    options, graded = options_of(space, usable, marks, by_gpu)
    present = options.pop(present_way(space), None)
    notes = _notes(len(prompts), len(prompts) - len(usable), len(usable) - graded)
    notes += _of_others(space, usable)
    unit = "GPU-seconds" if by_gpu else "tokens"
    nothing = Learnt(space.present, None, False, "", (), len(usable), graded, unit, notes)
    if space.present.kinds is not None:
        return replace(nothing, why=_taken_back_first(space.name))
    if present is None:
        way = name_of(present_way(space))
        return replace(nothing, why=f"no graded prompt was answered as fusion {space.name} answers now ({way})")
    kinds = by_likeness([prompt.question for prompt in usable], OF_A_KIND)
    parts = [part_of(prompt.question) for prompt in usable]
    steps, winners = list[Step](), dict[str, Winner]()
    for name, count in Counter(kinds.label).most_common():
        places = _places(kinds, name)
        winners[name] = winner_of(places, parts, present, list(options.values()))
        shown = [option for option in options.values() if option.covers(places)]
        steps.append(_step(name, count, places, present, shown, winners[name]))
    won = {name: one for name, one in winners.items() if one.option is not None}
    if not won:
        why = f"in none of {len(winners)} kinds did another recipe surely win; nothing is changed"
        return replace(nothing, why=why, steps=tuple(steps))
    report = report_of({name: _places(kinds, name) for name in winners}, winners, parts, present, unit)
    if not report.kept:
        return replace(nothing, why=f"{report.why}; nothing is changed", steps=tuple(steps), report=report)
    why = f"{len(report.kept)} of {len(winners)} kinds of prompts {_served(report)}: {report.why}"
    if report.observed:
        notes += (f"{_listed(report.observed)}: {OBSERVED}",)
    table = _table(space, kinds, winners, report, version)
    settings = space.but(mode="auto")
    return Learnt(settings, table, True, why, tuple(steps), len(usable), graded, unit, notes, report)


def _taken_back_first(name: str) -> str:
    return (
        f"fusion {name} answers by a table of kinds now, which is nothing to compare with; take the table back first "
        f"(local-fusion calibrate --undo {name}, or take `kinds` out of it), then learn from all runs"
    )


def _served(report: Report) -> str:
    """What is claimed of the kinds that have a recipe now: better only where that is sure."""
    if len(report.observed) == len(report.kept):
        return "seem better served by a recipe of their own"
    if report.gain is not None and report.gain.low > 0:
        return "are better served by a recipe of their own"
    return "get a recipe of their own, cheaper as a whole"


def _table(space: Space, kinds: Sorted, winners: dict[str, Winner], report: Report, version: int) -> KindTable:
    """The recipes that were kept; every other kind goes on as now."""
    recipes: dict[str, tuple[dict[str, Any], int, str]] = {}
    for name, one in winners.items():
        kept = one.option is not None and name in report.kept
        recipe = one.option.recipe if one.option is not None and kept else {"mode": space.present.mode}
        dropped = "" if kept or one.option is None else "; dropped by the report"
        observed = f" ({OBSERVED})" if name in report.observed else ""
        recipes[name] = (recipe, one.prompts, f"{one.why}{dropped}{observed}")
    otherwise = None if space.present.mode == "auto" else {"mode": space.present.mode}
    return table_of(kinds, recipes, version, otherwise)


def _places(kinds: Sorted, name: str) -> list[int]:
    return [place for place, label in enumerate(kinds.label) if label == name]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def evidence_of(space: Space, found: Learnt, sources: Sequence[str], before: Any, after: Any) -> dict[str, Any]:
    """The evidence of a change as plain data."""
    return {
        "action": "learn",
        "fusion": space.name,
        "changes": found.changes,
        "why": found.why,
        "from": list(sources),
        "prompts": found.prompts,
        "graded": found.graded,
        "least_prompts": LEAST_PROMPTS,
        "report": asdict(found.report) if found.report is not None else None,
        "before": before,
        "after": after,
        "unit": found.unit,
        "notes": list(found.notes),
    }


def _step(
    name: str, count: int, places: Sequence[int], present: Option, options: Iterable[Option], found: Winner
) -> Step:
    tried = []
    for option in [present, *options]:
        over = option.over(places)
        if over:
            found_gain = None if option is present else compare(places, option, present, LEAST_KEPT)
            gain = found_gain.gain if found_gain is not None else None
            apart = ", on other prompts" if found_gain is not None and not found_gain.paired else ""
            chosen = option is (found.option or present)
            accuracy = share([option.scores[place] for place in over])
            tried.append(Tried(f"{option.name} ({len(over)} graded{apart})", accuracy, gain, option.cost(over), chosen))
    tried.sort(key=lambda one: -one.accuracy.value)
    return Step(f"Prompts of {name} ({count})", present.name, tuple(tried), found.why)


def _of_others(space: Space, prompts: Sequence[PastPrompt]) -> tuple[str, ...]:
    others = sum(not is_own(space, prompt) for prompt in prompts)
    told = "past prompts were answered by other fusions, or with another judge or writer than now: of those only the"
    return (f"{others:,} {told} members' own answers tell",) if others else ()


def _notes(read: int, strange: int, ungraded: int) -> tuple[str, ...]:
    told = []
    if read >= MOST_PROMPTS:
        told.append(f"only the first {MOST_PROMPTS:,} past prompts were read; name fewer runs, or days of receipts")
    if strange:
        told.append(f"{strange:,} past prompts were answered by models that are not of this fusion and are left out")
    if ungraded:
        told.append(f"{ungraded:,} past prompts have neither a right answer nor a user's word: they only help to sort")
    return tuple(told)
