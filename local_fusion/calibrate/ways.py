"""The ways past prompts were answered, and could have been, with their marks: an `Option` for each.

Of a prompt whose right answer is known, other ways are counted too, as far as the receipt tells their result: each
member alone, the judge's choice, and the vote, which the fusion's own code counts with the seats' weights.

Invariant: a way tells either of (nearly) every graded prompt that was asked for alike, or of none of them. One that is
known of some alone, as a vote is where answers can be counted, would be compared on prompts that its outcome chose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.answers import Reader
from local_fusion.calibrate.by_kind import COVERED, Option
from local_fusion.calibrate.marks import Marks
from local_fusion.calibrate.past import PastAnswer, PastPrompt
from local_fusion.calibrate.space import Space
from local_fusion.config.schema import MemberSettings
from local_fusion.fusion.ballot import count_votes
from local_fusion.types import Answer

ALONE = "alone"
Way = tuple[str, tuple[str, ...]]
"""Mode and members; ALONE: one answer of one member."""
Told = tuple[float, float]
"""Mark and effort."""


def options_of(
    space: Space, prompts: Sequence[PastPrompt], marks: Marks, by_gpu: bool
) -> tuple[dict[Way, Option], int]:
    """Every way there is evidence for, with its marks by prompt; and how many prompts have any."""
    told: dict[Way, dict[int, Told]] = defaultdict(dict)
    alike: dict[Hashable, set[int]] = defaultdict(set)
    graded: set[int] = set()
    for place, prompt in enumerate(prompts):
        if marks.final(prompt) is not None:
            alike[_asked_for(space, prompt)].add(place)
            graded.add(place)
        for way, one in _marked(space, prompt, marks, by_gpu).items():
            told[way][place] = one
    options = {way: _option(space, way, known, alike.values()) for way, known in told.items()}
    return {way: option for way, option in options.items() if option.scores}, len(graded)


def is_own(space: Space, prompt: PastPrompt) -> bool:
    """This fusion answered it, with the judge and writers it has now."""
    judged = prompt.judge in (None, space.present.judge_name)
    return prompt.fusion in (None, space.name) and judged and set(prompt.writers) <= set(space.present.writer_names)


def _asked_for(space: Space, prompt: PastPrompt) -> Hashable:
    """What is the same for prompts that were asked for alike, whatever came of them."""
    return prompt.fusion, prompt.mode, is_own(space, prompt), frozenset(_panel(space, prompt))


def _option(space: Space, way: Way, known: Mapping[int, Told], alike: Collection[set[int]]) -> Option:
    """Without the prompts asked for alike of which it tells too few."""
    wanted = set[int]()
    for places in alike:
        if len(places & known.keys()) >= COVERED * len(places):
            wanted |= places
    kept = {place: known[place] for place in sorted(wanted & known.keys())}
    scores = {place: mark for place, (mark, _) in kept.items()}
    effort = {place: cost for place, (_, cost) in kept.items()}
    return Option(name_of(way), _recipe(space, way), scores, effort, frozenset(wanted))


def _marked(space: Space, prompt: PastPrompt, marks: Marks, by_gpu: bool) -> dict[Way, Told]:
    """Every way that the prompt tells of; what can no longer be graded counts as wrong."""
    found: dict[Way, Told] = {}
    way, final = _answered(space, prompt), marks.final(prompt)
    asked = sum(_effort(answer, by_gpu) for answer in prompt.answers)
    if way is not None and final is not None:
        found[way] = final, asked + prompt.rest[int(by_gpu)]
    if marks.knows(prompt) and marks.text(prompt, prompt.text) is not None:
        for other, text, cost in [*_alone(space, prompt, by_gpu), *_together(space, prompt, by_gpu)]:
            mark = None if text is None else marks.text(prompt, text)
            found.setdefault(other, (mark or 0.0, cost))
    return found


def _answered(space: Space, prompt: PastPrompt) -> Way | None:
    """How this fusion answered it; None where another did, or other seats were asked than would be now."""
    if not is_own(space, prompt):
        return None
    panel, seen = _panel(space, prompt), _seen(prompt)
    wanted = set(_numbered(_seats(space, panel)))
    if seen == {(panel[0], 0)} and not prompt.short and prompt.mode in ("vote", "best-of"):
        return _way_alone(space, panel[0])
    return (prompt.mode, panel) if seen == wanted or (prompt.short and seen < wanted) else None


def _alone(space: Space, prompt: PastPrompt, by_gpu: bool) -> Iterator[tuple[Way, str | None, float]]:
    """The first answer of each member; text None where it failed. Of one that was stopped nothing is known."""
    for answer in prompt.answers:
        if answer.sample == 0:
            yield _way_alone(space, answer.model), answer.text, _effort(answer, by_gpu)
    for one in prompt.missed:
        if one.sample == 0 and one.failed:
            yield _way_alone(space, one.model), None, 0.0


def _together(space: Space, prompt: PastPrompt, by_gpu: bool) -> Iterator[tuple[Way, str | None, float]]:
    """The vote and the judge's choice, where everyone was asked who would be; a vote that cannot be counted is the
    judge's choice too."""
    panel = _panel(space, prompt)
    seats = _seats(space, panel)
    if len(_seen(prompt)) < 2 or _seen(prompt) != set(_numbered(seats)):
        return
    asked, reads = sum(_effort(answer, by_gpu) for answer in prompt.answers), prompt.reads[int(by_gpu)]
    voted, picked = vote(prompt, seats), _choice(space, prompt)
    if voted is not None:
        yield ("vote", panel), voted, asked
    elif picked is not None:
        yield ("vote", panel), picked, asked + reads
    if picked is not None:
        yield ("best-of", panel), picked, asked + reads


def _choice(space: Space, prompt: PastPrompt) -> str | None:
    """What the fusion's judge picked, or need not pick, for all said the same; None where not known."""
    if len({answer.text.strip() for answer in prompt.answers}) == 1:
        return prompt.answers[0].text
    return prompt.picked if is_own(space, prompt) else None


def _panel(space: Space, prompt: PastPrompt) -> tuple[str, ...]:
    """Who was asked. In the fusion's own order, for those who failed stand last; and where an early exit left someone
    out of whom nothing is known, the fusion's whole panel."""
    own = present_way(space)[1]
    same = set(prompt.panel) == set(own) or (prompt.short and set(prompt.panel) < set(own))
    return own if same else prompt.panel


def _seen(prompt: PastPrompt) -> set[tuple[str, int]]:
    """Models and numbers of the samples that answered or failed."""
    answered = {(one.model, one.sample) for one in prompt.answers}
    return answered | {(one.model, one.sample) for one in prompt.missed}


def _numbered(seats: Sequence[MemberSettings]) -> dict[tuple[str, int], float]:
    """Weights by model and number of the sample, as the fusion numbers them."""
    weights, numbers = dict[tuple[str, int], float](), Counter[str]()
    for seat in seats:
        for _ in range(seat.samples):
            weights[seat.model, numbers[seat.model]] = seat.weight
            numbers[seat.model] += 1
    return weights


@dataclass(frozen=True)
class _Voters:
    """The seats of a panel and a reader of its answers: what the fusion's count of votes needs."""

    reader: Reader
    weights: Mapping[tuple[str, int], float]

    def weight(self, answer: Answer) -> float:
        return self.weights.get((answer.model, answer.sample), 1.0)


def vote(prompt: PastPrompt, seats: Sequence[MemberSettings] = ()) -> str | None:
    """What a vote of the answers returns where the members have these seats; None where they have no common value."""
    answers = [Answer(one.model, one.sample, one.text, certainty=one.certainty, cut=one.cut) for one in prompt.answers]
    tally = count_votes(_Voters(Reader(prompt.question), _numbered(seats)), answers)
    return None if tally is None else tally.winners[0].text


def _recipe(space: Space, way: Way) -> dict[str, Any]:
    mode, members = way
    seats = [space.seat(members[0])] if mode == ALONE else _seats(space, members)
    recipe: dict[str, Any] = {"mode": "best-of" if mode == ALONE else mode}
    if tuple(seats) != space.present.panel:
        recipe["panel"] = [seat.model_dump(mode="json", exclude_defaults=True) for seat in seats]
        recipe["quorum"] = min(space.present.quorum, sum(seat.samples for seat in seats))
    return recipe


def _seats(space: Space, members: tuple[str, ...]) -> list[MemberSettings]:
    """Of the panel as it is, or of these members with the first seats that they have there."""
    if members == present_way(space)[1]:
        return list(space.present.panel)
    first = {seat.model: seat for seat in reversed(space.present.panel)}
    return [first.get(model, space.seat(model)) for model in members]


def _way_alone(space: Space, model: str) -> Way:
    """One answer of one member; as the fusion answers now, where that is all it does."""
    if space.present.panel == (space.seat(model),) and space.present.mode in ("vote", "best-of"):
        return present_way(space)
    return ALONE, (model,)


def present_way(space: Space) -> Way:
    """As the fusion answers now."""
    return space.present.mode, tuple(dict.fromkeys(seat.model for seat in space.present.panel))


def name_of(way: Way) -> str:
    """A way in words."""
    mode, members = way
    return f"{members[0]} alone" if mode == ALONE else f"{mode} of {', '.join(members)}"


def _effort(answer: PastAnswer, by_gpu: bool) -> float:
    return answer.gpu_s if by_gpu else answer.tokens
