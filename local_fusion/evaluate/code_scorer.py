"""Grades code by running it against its tests in the sandbox: HumanEval's `check(candidate)`."""

from __future__ import annotations

import asyncio
import os
import re

from local_fusion.evaluate.items import Grade, Item
from local_fusion.evaluate.sandbox import Limits, run_python

_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)


class CodeScorer:
    """Runs as many programs at once as there are processors."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._places = asyncio.Semaphore(max(1, len(os.sched_getaffinity(0))))

    async def grade(self, item: Item, text: str) -> Grade:
        """1 where every test passes (pass@1), else 0."""
        async with self._places:
            outcome = await run_python(program_of(item, text), self._limits)
        return Grade(float(outcome.passed), outcome.detail)


def program_of(item: Item, text: str) -> str:
    """What the prompt has before the function, the function as the answer gives it, the tests."""
    prompt, entry = str(item.details.get("prompt", "")), str(item.details["entry_point"])
    code = code_of(text, entry)
    if f"def {entry}" in code:
        before = prompt.rpartition(f"def {entry}")[0]
    else:
        before = prompt if prompt.endswith("\n") or not prompt else prompt + "\n"
    return f"{before}{code}\n\n{item.expected}\n\ncheck({entry})\n"


def code_of(text: str, entry: str) -> str:
    """The fenced block that defines `entry`, else the first block, else the text as it is."""
    blocks: list[str] = _FENCE.findall(text)
    defining = [block for block in blocks if f"def {entry}" in block]
    return (defining or blocks or [text])[-1 if defining else 0]
