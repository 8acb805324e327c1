"""The ways past prompts were answered, and could have been, with their marks: an `Option` for each.

Of a prompt whose right answer is known, other ways are counted too, as far as the receipt tells their result: each
member alone, the judge's choice, and the vote, which the fusion's own code counts with the seats' weights.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.answers import Reader
from local_fusion.calibrate.by_kind import Option
from local_fusion.calibrate.marks import Marks
from local_fusion.calibrate.past import PastAnswer, PastPrompt
from local_fusion.calibrate.space import Space
from local_fusion.config.schema import MemberSettings
from local_fusion.fusion.ballot import count_votes
from local_fusion.types import Answer

Way = tuple[str, tuple[str, ...]]
"""Mode and members."""


def options_of(
    space: Space, prompts: Sequence[PastPrompt], marks: Marks, by_gpu: bool
) -> tuple[dict[Way, Option], int]:
    """Every way there is evidence for, with its marks by prompt; and how many prompts have any."""
    scores: dict[Way, dict[int, float]] = defaultdict(dict)
    effort: dict[Way, dict[int, float]] = defaultdict(dict)
    graded: set[int] = set()
    for place, prompt in enumerate(prompts):
        can_be_graded = marks.text(prompt, prompt.text) is not None
        for way, text, cost in _ways(space, prompt, marks.knows(prompt), by_gpu):
            mark = marks.final(prompt) if text is None else marks.text(prompt, text)
            if mark is None and can_be_graded:
                mark = 0.0
            if mark is not None and place not in scores[way]:
                scores[way][place], effort[way][place] = mark, cost
                graded.add(place)
    found = {way: Option(name_of(way), _recipe(space, way), scores[way], effort[way]) for way in scores if scores[way]}
    return found, len(graded)


def _ways(
    space: Space, prompt: PastPrompt, right_is_known: bool, by_gpu: bool
) -> Iterator[tuple[Way, str | None, float]]:
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
        voted = vote(prompt, _seats(space, prompt.panel))
        if voted is not None:
            yield ("vote", prompt.panel), voted, asked
        if prompt.picked is not None:
            yield ("best-of", prompt.panel), prompt.picked, asked + prompt.reads[unit]


@dataclass(frozen=True)
class _Voters:
    """The seats of a panel and a reader of its answers: what the fusion's count of votes needs."""

    reader: Reader
    weights: Mapping[tuple[str, int], float]

    def weight(self, answer: Answer) -> float:
        return self.weights.get((answer.model, answer.sample), 1.0)


def vote(prompt: PastPrompt, seats: Sequence[MemberSettings] = ()) -> str | None:
    """What a vote of the answers returns where the members have these seats; None where they have no common value."""
    weights, numbers = dict[tuple[str, int], float](), Counter[str]()
    for seat in seats:
        for _ in range(seat.samples):
            weights[seat.model, numbers[seat.model]] = seat.weight
            numbers[seat.model] += 1
    answers = [Answer(one.model, one.sample, one.text, certainty=one.certainty, cut=one.cut) for one in prompt.answers]
    tally = count_votes(_Voters(Reader(prompt.question), weights), answers)
    return None if tally is None else tally.winners[0].text


def _recipe(space: Space, way: Way) -> dict[str, Any]:
    mode, members = way
    recipe: dict[str, Any] = {"mode": mode}
    if members != present_way(space)[1]:
        seats = _seats(space, members)
        recipe["panel"] = [seat.model_dump(mode="json", exclude_defaults=True) for seat in seats]
        recipe["quorum"] = min(space.present.quorum, sum(seat.samples for seat in seats))
    return recipe


def _seats(space: Space, members: tuple[str, ...]) -> list[MemberSettings]:
    """Of the panel as it is, or of these members with the seats that they have there."""
    if members == present_way(space)[1]:
        return list(space.present.panel)
    known = {seat.model: seat for seat in space.present.panel}
    return [known.get(model, space.seat(model)) for model in members]


def present_way(space: Space) -> Way:
    """As the fusion answers now."""
    return space.present.mode, tuple(dict.fromkeys(seat.model for seat in space.present.panel))


def name_of(way: Way) -> str:
    """A way in words."""
    mode, members = way
    return f"{members[0]} alone" if len(members) == 1 else f"{mode} of {', '.join(members)}"


def _effort(answer: PastAnswer, by_gpu: bool) -> float:
    return answer.gpu_s if by_gpu else answer.tokens
