"""What of a stream was given out already, so that a second attempt, on another host, does not repeat it.

Invariant: pieces given before and after a retry join to one stream; where the second attempt says something else, it
is refused (`Departed`) rather than mixed in.
"""

from __future__ import annotations

from local_fusion.types import Delta, ToolDelta


class Departed(Exception):
    """A stream that was sent again says something else than before."""


class Given:
    """One stream over all its attempts; call `rewind` before each."""

    def __init__(self) -> None:
        self._text = _Text()
        self._reasoning = _Text()
        self._tools: dict[int, _Tool] = {}
        self._logprobs = self._logprobs_again = 0

    def rewind(self) -> None:
        """A new attempt begins."""
        for text in (self._text, self._reasoning, *(tool.arguments for tool in self._tools.values())):
            text.place = 0
        self._logprobs_again = 0

    def fresh(self, piece: Delta) -> Delta | None:
        """The part of `piece` not given before. Raises Departed."""
        text, reasoning = self._text.beyond(piece.text), self._reasoning.beyond(piece.reasoning)
        tools = tuple(tool for one in piece.tools if (tool := self._tool(one)) is not None)
        known = min(len(piece.logprobs), self._logprobs - self._logprobs_again)
        self._logprobs_again += len(piece.logprobs)
        self._logprobs = max(self._logprobs, self._logprobs_again)
        logprobs = piece.logprobs[known:]
        return Delta(text, reasoning, tools, logprobs) if text or reasoning or tools or logprobs else None

    def _tool(self, piece: ToolDelta) -> ToolDelta | None:
        known = self._tools.get(piece.index)
        if known is None:
            known = self._tools[piece.index] = _Tool(piece.id, piece.name)
            return ToolDelta(piece.index, piece.id, piece.name, known.arguments.beyond(piece.arguments))
        if (piece.id or known.id, piece.name or known.name) != (known.id, known.name):
            raise Departed
        arguments = known.arguments.beyond(piece.arguments)
        return ToolDelta(piece.index, arguments=arguments) if arguments else None


class _Text:
    """Text given out so far, and the place in it that the attempt under way has reached."""

    def __init__(self) -> None:
        self._given = ""
        self.place = 0

    def beyond(self, piece: str) -> str:
        """Of the next piece, what lies beyond all that was given. Raises Departed."""
        known = self._given[self.place : self.place + len(piece)]
        if not piece.startswith(known):
            raise Departed
        fresh = piece[len(known) :]
        self._given += fresh
        self.place += len(piece)
        return fresh


class _Tool:
    """A tool call given out, in part or whole."""

    def __init__(self, call_id: str, name: str) -> None:
        self.id = call_id
        self.name = name
        self.arguments = _Text()
