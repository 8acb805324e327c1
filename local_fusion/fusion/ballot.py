"""Counts votes: answers reduced to comparable values, weighted by seat weight times the member's own certainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from local_fusion.answers import Comparison, Reader
from local_fusion.types import Answer

EPSILON = 1e-9


class Voters(Protocol):
    """What a count needs of a session; calibration counts votes of past answers by the same code."""

    @property
    def reader(self) -> Reader: ...

    def weight(self, answer: Answer) -> float: ...


@dataclass(frozen=True, slots=True)
class Tally:
    """`winners`: the answers with the winning value, the best first. `votes` of `voters` answers are theirs;
    `asked` counts those too that could not be read. `lead`: weight by which it leads the second value."""

    kind: str
    winners: tuple[Answer, ...]
    votes: int
    voters: int
    asked: int
    weight: float
    lead: float

    @property
    def share(self) -> float:
        """Share of all answers that agree with the winner."""
        return self.votes / self.asked

    @property
    def majority(self) -> bool:
        return 2 * self.votes > self.asked

    @property
    def unanimous(self) -> bool:
        return self.votes == self.asked


def count_votes(session: Voters, answers: Sequence[Answer], strict: bool = False) -> Tally | None:
    """None where the answers cannot be compared. `strict`: only where every answer is short or marked."""
    weights = [vote_of(session, answer) for answer in answers]
    comparison = session.reader.compare([answer.text for answer in answers], strict, weights)
    return None if comparison is None else _tally(session, answers, comparison)


def settled(session: Voters, answers: Sequence[Answer], out_weight: float, strict: bool = False) -> Tally | None:
    """The count, where no vote that is still out can change the winner: each is at most its seat's weight, and whatever
    kind of value all of them will be compared by, the same answer leads by more than is out. None where one can."""
    weights = [vote_of(session, answer) for answer in answers]
    if sum(weights) <= out_weight + EPSILON:
        return None  # nobody can lead by more than all weigh together
    possible = session.reader.possible([answer.text for answer in answers], strict, weights, out_weight)
    tallies = [_tally(session, answers, comparison) for comparison in possible]
    first = tallies[0] if tallies else None
    if first is None:
        return None
    for tally in tallies:
        if tally is None or tally.lead <= out_weight + EPSILON:
            return None
        if not any(answer is first.winners[0] for answer in tally.winners):
            return None
    return first


def _tally(session: Voters, answers: Sequence[Answer], comparison: Comparison) -> Tally | None:
    groups: dict[str, list[Answer]] = {}
    for answer, key in zip(answers, comparison.keys, strict=True):
        if key is not None:
            groups.setdefault(key, []).append(answer)
    if not groups:
        return None
    ranked = sorted(groups.values(), key=lambda group: _rank(session, group), reverse=True)
    weights = [_weight(session, group) for group in ranked]
    first = ranked[0]
    return Tally(
        kind=comparison.kind,
        winners=tuple(sorted(first, key=lambda answer: (not answer.cut, vote_of(session, answer)), reverse=True)),
        votes=len(first),
        voters=sum(map(len, ranked)),
        asked=len(answers),
        weight=weights[0],
        lead=weights[0] - (weights[1] if len(weights) > 1 else 0.0),
    )


def vote_of(session: Voters, answer: Answer) -> float:
    """Seat weight x certainty; an engine that tells no certainty votes with the whole weight."""
    return session.weight(answer) * (1.0 if answer.certainty is None else answer.certainty)


def _weight(session: Voters, group: Sequence[Answer]) -> float:
    return sum(vote_of(session, answer) for answer in group)


def _rank(session: Voters, group: Sequence[Answer]) -> tuple[float, float, int]:
    """Weight first; a tie goes to the most certain answer, then to the greater number."""
    weight = round(_weight(session, group) / EPSILON) * EPSILON
    return weight, max(answer.certainty or 0.0 for answer in group), len(group)
