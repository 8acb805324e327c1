"""What an outer model says over several turns, as one answer: heard piece by piece, its calls of the fusion left out.

Invariant: the pieces heard, joined, are `text` and `reasoning`.
"""

from __future__ import annotations

from dataclasses import replace

from local_fusion.server.orders.order import Hear, Piece, Said
from local_fusion.types import Completion, Delta, ToolDelta

BETWEEN = "\n\n"


class Speech:
    """The answer so far. `hear` is None where nobody listens piece by piece."""

    def __init__(self, hear: Hear | None) -> None:
        self._hear = hear
        self.text = ""
        self.reasoning = ""
        self._parted = True
        self._parted_thought = True

    def say(self, said: Said, tools: tuple[ToolDelta, ...] = ()) -> None:
        """A further piece. Between turns stands a blank line, where there is text on both sides."""
        text, reasoning = said.text, said.reasoning or ""
        if text and not self._parted:
            text = BETWEEN + text
        if reasoning and not self._parted_thought:
            reasoning = BETWEEN + reasoning
        self._parted = self._parted or bool(text)
        self._parted_thought = self._parted_thought or bool(reasoning)
        self.text += text
        self.reasoning += reasoning
        if self._hear is not None and (text or reasoning or tools):
            self._hear(Piece(text, reasoning, tools))

    def ended(self, completion: Completion) -> None:
        """A turn is over: what nobody heard piece by piece is said now, and the next turn begins a paragraph."""
        if self._hear is None:
            self.say(Said(completion.text or "", "stop", completion.reasoning))
        self._parted = not self.text
        self._parted_thought = not self.reasoning


class Turn:
    """The deltas of one turn on their way to the speech. What is called first decides which calls are shown."""

    def __init__(self, speech: Speech, hidden: str, silent: bool) -> None:
        self._speech = speech
        self._hidden = hidden
        self._silent = silent
        self._shown: dict[int, int] = {}
        self._kept_back: set[int] = set()

    def tell(self, delta: Delta) -> None:
        if self._silent:
            return
        tools = tuple(shown for tool in delta.tools if (shown := self._visible(tool)) is not None)
        self._speech.say(Said(delta.text, "stop", delta.reasoning), tools)

    def _visible(self, tool: ToolDelta) -> ToolDelta | None:
        if tool.index not in self._shown and tool.index not in self._kept_back:
            fusion_first = bool(self._kept_back) and not self._shown
            if tool.name == self._hidden or fusion_first:
                self._kept_back.add(tool.index)
            else:
                self._shown[tool.index] = len(self._shown)
        if tool.index in self._kept_back:
            return None
        return replace(tool, index=self._shown[tool.index])
