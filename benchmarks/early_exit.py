"""Tokens that a vote in waves spares at equal accuracy, on the shipped models.

    python -m benchmarks.early_exit [--rows 400] [--samples 3]

The confidence is chosen on two seeds (the lowest that gets no fewer right than all samples do) and measured on five
others, question by question. Nothing is aborted here: what is spared was never asked, so every token is counted.
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
CHOSEN_ON = (11, 13)
MEASURED_ON = (21, 22, 23, 24, 25)
"""Seeds of questions. One that has been looked at while the rule was made is no longer fit to measure it."""
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
        whole = [right for seed in CHOSEN_ON for right in (await run(engines, recipe(None), seed, rows))[0]]
        chosen = CONFIDENCES[-1]
        for confidence in CONFIDENCES:
            right = [one for seed in CHOSEN_ON for one in (await run(engines, recipe(confidence), seed, rows))[0]]
            print(f"confidence {confidence}: {sum(right)} right of {len(right)}, all samples {sum(whole)}", flush=True)
            if sum(right) >= sum(whole):
                chosen = confidence
                break
        pairs = [
            (await run(engines, recipe(None), seed, rows), await run(engines, recipe(chosen), seed, rows))
            for seed in MEASURED_ON
        ]
    say(rows, samples, chosen, pairs)


def say(rows: int, samples: int, chosen: float, pairs: Sequence[tuple[Found, Found]]) -> None:
    """The figures of pairs of runs: all samples, and in waves."""
    group = "Early exit"
    all_right = [one for (right, _), _ in pairs for one in right]
    gap = difference([one for _, (right, _) in pairs for one in right], all_right)
    told = (
        f"{len(pairs)} times {rows} held-out questions, {samples} samples of each of three members at temperature 0.7; "
        f"confidence {chosen} chosen on other questions. Accuracy in waves less that of all samples: "
        f"{100 * gap.value:+.2f} points (95 % interval {100 * gap.low:+.2f} to {100 * gap.high:+.2f})."
    )
    bound = "Bound by questions on which the first wave is split: they are asked to the end."
    percents = [100 * (1 - tokens / all_tokens) for (_, all_tokens), (_, tokens) in pairs]
    spared = at_least(group, "panel tokens spared", percents, "%", 40, conditions=told, bound=bound)
    tell(replace(spared, aim="at least 40 at equal accuracy", holds=bool(spared.holds) and gap.high >= 0))
    for what, which in (("accuracy in waves", 1), ("accuracy with all samples", 0)):
        tell(plain(group, what, [100 * sum(pair[which][0]) / rows for pair in pairs], "%"))


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
