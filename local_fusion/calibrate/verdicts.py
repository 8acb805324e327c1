"""Whether what past prompts say of a recipe holds: chosen on one part, kept on another, reported on a third. Pure.

Invariant: what is claimed comes from prompts on which nothing was chosen or dropped, and only a difference that is
surely above chance is claimed as a gain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from local_fusion.calibrate.bench import exact
from local_fusion.calibrate.by_kind import LEAST_PROMPTS, Option, Winner, compare, told_of, winner
from local_fusion.calibrate.steps import points
from local_fusion.evaluate.intervals import Interval, difference

CHOOSE, KEEP, REPORT = 0, 1, 2
LEAST_KEPT = LEAST_PROMPTS // 2
LEAST_REPORTED = 20
"""With none of 20 lost, a loss on more than a seventh would have shown (rule of three)."""


@dataclass(frozen=True)
class Report:
    """What is claimed. `kept`: kinds whose recipe holds, `observed` those of them that no paired prompts tell of;
    `gain`, `prompts`: paired, over all prompts of the last part, None and 0 where nothing is paired."""

    kept: tuple[str, ...]
    observed: tuple[str, ...]
    why: str
    gain: Interval | None = None
    prompts: int = 0


def part_of(question: str) -> int:
    """By the words alone, the same in every run: half of the prompts to choose on, a quarter to keep or drop, a quarter
    to report."""
    first = hashlib.sha256(f"part {question}".encode("utf-8", "surrogatepass")).digest()[0]
    return (CHOOSE, CHOOSE, KEEP, REPORT)[first & 3]


def winner_of(places: Sequence[int], parts: Sequence[int], present: Option, options: Sequence[Option]) -> Winner:
    """The winner among one kind's prompts on the first part, if it is no worse on the second."""
    if not present.covers(places):
        count = len(present.over(places))
        why = f"{present.name} is known of only {count} graded prompts, which may be the easy ones"
        return Winner(None, max(1, count), why)
    usable = [option for option in options if option.covers(places)]
    found = winner(_of(places, parts, CHOOSE), present, usable)
    if found.option is None:
        return found
    again = compare(_of(places, parts, KEEP), found.option, present, LEAST_KEPT)
    if again is None or again.gain.value < 0:
        told = "too few other prompts tell" if again is None else f"on other prompts {told_of(again)}"
        return Winner(None, found.prompts, f"{found.option.name} won where it was chosen, but {told}")
    paired = found.paired and again.paired
    return replace(found, why=f"{found.why}; on other prompts {told_of(again)}", paired=paired)


def report_of(
    kinds: Mapping[str, Sequence[int]],
    winners: Mapping[str, Winner],
    parts: Sequence[int],
    present: Option,
    unit: str,
) -> Report:
    """What the winners come to on the third part. `kinds`: prompts of each; at least one has a winner."""
    won = {name: one.option for name, one in winners.items() if one.option is not None}
    last = {name: _of(places, parts, REPORT) for name, places in kinds.items()}
    seen = [name for name in won if not winners[name].paired]
    told, kept = [], list[str]()
    gain, count = None, 0
    if len(seen) < len(won):
        measured = {name: option for name, option in won.items() if name not in seen}
        rest = {name: places for name, places in last.items() if name not in seen}
        holds, why, gain, count = _measured(rest, measured, present, unit)
        told.append(why)
        kept += measured if holds else []
    if seen:
        held, why = _observed({name: last[name] for name in seen}, won, present)
        told.append(why)
        kept += held
        seen = held
    return Report(tuple(kept), tuple(seen), "; ".join(told), gain, count)


def _measured(
    kinds: Mapping[str, Sequence[int]], won: Mapping[str, Option], present: Option, unit: str
) -> tuple[bool, str, Interval | None, int]:
    """All kinds together, prompt by prompt: surely better, or not worse and cheaper."""
    mine, theirs, spent, before, told = list[float](), list[float](), 0.0, 0.0, 0
    for name, places in kinds.items():
        option = won.get(name, present)
        for place in places:
            if place in option.scores and place in present.scores:
                mine.append(option.scores[place])
                theirs.append(present.scores[place])
                spent += option.effort[place]
                before += present.effort[place]
                told += name in won
    if told < LEAST_REPORTED:
        why = f"only {told} prompts kept for the report tell of the new recipes, {LEAST_REPORTED} are wanted"
        return False, f"{why}; learn again when more was run", None, len(mine)
    gain, count = exact(difference(mine, theirs)), len(mine)
    holds = gain.low > 0 or (gain.value >= 0 and spent < before)
    sure = gain.low > 0 or gain.value < 0
    words = points(gain) if sure else f"no sure difference ({100 * gain.low:+.1f} to {100 * gain.high:+.1f} points)"
    cost = f"{spent / count:,.3g} {unit} an answer, {before / count:,.3g} before"
    return holds, f"{words} on {count} prompts kept for the report, {cost}", gain, count


def _observed(kinds: Mapping[str, Sequence[int]], won: Mapping[str, Option], present: Option) -> tuple[list[str], str]:
    """Kinds whose recipe and fusion were given different prompts: kept where the observation is the same once more."""
    found = {name: compare(places, won[name], present, LEAST_KEPT) for name, places in kinds.items()}
    told = {name: one for name, one in found.items() if one is not None}
    few = f"of {', '.join(set(found) - set(told))} too few prompts kept for the report tell"
    if not told:
        return [], few
    total = sum(one.prompts for one in told.values())
    mean = round(sum(one.gain.value * one.prompts for one in told.values()) / total, 9)
    words = ", ".join(f"{name} {points(one.gain)}" for name, one in told.items())
    why = f"observed on different prompts, not measured on the same: {words}"
    why += f"; {few}" if len(told) < len(found) else ""
    return list(told) if mean >= 0 else [], why


def _of(places: Sequence[int], parts: Sequence[int], part: int) -> list[int]:
    return [place for place in places if parts[place] == part]
