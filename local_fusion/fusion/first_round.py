"""The panel's first round: every seat's samples at once, the quorum, and the errors where there is too little.

The client's temperature never reaches a member. Where a member's answer is itself the final answer (best-of, vote,
debate then vote) the client's JSON schema and `max_tokens` do, for they would have to be refused otherwise; `stop` is
then applied to the chosen text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from local_fusion.errors import FusionError
from local_fusion.fusion.member import Ask
from local_fusion.fusion.panel import Enough, Panel, Result
from local_fusion.fusion.session import Session
from local_fusion.types import Answer, Failure, Sampling


def panel_asks(session: Session, final: bool) -> list[Ask]:
    """One ask per seat and sample, samples numbered per model. `final`: an answer may be returned as it is."""
    request = session.request
    counts: Counter[str] = Counter()
    asks = []
    for seat in session.recipe.seats:
        sampling = final_sampling(session, seat.sampling) if final else seat.sampling
        for _ in range(seat.samples):
            ask = Ask(
                seat.model,
                counts[seat.model],
                sampling,
                request.messages,
                seat.weight,
                json_schema=request.json_schema if final else None,
            )
            counts[seat.model] += 1
            session.weights[ask.model, ask.sample] = seat.weight
            asks.append(ask)
    return asks


def final_sampling(session: Session, sampling: Sampling) -> Sampling:
    """A member's sampling where its answer may be the final one: never more tokens than the client allows."""
    most = session.request.max_tokens
    return sampling if most is None or most >= sampling.max_tokens else replace(sampling, max_tokens=most)


async def first_round(
    session: Session, asks: Sequence[Ask], enough: Enough | None = None, required: bool = True
) -> list[Answer]:
    """Run the asks; enters answers and failures and returns all answers so far, in seat order.

    Raises FusionError (all_panels_failed, quorum_not_met, deadline_exceeded) where they are fewer than the quorum,
    unless not `required`, because other members are still to be asked.
    """
    needed = max(0, session.settings.quorum - len(session.answers)) if required else 0
    panel = Panel(session, asks, needed, enough)
    panel.start()
    return enter(session, await panel.result(), required)


def enter(session: Session, result: Result, required: bool = True) -> list[Answer]:
    """Put a first round's answers and failures into the session. Raises as `first_round`."""
    session.answers += result.answers
    session.failures += result.failures
    if required:
        if len(session.answers) < session.settings.quorum:
            raise too_few(session)
        missing_answers(session, result.aborted)
    return list(session.answers)


def missing_answers(session: Session, aborted: int = 0) -> None:
    """Say in the receipt how many of the answers that were asked for did not come, `aborted` ones not counted."""
    missing = [failure for failure in session.failures if failure.stage == "panel"]
    if missing:
        asked = len(missing) + len(session.answers) + aborted
        session.degrade(f"{len(missing)} of {asked} panel answers are missing ({reasons(missing)})")


def too_few(session: Session) -> FusionError:
    """The error of a request that has no answer, or fewer than its quorum."""
    failures = [failure for failure in session.failures if failure.stage == "panel"]
    told = ", ".join(f"{failure.model}: {failure.reason}" for failure in failures)
    if session.answers:
        message = (
            f"the quorum of fusion {session.recipe.name} is {session.settings.quorum} answers and "
            f"{len(session.answers)} came ({told}); lower quorum or look at the members that failed"
        )
        return FusionError(message, "quorum_not_met", failures)
    if any(failure.reason == "deadline" for failure in failures):
        message = (
            f"no member answered before the deadline of {session.settings.deadline_s:g} s ({told}); raise deadline_s"
        )
        return FusionError(message, "deadline_exceeded", failures)
    message = f"no member of the panel of fusion {session.recipe.name} gave an answer ({told}); look at these models"
    return FusionError(message, "all_panels_failed", failures)


def reasons(failures: Sequence[Failure]) -> str:
    """Reasons of failures, counted, for a phrase."""
    counts = Counter(failure.reason for failure in failures)
    return ", ".join(reason if count == 1 else f"{count} {reason}" for reason, count in counts.items())
