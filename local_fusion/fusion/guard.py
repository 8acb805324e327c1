"""The guard: is what was written at least as good as the best panel answer? Read in both orders; the better is kept.

Invariant: never less than the best panel answer, as far as anyone can tell; where the two could not be compared in both
orders, that answer is returned, if it is whole and has the form asked for.
"""

from __future__ import annotations

from local_fusion.fusion.case import Case
from local_fusion.fusion.events import Guarded
from local_fusion.fusion.form import is_of_form
from local_fusion.fusion.reading import gather, read_labels
from local_fusion.fusion.session import Session
from local_fusion.prompts import neutralise
from local_fusion.types import Answer, Verdict

LABELS = ("1", "2")
UNGUARDED = "the guard could not compare"
LATE = "the deadline passed before the guard could compare"
SAFE = "the best panel answer is returned"
UNCHECKED = "the written answer is returned unchecked, for the best panel answer is cut"


async def guard(session: Session, case: Case, analysis: str | None, written: str, writer: str, best: Answer) -> bool:
    """Whether to keep the written text. The verdict goes into the receipt."""
    if written.strip() == best.text.strip():
        session.note("the written answer is the best panel answer word for word, so no guard was needed")
        return True
    if not session.short_enough(best) or not has_form(session, best):
        session.note("the best panel answer has not the form or length asked for: there was nothing to guard against")
        return True
    margins = [] if session.expired else await _margins(session, case, analysis, written, writer, best)
    if len(margins) < len(LABELS):  # one order alone says as much of the judge's liking for a place as of the texts
        session.degrade(f"{LATE if session.expired else UNGUARDED}; {UNCHECKED if best.cut else SAFE}")
        return best.cut
    margin = sum(margins) / len(margins)
    kept = margin >= session.settings.guard_margin
    consistent = len({value >= 0 for value in margins}) == 1
    session.verdict = Verdict("written" if kept else "answer", margin, best.model, consistent)
    session.emit(Guarded(session.verdict))
    return kept


async def _margins(
    session: Session, case: Case, analysis: str | None, written: str, writer: str, best: Answer
) -> list[float]:
    """Log-odds of the written text over the answer, one per order that could be read."""
    brief = case.brief()
    label = brief.label_of(next(place for place, answer in enumerate(case.answers) if answer is best))
    shown = neutralise(written, case.specials)
    reads = [
        read_labels(
            session,
            "guard",
            session.recipe.prompts.guard(brief, analysis, shown, label, swapped, session.settings.criteria),
            LABELS,
            int(swapped),
        )
        for swapped in (False, True)
    ]
    cached = writer == session.recipe.judge  # its own words are in the cache already
    found = await gather(reads, first_alone=not cached)
    return [(read[0] - read[1]) * sign for read, sign in zip(found, (1, -1), strict=True) if read is not None]


def has_form(session: Session, answer: Answer) -> bool:
    """No JSON schema was asked for, or the answer, though not held to it, is valid by it."""
    schema = session.request.json_schema
    if schema is None:
        return True
    return is_of_form(answer.text, schema)
