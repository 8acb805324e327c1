"""A stream of vLLM's outputs made deltas and joined again: text, reasoning, pieces of tool calls, log-probabilities.

Invariant: the deltas joined are what `said` gives, ids and names of tool calls included.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_fusion.engine import join_deltas
from local_fusion.engines import vllm_compat
from local_fusion.engines.vllm_calls import Calls, Prepared, forced_calls
from local_fusion.engines.vllm_chat import tool_call
from local_fusion.engines.vllm_logprobs import ShownTokens
from local_fusion.types import Call, Delta, TokenLogprob, ToolCall, ToolDelta


class Joiner:
    """Splits one stream, and joins what it has given."""

    def __init__(self, call: Call, prepared: Prepared, calls: Calls) -> None:
        self.tokens = 0
        self._call = call
        self._prepared = prepared
        self._forced = ForcedPieces(call) if calls.forces_by_schema(call) else None
        self._tools = ToolPieces(call.seed)
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls = calls
        self._raw: list[str] = []
        self._ids: list[int] = []
        self._shown: ShownTokens | None = None
        if call.logprobs is not None:
            self._shown = ShownTokens(calls.reader, prepared.prompt.token_ids, prepared.params, call.logprobs)

    def feed(self, output: Any) -> Delta | None:
        """The delta of one streamed `RequestOutput`, or None where it shows nothing."""
        piece = output.outputs[0]
        self.tokens += len(piece.token_ids)
        text, reasoning, parts = self._split(piece, output.finished)
        self._reasoning.append(reasoning)
        if not any(self._text) and any(self._reasoning):
            text = text.lstrip("\n")  # the lines that part reasoning from answer belong to neither
        tools = self._tools.feed(parts)
        if self._forced is not None:
            tools, text = self._tools.feed(self._forced.feed(text, output.finished)), ""
        elif output.finished:
            text += self._held_back(text)
        self._text.append(text)
        logprobs = self._show(piece, text, hidden=bool(reasoning or tools))
        return Delta(text, reasoning, tools, logprobs) if text or reasoning or tools or logprobs else None

    def said(self) -> tuple[str | None, str | None, tuple[ToolCall, ...]]:
        """As `Calls.read`."""
        text, reasoning, tools = "".join(self._text), "".join(self._reasoning), self._tools.calls()
        if self._forced is not None:
            return None, reasoning or None, tools
        return (None if not text and (reasoning or tools) else text), reasoning or None, tools

    @property
    def logprobs(self) -> tuple[TokenLogprob, ...]:
        """Of all tokens of the text."""
        return tuple(self._logprobs)

    def _split(self, piece: Any, finished: bool) -> tuple[str, str, list[Any]]:
        """Text, reasoning and vLLM's tool-call deltas of a piece."""
        if self._prepared.parser is None:
            return piece.text, "", []
        self._raw.append(piece.text)
        self._ids += piece.token_ids
        message = self._prepared.parser.parse_delta(
            piece.text,
            list(piece.token_ids),
            self._prepared.request,
            self._prepared.prompt.token_ids,
            finished=finished,
        )
        if message is None:
            return "", "", []
        return message.content or "", message.reasoning or "", list(message.tool_calls or ())

    def _held_back(self, text: str) -> str:
        """What a tool parser keeps to itself to the end, for it could have become a call: text after all."""
        request = self._prepared.request
        if request is None or not request.tools or self._tools.calls():
            return ""
        given = "".join(self._text) + text
        whole = self._calls.read_anew(self._call, self._prepared, "".join(self._raw), self._ids)
        return whole[len(given) :] if whole.startswith(given) else ""

    def _show(self, piece: Any, text: str, hidden: bool) -> tuple[TokenLogprob, ...]:
        if self._shown is None:
            return ()
        self._shown.feed(piece.token_ids, piece.logprobs)
        if not text:
            if hidden:
                self._shown.hide()
            return ()
        shown = self._shown.show(text)
        self._logprobs += shown
        return shown


class ToolPieces:
    """vLLM's tool-call deltas as ours: the id and the name come first, together, whatever order vLLM gives them in."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._known: dict[int, list[str]] = {}  # index: id, name, arguments
        self._named: dict[int, str] = {}  # index: id as given out

    def feed(self, parts: list[Any]) -> tuple[ToolDelta, ...]:
        """The next pieces."""
        given = Delta()
        for part in parts:
            known = self._known.setdefault(part.index, ["", "", ""])
            function = part.function
            arguments = (function.arguments if function else None) or ""
            known[0] = part.id or known[0]
            known[1] = known[1] or (function.name if function else None) or ""
            known[2] += arguments
            if not known[1]:
                continue
            if part.index in self._named:
                if arguments:
                    given = join_deltas(given, Delta(tools=(ToolDelta(part.index, arguments=arguments),)))
                continue
            call = tool_call(part.index, known[0] or None, known[1], known[2], self._seed)
            self._named[part.index] = call.id
            begun = ToolDelta(part.index, call.id, call.name, call.arguments)
            given = join_deltas(given, Delta(tools=(begun,)))
        return given.tools

    def calls(self) -> tuple[ToolCall, ...]:
        """What the pieces given so far join to."""
        return tuple(
            ToolCall(self._named[index], known[1], known[2])
            for index, known in sorted(self._known.items())
            if index in self._named
        )


class ForcedPieces:
    """The JSON that a forced choice is held to, where no tool parser reads it, as tool-call deltas."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._text = ""
        self._any = False

    def feed(self, text: str, finished: bool) -> list[Any]:
        """The deltas of the next piece of JSON."""
        before, self._text = self._text, self._text + text
        if isinstance(self._call.tool_choice, Mapping):
            pieces = [_Part(0, str(self._call.tool_choice["function"]["name"]), text)] if text else []
        else:
            pieces = vllm_compat.required_pieces(before, self._text)
        self._any = self._any or bool(pieces)
        if finished and not self._any:
            whole = forced_calls(self._call, self._text)
            pieces = [_Part(index, call.name, call.arguments) for index, call in enumerate(whole)]
        return pieces


class _Part:
    """In the form of vLLM's `DeltaToolCall`."""

    id = None

    def __init__(self, index: int, name: str, arguments: str) -> None:
        self.index = index
        self.name = name
        self.arguments = arguments

    @property
    def function(self) -> _Part:
        return self
