"""Tokens that a vote in waves spares at equal accuracy, on the shipped models.

    python -m benchmarks.early_exit [--rows 400] [--samples 3]

The confidence is chosen on two seeds (the lowest that gets no fewer right than all samples do) and measured on another,
question by question. Nothing is aborted here: what is spared was never asked, so every token is counted.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.figures import at_least, plain, tell
from local_fusion.config import load_config
from local_fusion.engine import Engines
from local_fusion.evaluate.intervals import difference
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import Recipe
from local_fusion.runtime import open_engines, recipe_of
from local_fusion.types import Fused, Message, Request
from local_fusion.zoo.grading import grade
from local_fusion.zoo.questions import questions

CONFIDENCES = (0.55, 0.6, 0.62, 0.64, 0.66, 0.68, 0.7, 0.75, 0.8, 0.85, 0.9)
SEEDS = (11, 13)
"""Of the questions on which the confidence is chosen."""
Found = tuple[list[bool], int]


async def main(rows: int, samples: int) -> None:
    config = load_config()
    panel = [
        {"model": member.model, "samples": samples, "sampling": {"temperature": 0.7}}
        for member in config.fusion("demo").panel
    ]

    def recipe(confidence: float | None) -> Recipe:
        return recipe_of(config, "demo", mode="vote", panel=panel, early_exit=False, exit_confidence=confidence)

    async with open_engines(config, recipe(None).settings.models, print) as engines:
        whole = [right for seed in SEEDS for right in (await run(engines, recipe(None), seed, rows))[0]]
        chosen = CONFIDENCES[-1]
        for confidence in CONFIDENCES:
            right = [one for seed in SEEDS for one in (await run(engines, recipe(confidence), seed, rows))[0]]
            print(f"confidence {confidence}: {sum(right)} right of {len(right)}, all samples {sum(whole)}", flush=True)
            if sum(right) >= sum(whole):
                chosen = confidence
                break
        all_right, all_tokens = await run(engines, recipe(None), 12, rows)
        right, tokens = await run(engines, recipe(chosen), 12, rows)
    group = "Early exit"
    gap = difference(right, all_right)
    told = (
        f"{rows} held-out questions, {samples} samples of each of three members at temperature 0.7; "
        f"confidence {chosen} chosen on other questions. Accuracy in waves less that of all samples: "
        f"{100 * gap.value:+.1f} points (95 % interval {100 * gap.low:+.1f} to {100 * gap.high:+.1f})."
    )
    bound = "Bound by questions on which the first wave is split: they are asked to the end."
    percent = 100 * (1 - tokens / all_tokens)
    spared = at_least(group, "panel tokens spared", [percent], "%", 40, conditions=told, bound=bound)
    tell(replace(spared, aim="at least 40 at equal accuracy", holds=bool(spared.holds) and gap.high >= 0))
    tell(plain(group, "accuracy in waves", [100 * sum(right) / rows], "%"))
    tell(plain(group, "accuracy with all samples", [100 * sum(all_right) / rows], "%"))


async def run(engines: Engines, recipe: Recipe, seed: int, rows: int) -> Found:
    """Right or wrong per question, and the panel's completion tokens."""
    drawn = list(questions(seed, rows, "heldout"))
    requests = [
        Request(f"exit-{seed}-{index}", (Message("user", question.prompt),), seed=index)
        for index, question in enumerate(drawn)
    ]
    found: Sequence[Fused] = await asyncio.gather(*(fuse(request, recipe, engines) for request in requests))
    right = [grade(question.expected, fused.text) for question, fused in zip(drawn, found, strict=True)]
    tokens = sum(call.tokens.completion for fused in found for call in fused.receipt.calls if call.stage == "panel")
    return right, tokens


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--samples", type=int, default=3)
    options = parser.parse_args()
    asyncio.run(main(options.rows, options.samples))
