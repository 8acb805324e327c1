"""Learns from what was already run: sorts past prompts into kinds and keeps for each the recipe that won.

No engine is asked. Of a prompt whose right answer is known, other recipes are counted too, as far as the receipt tells
their result: each member alone, the vote, the judge's choice. Winners are found on one half of the prompts, by a hash,
and dropped where they do worse on the other.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from local_fusion.answers import Reader
from local_fusion.calibrate.bench import paired
from local_fusion.calibrate.by_kind import LEAST_PROMPTS, Option, Winner, apart, winner
from local_fusion.calibrate.marks import Marks
from local_fusion.calibrate.past import PastAnswer, PastPrompt
from local_fusion.calibrate.sorting import by_likeness, table_of
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.steps import Step, Tried, points
from local_fusion.config.kinds import KindTable
from local_fusion.config.schema import FusionSettings
from local_fusion.errors import InputError
from local_fusion.evaluate.choosing import half_of
from local_fusion.evaluate.intervals import Interval, share

OF_A_KIND = 3 * LEAST_PROMPTS
"""Prompts that a kind should have about, so that either half of them can tell."""

Way = tuple[str, tuple[str, ...]]
"""Mode and members."""


@dataclass(frozen=True)
class Learnt:
    """What past prompts tell. `changes`: there is a table worth keeping; `why`: a sentence."""

    settings: FusionSettings
    table: KindTable | None
    changes: bool
    why: str
    steps: tuple[Step, ...]
    prompts: int
    graded: int
    unit: str
    notes: tuple[str, ...] = ()


def learn(space: Space, prompts: Sequence[PastPrompt], marks: Marks, version: int) -> Learnt:
    """Sort, compare, keep. Raises InputError where nothing of it can be used."""
    usable = [prompt for prompt in prompts if set(prompt.panel) <= set(space.present.models)]
    if not usable:
        raise InputError(
            f"{len(prompts)} past prompts were found, and none that models of fusion {space.name} answered; name its "
            "runs, or a server's state folder"
        )
    by_gpu = all(answer.gpu_s > 0 for prompt in usable for answer in prompt.answers)
    options, graded = _options(space, usable, marks, by_gpu)
    present = options.pop(_present_way(space), None)
    notes = _notes(len(prompts) - len(usable), len(usable) - graded)
    unit = "GPU-seconds" if by_gpu else "tokens"
    nothing = Learnt(space.present, None, False, "", (), len(usable), graded, unit, notes)
    if present is None:
        way = _name(_present_way(space))
        return replace(nothing, why=f"no graded prompt was answered as fusion {space.name} answers now ({way})")
    kinds = by_likeness([prompt.question for prompt in usable], OF_A_KIND)
    steps, recipes, kept = list[Step](), dict[str, tuple[dict[str, Any], int, str]](), dict[int, Option]()
    for name, count in Counter(kinds.label).most_common():
        places = [place for place, label in enumerate(kinds.label) if label == name]
        found = _winner_of(usable, places, present, list(options.values()))
        steps.append(_step(name, count, places, present, options.values(), found))
        recipe = {"mode": space.present.mode} if found.option is None else found.option.recipe
        recipes[name] = (recipe, found.prompts, found.why)
        kept |= dict.fromkeys(places, found.option) if found.option is not None else {}
    won = sum(recipe != {"mode": space.present.mode} for recipe, _, _ in recipes.values())
    if not won:
        why = f"in none of {len(recipes)} kinds did another recipe surely win; nothing is changed"
        return replace(nothing, why=why, steps=tuple(steps))
    whole, told = _together(usable, kept, present, unit)
    if whole.value < 0:
        return replace(nothing, why=f"{told}; nothing is changed", steps=tuple(steps))
    otherwise = None if space.present.mode == "auto" else {"mode": space.present.mode}
    table = table_of(kinds, recipes, version, otherwise)
    settings = space.but(mode="auto")
    why = f"{won} of {len(recipes)} kinds of prompts are better served by a recipe of their own: {told}"
    return Learnt(settings, table, True, why, tuple(steps), len(usable), graded, unit, notes)


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
        "before": before,
        "after": after,
        "unit": found.unit,
        "notes": list(found.notes),
    }


def _options(space: Space, prompts: Sequence[PastPrompt], marks: Marks, by_gpu: bool) -> tuple[dict[Way, Option], int]:
    """Every way there is evidence for, with its marks by prompt; and how many prompts have any."""
    scores: dict[Way, dict[int, float]] = defaultdict(dict)
    effort: dict[Way, dict[int, float]] = defaultdict(dict)
    graded: set[int] = set()
    for place, prompt in enumerate(prompts):
        for way, text, cost in _ways(prompt, marks.knows(prompt), by_gpu):
            mark = marks.final(prompt) if text is None else marks.text(prompt, text)
            if mark is not None and place not in scores[way]:
                scores[way][place], effort[way][place] = mark, cost
                graded.add(place)
    found = {way: Option(_name(way), _recipe(space, way), scores[way], effort[way]) for way in scores if scores[way]}
    return found, len(graded)


def _ways(prompt: PastPrompt, right_is_known: bool, by_gpu: bool) -> Iterator[tuple[Way, str | None, float]]:
    """How it was answered (text None: as the user saw it), and how else it can be told to have been."""
    unit = 1 if by_gpu else 0
    asked = sum(_effort(answer, by_gpu) for answer in prompt.answers)
    yield (prompt.mode, prompt.panel), None, asked + prompt.rest[unit]
    if not right_is_known:
        return
    alone: dict[str, PastAnswer] = {}
    for answer in prompt.answers:
        alone.setdefault(answer.model, answer)
    for model, answer in alone.items():
        yield ("best-of", (model,)), answer.text, _effort(answer, by_gpu)
    if len(alone) > 1:
        voted = vote(prompt)
        if voted is not None:
            yield ("vote", prompt.panel), voted, asked
        if prompt.picked is not None:
            yield ("best-of", prompt.panel), prompt.picked, asked + prompt.reads[unit]


def vote(prompt: PastPrompt) -> str | None:
    """What a vote of the answers would have returned, weighted by certainty; None where they have no common value."""
    comparison = Reader(prompt.question).compare([answer.text for answer in prompt.answers])
    if comparison is None:
        return None
    groups: dict[str, list[PastAnswer]] = defaultdict(list)
    for key, answer in zip(comparison.keys, prompt.answers, strict=True):
        if key is not None:
            groups[key].append(answer)
    first = max(groups.values(), key=lambda group: (sum(one.certainty for one in group), len(group)))
    return max(first, key=lambda answer: answer.certainty).text


def _winner_of(
    prompts: Sequence[PastPrompt], places: Sequence[int], present: Option, options: Sequence[Option]
) -> Winner:
    """The winner on one half of the prompts, if it is no worse on the other."""
    sides: tuple[list[int], list[int]] = ([], [])
    for place in places:
        sides[half_of(prompts[place].question)].append(place)
    found = winner(sides[0], present, options)
    if found.option is None:
        return found
    gain = _gain(found.option, present, sides[1])
    if gain is None or gain.value < 0:
        told = "too few prompts of the other half tell" if gain is None else f"on the other half {points(gain)}"
        return Winner(None, found.prompts, f"{found.option.name} won on one half of the prompts, but {told}")
    return replace(found, why=f"{found.why}; on the other half {points(gain)}")


def _together(
    prompts: Sequence[PastPrompt], kept: Mapping[int, Option], present: Option, unit: str
) -> tuple[Interval, str]:
    """What all the kept recipes come to on the other half of the prompts, and what they cost there."""
    places = [place for place in present.scores if half_of(prompts[place].question)]
    mine, theirs, spent, before = [], [], 0.0, 0.0
    for place in places:
        option = kept.get(place, present)
        if place in option.scores:
            mine.append(option.scores[place])
            theirs.append(present.scores[place])
            spent += option.effort[place]
            before += present.effort[place]
    gain = paired(mine, theirs)
    if not mine:
        return Interval(0.0, 0.0, 0.0), "no prompt was answered in both ways"
    cost = f"{spent / len(mine):,.3g} {unit} an answer, {before / len(mine):,.3g} before"
    return gain, f"{points(gain)} on {len(mine)} prompts of the other half, {cost}"


def _gain(option: Option, present: Option, places: Sequence[int]) -> Interval | None:
    both = [place for place in places if place in option.scores and place in present.scores]
    if len(both) >= LEAST_PROMPTS // 2:
        return paired([option.scores[place] for place in both], [present.scores[place] for place in both])
    mine, theirs = option.over(places), present.over(places)
    if min(len(mine), len(theirs)) < LEAST_PROMPTS // 2:
        return None
    return apart([option.scores[place] for place in mine], [present.scores[place] for place in theirs])


def _recipe(space: Space, way: Way) -> dict[str, Any]:
    mode, members = way
    recipe: dict[str, Any] = {"mode": mode}
    if members != _present_way(space)[1]:
        known = {seat.model: seat for seat in space.present.panel}
        seats = [known.get(model, space.seat(model)) for model in members]
        recipe["panel"] = [seat.model_dump(mode="json", exclude_defaults=True) for seat in seats]
        recipe["quorum"] = min(space.present.quorum, sum(seat.samples for seat in seats))
    return recipe


def _present_way(space: Space) -> Way:
    return space.present.mode, tuple(dict.fromkeys(seat.model for seat in space.present.panel))


def _name(way: Way) -> str:
    mode, members = way
    return f"{members[0]} alone" if len(members) == 1 else f"{mode} of {', '.join(members)}"


def _effort(answer: PastAnswer, by_gpu: bool) -> float:
    return answer.gpu_s if by_gpu else answer.tokens


def _step(name: str, count: int, places: Sequence[int], present: Option, options: Any, found: Winner) -> Step:
    tried = []
    for option in [present, *options]:
        over = option.over(places)
        if over:
            gain = None if option is present else _gain(option, present, places)
            chosen = option is (found.option or present)
            accuracy = share([option.scores[place] for place in over])
            tried.append(Tried(f"{option.name} ({len(over)} graded)", accuracy, gain, option.cost(over), chosen))
    tried.sort(key=lambda one: -one.accuracy.value)
    return Step(f"Prompts of {name} ({count})", present.name, tuple(tried), found.why)


def _notes(strange: int, ungraded: int) -> tuple[str, ...]:
    told = []
    if strange:
        told.append(f"{strange:,} past prompts were answered by models that are not of this fusion and are left out")
    if ungraded:
        told.append(f"{ungraded:,} past prompts have neither a right answer nor a user's word: they only help to sort")
    return tuple(told)
