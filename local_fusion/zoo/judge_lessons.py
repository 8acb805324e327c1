"""The judge's lessons: the runtime's own prompts around real panel answers, with what a good judge would reply."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from local_fusion.prompts import Brief, PromptSet, load_prompts, make_brief
from local_fusion.types import Answer, Message
from local_fusion.zoo.grading import grade
from local_fusion.zoo.panels import Panel, Said
from local_fusion.zoo.questions import LETTERS
from local_fusion.zoo.training import IGNORED, Example, example

PROMPTS: PromptSet = load_prompts("short")
POOL = 1500
GUARD_ALONE = 0.4
"""Share of guard conversations in which nothing else is learnt: its one token would drown among the others."""
LISTS = ("consensus", "contradictions", "partial_coverage", "unique_insights", "blind_spots")
FIELDS = ("topic", "stances", "stance", "model", "insight")


def turns_of(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages as a chat template takes them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def brief_of(panel: Panel, said: Sequence[Said], seed: int, system: str | None = None, rotation: int = 0) -> Brief:
    """The runtime's brief of a panel's chosen answers."""
    request = [Message("user", panel.question.prompt)]
    if system:
        request.insert(0, Message("system", system))
    return make_brief(request, [Answer(one.member, 0, one.text) for one in said], seed, rotation)


def analysis_of(panel: Panel, said: Sequence[Said], brief: Brief) -> str:
    """The JSON a good judge writes: the value that several answers share, or the one only one of them has."""
    value = panel.question.expected
    right = [candidate for candidate in brief.candidates if said[candidate.index].right]
    found: dict[str, list[object]] = {name: [] for name in LISTS}
    if len(right) > 1:
        found["consensus"] = [value]
    elif right:
        found["unique_insights"] = [{"model": right[0].label, "insight": value}]
    return json.dumps(found)


def final_of(said: Sequence[Said], brief: Brief) -> str:
    """The sentence to return: the first right candidate's, else the first candidate's."""
    right = [candidate for candidate in brief.candidates if said[candidate.index].right]
    return (right or list(brief.candidates))[0].text


class JudgeLessons:
    """Draws examples of every stage from collected panels."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, panels: Sequence[Panel], copying: float = 0.0) -> None:
        self.tokenizer = tokenizer
        self.panels = panels
        self.copying = copying

    def __call__(self, draw: random.Random, progress: float) -> list[Example]:
        """The next pool. For the share `copying` of the steps: bare copying, then copying the only answer there is."""
        if progress < self.copying / 2:
            return [self._copying(draw) for _ in range(POOL)]
        if progress < self.copying:
            return [draw.choice((self._copying, self._only))(draw) for _ in range(POOL)]
        return [self._only(draw) if draw.random() < 0.15 else self._stage(draw) for _ in range(POOL)]

    def _copying(self, draw: random.Random) -> Example:
        """A run of distinct characters, something else, and the run again."""
        run = draw.sample(LETTERS + "0123456789", draw.randint(4, 14))
        other = draw.sample("ABCDEFGHIJKLMNOPQRSTUVWXYZ", draw.randint(1, 8))
        ids = self.tokenizer.convert_tokens_to_ids(run)
        between = self.tokenizer.convert_tokens_to_ids(other)
        return Example([*between, *ids, *between, *ids], [IGNORED] * (2 * len(between) + len(ids) + 1) + ids[1:])

    def _only(self, draw: random.Random) -> Example:
        """One right answer alone: whatever it says is to be written, with or without an analysis."""
        panel, said = self._panel(draw)
        right = [one for one in said if one.right][:1] or said[:1]
        brief = brief_of(panel, right, draw.getrandbits(32))
        analysis = analysis_of(panel, right, brief) if draw.random() < 0.4 else None
        messages = PROMPTS.write(brief, analysis)
        turns = [*turns_of(messages), {"role": "assistant", "content": final_of(right, brief)}]
        return example(self.tokenizer, turns)

    def _stage(self, draw: random.Random) -> Example:
        panel, said = self._panel(draw)
        brief = brief_of(panel, said, draw.getrandbits(32))
        right = [candidate.label for candidate in brief.candidates if said[candidate.index].right]
        wrong = [label for label in brief.labels if label not in right]
        kind = draw.random()
        if right and kind < 0.35:
            return self._example(PROMPTS.pick(brief), draw.choice(right))
        if right and wrong and kind < 0.42:
            best, other = draw.choice(right), draw.choice(wrong)
            first, second = draw.sample((best, other), 2)
            return self._example(PROMPTS.pair(brief, first, second), best)
        if kind < 0.52:
            return self._example(PROMPTS.write(brief, None), final_of(said, brief))
        return self._conversation(draw, panel, said, brief)

    def _conversation(self, draw: random.Random, panel: Panel, said: Sequence[Said], brief: Brief) -> Example:
        """Analysis, final answer and guard in one; a spoilt draft teaches only the guard."""
        analysis = analysis_of(panel, said, brief)
        written = final_of(said, brief)
        good = grade(panel.question.expected, written)
        if draw.random() < 0.4:
            written, good = self._spoilt(draw, panel, said, written), False
        against = draw.choice([c for c in brief.candidates if said[c.index].right != good] or brief.candidates)
        if said[against.index].right == good and not good:
            return self._example(PROMPTS.write(brief, analysis), final_of(said, brief))
        if draw.random() < 0.2:
            against = draw.choice(brief.candidates)
        swapped = draw.random() < 0.5
        better = said[against.index].right - good
        reply = draw.choice("12") if better == 0 else "12"[(better > 0) != swapped]
        messages = PROMPTS.guard(brief, analysis, written, against.label, swapped)
        turns = [*turns_of(messages), {"role": "assistant", "content": reply}]
        drafts = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
        if draw.random() < GUARD_ALONE:
            return example(self.tokenizer, turns, unlearnt=drafts[:-1])
        return example(self.tokenizer, turns, unlearnt=() if written == final_of(said, brief) else drafts[1:2])

    def _spoilt(self, draw: random.Random, panel: Panel, said: Sequence[Said], written: str) -> str:
        """A wrong draft: another candidate's wrong sentence, or the right one with a character of its value changed."""
        wrong = [one.text for one in said if not one.right]
        if wrong and draw.random() < 0.6:
            return draw.choice(wrong)
        places = [i for i, c in enumerate(written) if c.isdigit()] or [i for i, c in enumerate(written) if c.islower()]
        place = draw.choice(places)
        kept = written[place]
        other = draw.choice([c for c in ("0123456789" if kept.isdigit() else LETTERS) if c != kept])
        spoilt = written[:place] + other + written[place + 1 :]
        return spoilt if not grade(panel.question.expected, spoilt) else f"I am not sure, maybe {other}."

    def _panel(self, draw: random.Random) -> tuple[Panel, list[Said]]:
        """A panel as a run may see it: one answer a member, now and then one missing or one more."""
        panel = draw.choice(self.panels)
        members = sorted({one.member for one in panel.said})
        by_member = {member: [one for one in panel.said if one.member == member] for member in members}
        if draw.random() < 0.15:
            members.remove(draw.choice(members))
        said = [draw.choice(by_member[member]) for member in members]
        if draw.random() < 0.15:
            said.append(draw.choice(by_member[draw.choice(members)]))
        return panel, said

    def _example(self, messages: Sequence[Message], reply: str) -> Example:
        turns = [*turns_of(messages), {"role": "assistant", "content": reply}]
        replies = [index for index, turn in enumerate(turns) if turn["role"] == "assistant"]
        return example(self.tokenizer, turns, unlearnt=replies[:-1])
