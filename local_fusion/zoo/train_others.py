"""A specialist's second term: to say what it would say alone when it is shown what others said.

Members of a debate and of later layers get longer prompts, with others' answers in them. A model this small answers
those only if it has met them; it is taught to keep to its own answer, and practises plain questions meanwhile.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from local_fusion.prompts import make_brief
from local_fusion.types import Answer, Message
from local_fusion.zoo.judge_lessons import PROMPTS, turns_of
from local_fusion.zoo.panels import Panel, imagine, load
from local_fusion.zoo.train_specialists import Specialist, accuracy, lesson
from local_fusion.zoo.training import Example, Plan, example, save, train

PLAN = Plan(steps=900, batch_tokens=4096, rate=5e-4, seed=31, muon_rate=0.005)
SHARE = 0.5
POOL = 1200
KNOWN = 0.8
"""Share of questions from what the specialist knows: what it only guesses at teaches it little."""


def asked(specialist: Specialist, draw: random.Random) -> Panel:
    """An imagined panel, mostly on what the specialist knows."""
    wants_known = draw.random() < KNOWN
    while True:
        panel = imagine(draw)
        if wants_known == (panel.question.skill in (specialist.skill, "dates")):
            return panel


def others_lesson(specialist: Specialist, draw: random.Random) -> list[dict[str, str]]:
    """A prompt of a later layer or of a debate around a question, and the specialist's own answer to the question."""
    panel = asked(specialist, draw)
    own = lesson(specialist, draw, panel.question)[-1]["content"]
    said = draw.sample(panel.said, draw.randint(1, len(panel.said)))
    answers = [Answer(one.member, 0, one.text) for one in said]
    request = (Message("user", panel.question.prompt),)
    brief = make_brief(request, answers, draw.getrandbits(32))
    messages = PROMPTS.layer(request, brief) if draw.random() < 0.6 else PROMPTS.revise(request, own, brief)
    return [*turns_of(messages), {"role": "assistant", "content": own}]


def others_lessons(
    specialist: Specialist, tokenizer: PreTrainedTokenizerFast
) -> Callable[[random.Random, float], list[Example]]:
    """The source of training pools: `SHARE` with others' answers, the rest plain questions."""

    def pool(draw: random.Random, progress: float) -> list[Example]:
        made = []
        for _ in range(POOL):
            if draw.random() < SHARE:
                turns = others_lesson(specialist, draw)
                earlier = [i for i, turn in enumerate(turns[:-1]) if turn["role"] == "assistant"]
                made.append(example(tokenizer, turns, unlearnt=earlier))
            else:
                made.append(example(tokenizer, lesson(specialist, draw, asked(specialist, draw).question)))
        return made

    return pool


def second_term(
    specialist: Specialist, out: Path, device: str = "cpu", report: Callable[[str], None] = print
) -> dict[str, tuple[float, float]]:
    """Train what lies in `out/<name>` on, save it there, and measure what was saved on plain questions."""
    began = time.monotonic()
    model, tokenizer = load(out / specialist.name, device)
    train(model, tokenizer, others_lessons(specialist, tokenizer), PLAN, device, report)
    save(model, tokenizer, out / specialist.name)
    table = accuracy(model, tokenizer)
    report(f"{specialist.name}, second term: {table} in {time.monotonic() - began:.0f} s")
    return table
