"""layered: mixture of agents. Each member of a later layer sees a seeded random K of the answers of the layer before.

No barrier: a member starts as soon as *its* K are there. Once a layer agrees, later ones are stopped. A writer closes.
Source: Mixture-of-Agents, arXiv 2406.04692; K of N: recursive self-aggregation, arXiv 2509.26626.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from local_fusion.errors import CallError
from local_fusion.fusion.calls import seed_of
from local_fusion.fusion.first_round import enter, panel_asks, reasons
from local_fusion.fusion.member import Ask, Prompt
from local_fusion.fusion.modes.debate import agree
from local_fusion.fusion.modes.merge import write_from
from local_fusion.fusion.others import shown_to
from local_fusion.fusion.outcome import Outcome
from local_fusion.fusion.panel import Panel
from local_fusion.fusion.session import Session
from local_fusion.prompts import Brief
from local_fusion.types import Answer, Message


async def layered(session: Session) -> Outcome:
    """Run the layers, then write from the last."""
    asks = panel_asks(session, final=False)
    panels = [Panel(session, asks, session.settings.quorum)]
    for layer in range(1, session.settings.layers):
        panels.append(Panel(session, _layer_asks(session, asks, panels[-1], layer), session.settings.quorum))
    for panel in panels:
        panel.start()
    try:
        answers, depth = await _climb(session, panels)
    finally:
        for panel in panels:
            panel.abort()
    layers = "layer" if depth == 1 else "layers"
    return await write_from(session, answers, "layered", f"{depth} {layers} of {len(asks)} answers each")


async def _climb(session: Session, panels: Sequence[Panel]) -> tuple[list[Answer], int]:
    """The answers of the last layer that gave any, and how many layers ran."""
    answers = enter(session, await panels[0].result())
    for depth, panel in enumerate(panels[1:], 1):
        if agree(session, answers):
            session.note(f"the answers of layer {depth} agree, so the layers after it were left out")
            for later in panels[depth:]:
                later.stop()
                await later.result()
            return answers, depth
        result = await panel.result()
        session.answers += result.answers
        session.failures += result.failures
        if result.failures:
            told = reasons(result.failures)
            asked = len(result.failures) + len(result.answers)
            session.degrade(f"{len(result.failures)} of {asked} answers of layer {depth + 1} are missing ({told})")
        if not result.answers:
            session.degrade(f"layer {depth + 1} gave no answer; those of the layer before it were used")
            return answers, depth
        answers = list(result.answers)
    return answers, len(panels)


def _layer_asks(session: Session, asks: Sequence[Ask], before: Panel, layer: int) -> list[Ask]:
    return [replace(ask, stage="layer", round=layer, prompt=_prompt(session, ask, before, layer)) for ask in asks]


def _prompt(session: Session, ask: Ask, before: Panel, layer: int) -> Prompt:
    """Waits for this member's K answers of the layer before."""
    count = len(before.settled)
    draw = random.Random(seed_of(session.request, ask.model, ask.sample, "sources", layer))
    sources = draw.sample(range(count), min(session.settings.layer_width, count))

    async def prompt() -> tuple[Message, ...]:
        futures = [before.settled[source] for source in sources]
        await asyncio.wait(futures)  # unlike awaiting them, this does not cancel them when this member is aborted
        shown = [future.result() for future in futures if not future.cancelled()]
        answers = [answer for answer in shown if isinstance(answer, Answer)]
        if not answers:
            raise CallError(f"{ask.model} had no answer of the layer before to work from", "aborted")
        return await shown_to(session, ask, answers, layer, build)

    def build(brief: Brief, specials: Sequence[str]) -> tuple[Message, ...]:
        return session.recipe.prompts.layer(session.request.messages, brief)

    return prompt
