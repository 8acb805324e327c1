"""The case: what one judge-side conversation is about, the same for every stage, so that all share one prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from local_fusion.prompts import Brief, make_brief
from local_fusion.types import Answer, Message


@dataclass(frozen=True)
class Case:
    """The request (history cut where it had to be) and the answers, with the characters shown of each.

    `specials`: control tokens of every engine that reads it, so that judge and writer are shown the same.
    """

    request: tuple[Message, ...]
    answers: tuple[Answer, ...]
    seed: int
    caps: tuple[int | None, ...] | None = None
    specials: tuple[str, ...] = ()

    def brief(self, rotation: int = 0) -> Brief:
        """The shuffled, anonymous, fenced view; every call of one stage after another uses rotation 0."""
        first = self._first
        shift = rotation % len(self.answers)
        if shift == 0:
            return first
        turned = first.candidates[shift:] + first.candidates[:shift]
        labelled = [replace(one, label=label) for label, one in zip(first.labels, turned, strict=True)]
        return Brief(first.request, tuple(labelled), first.tag)

    @cached_property
    def _first(self) -> Brief:
        return make_brief(self.request, self.answers, self.seed, 0, self.specials, self.caps)

    @property
    def names(self) -> tuple[str, ...]:
        """A name per answer: its model, with the sample's number where the model gave several."""
        counts = Counter(answer.model for answer in self.answers)
        return tuple(name_of(answer, counts[answer.model] > 1) for answer in self.answers)


def name_of(answer: Answer, numbered: bool) -> str:
    return f"{answer.model}#{answer.sample}" if numbered else answer.model


def readable(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with tool calls told in words: a judge is shown text only."""
    return tuple(
        replace(message, content=_with_calls(message), tool_calls=()) if message.tool_calls else message
        for message in messages
    )


def _with_calls(message: Message) -> str:
    calls = [f"(called {call.name} with {call.arguments})" for call in message.tool_calls]
    return "\n".join([message.content, *calls]) if message.content else "\n".join(calls)
