"""The best answer where no judge can be asked: by agreement, then whole before cut, then by weight, certainty, seat."""

from __future__ import annotations

from collections.abc import Sequence

from local_fusion.fusion.ballot import count_votes
from local_fusion.fusion.session import Session
from local_fusion.types import Answer


def best_without_judge(session: Session, answers: Sequence[Answer]) -> Answer:
    """Deterministic. `answers` is not empty."""
    tally = count_votes(session, answers)
    pool = tally.winners if tally is not None and tally.votes > 1 else answers
    return max(pool, key=lambda answer: (not answer.cut, session.weight(answer), answer.certainty or 0.0))
