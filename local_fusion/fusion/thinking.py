"""Splits thinking from what was said, for models served without a reasoning parser."""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


def split_thinking(text: str) -> tuple[str | None, str | None]:
    """(reasoning, said) of a completion's text; said is None where the model was cut before it said anything.

    Some chat templates open the block in the prompt, so that only its end shows, alone at the end of a line; a closing
    tag inside a sentence is left alone, for a question may be about tags.
    """
    start = text.lstrip()
    if start.startswith(OPEN):
        reasoning, found, said = start[len(OPEN) :].partition(CLOSE)
        return reasoning.strip(), said.strip() if found else None
    reasoning, found, said = text.partition(CLOSE + "\n")
    if found and OPEN not in reasoning:
        return reasoning.strip(), said.strip()
    return None, text
