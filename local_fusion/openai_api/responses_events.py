"""A response as it comes to be: what is heard of an answer, to the events of a stream and to the response object.

Both are shown by the same items, so that a stream's last event, the body of a call that did not stream and what is
stored are one. Items come one after another, a fusion first where it is there at once. Text that was streamed before
it was final (`fusion.stream: live`) may be replaced: the `done` events and the last event carry what holds.
Knows nothing of HTTP, engines or clocks. Source: OpenAI's Responses API, OpenRouter's Fusion.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from local_fusion.openai_api.responses_fusion import FusionItem
from local_fusion.openai_api.responses_items import CallItem, EventLog, Item, MessageItem, ReasoningItem
from local_fusion.types import FinishReason, TokenLogprob, Tokens, ToolCall, ToolDelta

Event = dict[str, Any]
Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ENDED: Collection[str] = frozenset({"completed", "incomplete", "failed", "cancelled"})
_PREFIX = {MessageItem: "msg_", ReasoningItem: "rs_", CallItem: "fc_", FusionItem: "fus_"}


class ResponseEvents:
    """One response. Tell it what happens; `take()` what is to be sent of it; `body()` is the response as it stands."""

    def __init__(self, head: Mapping[str, Any], new_id: Callable[[str], str], first: int = 0) -> None:
        """`head`: the response object without what comes to be; `new_id`: makes an id of a prefix; `first`: number of
        the first event."""
        self.status: Status = "queued"
        self._head = dict(head)
        self._new_id = new_id
        self._log = EventLog(first)
        self._items: list[Item] = []
        self._said: list[Item] = []
        self._calls: dict[int, CallItem] = {}
        self._fusion: FusionItem | None = None
        self._end: dict[str, Any] = {}
        self._created = False

    def take(self) -> list[Event]:
        """Events since the last time."""
        return self._log.take()

    def body(self) -> dict[str, Any]:
        """The response object."""
        output = [item.body() for item in self._items if not item.withdrawn]
        return self._head | {"status": self.status, "output": output} | self._end

    # how it begins

    def queued(self) -> None:
        """Waiting for its turn, in the background."""
        self._create()
        self._tell("response.queued")

    def begun(self) -> None:
        """Work begins."""
        self.status = "in_progress"
        self._create()
        self._tell("response.in_progress")

    # what a fusion does

    def fusion_began(self, numbered: Collection[str] = ()) -> None:
        """A fusion starts: at once, or called by an outer model. `numbered`: models asked for several samples."""
        self._close("completed")
        self._fusion = self._add(FusionItem, numbered)

    @property
    def fusion(self) -> FusionItem | None:
        """The fusion under way, for its panel and analysis to be told."""
        return self._fusion if self._fusion is not None and self._fusion.open else None

    def fusion_ended(self, error: str = "", code: str = "") -> None:
        """The fusion is done, or (`error`, `code`) came to nothing."""
        if self.fusion is not None:
            if error:
                self.fusion.broken(error, code)
            else:
                self.fusion.end()

    # the answer

    def piece(
        self,
        text: str = "",
        reasoning: str = "",
        tools: Sequence[ToolDelta] = (),
        logprobs: Sequence[TokenLogprob] = (),
    ) -> None:
        """The next piece of the final answer."""
        self.fusion_ended()
        if reasoning:
            self._current(ReasoningItem).delta(reasoning)
        if text:
            self._current(MessageItem).delta(text, logprobs)
        for tool in tools:
            self._call_piece(tool)

    # how it ends

    def finished(
        self,
        model: str,
        text: str,
        finish_reason: FinishReason,
        usage: Mapping[str, Any],
        reasoning: str | None = None,
        tool_calls: Sequence[ToolCall] = (),
        logprobs: Sequence[TokenLogprob] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """The answer is whole: what was streamed is made to agree with it. `usage` as `usage_of` makes it; `extra`:
        further keys of the response."""
        self.fusion_ended()
        self._agree(text, reasoning or "", tool_calls, logprobs)
        cut = finish_reason in ("length", "abort")
        self._close("incomplete" if cut else "completed")
        self._end = {"model": model, "usage": dict(usage), **(extra or {})}
        if cut:
            self._end["incomplete_details"] = {"reason": "max_output_tokens"}
        self._finish("incomplete" if cut else "completed")

    def failed(self, message: str, code: str, extra: Mapping[str, Any] | None = None) -> None:
        """There is no answer: an `error` event, and the response that says so."""
        self._stop()
        self._end = {"error": {"code": code, "message": message}, **(extra or {})}
        self._log.add("error", code=code, message=message, param=None)
        self._finish("failed")

    def cancelled(self) -> None:
        """The client ended it. OpenAI has no event of that name: `response.incomplete` carries the status."""
        self._stop()
        self._finish("cancelled")

    def _create(self) -> None:
        if not self._created:
            self._created = True
            self._tell("response.created")

    def unstored(self) -> None:
        """It could not be stored, and says so."""
        self._head["store"] = False

    def _finish(self, status: Status) -> None:
        self.status = status
        self._tell("response.incomplete" if status == "cancelled" else f"response.{status}")

    def _stop(self) -> None:
        self._close("incomplete")
        if self.fusion is not None:
            self.fusion.end("incomplete")

    def _tell(self, kind: str) -> None:
        self._log.add(kind, response=self.body())

    def _add(self, kind: type[Any], *more: Any) -> Any:
        item = kind(self._new_id(_PREFIX[kind]), len(self._items), self._log, *more)
        self._items.append(item)
        if kind is not FusionItem:
            self._said.append(item)
        item.begin()
        return item

    def _current(self, kind: type[Any]) -> Any:
        """The open item of this kind; else a new one, and what was open is closed."""
        last = self._said[-1] if self._said else None
        if isinstance(last, kind) and last.open:
            return last
        self._close("completed")
        return self._add(kind)

    def _call_piece(self, piece: ToolDelta) -> None:
        item = self._calls.get(piece.index)
        if item is None or not item.open:
            self._close("completed")
            item = self._add(CallItem, piece.id or self._new_id("call_"), piece.name)
            self._calls[piece.index] = item
        if piece.arguments:
            item.delta(piece.arguments)

    def _close(self, status: Literal["completed", "incomplete"]) -> None:
        """Close the item of the answer that is open, where one is."""
        if self._said:
            self._said[-1].end(status)

    def _agree(
        self, text: str, reasoning: str, tool_calls: Sequence[ToolCall], logprobs: Sequence[TokenLogprob]
    ) -> None:
        self._agree_reasoning(reasoning)
        self._agree_text(text, logprobs, bool(tool_calls))
        calls = [item for item in self._said if isinstance(item, CallItem)]
        for spare in calls[len(tool_calls) :]:
            _withdraw(spare)
        for place, call in enumerate(tool_calls):
            if place < len(calls):
                calls[place].call_id, calls[place].name, calls[place].arguments = call.id, call.name, call.arguments
            else:
                self._call_piece(ToolDelta(len(calls) + place, call.id, call.name, call.arguments))

    def _agree_reasoning(self, reasoning: str) -> None:
        items = [item for item in self._said if isinstance(item, ReasoningItem)]
        if not items:
            if reasoning and not self._said:
                self._add(ReasoningItem).delta(reasoning)
            return
        if "".join(item.text for item in items) == reasoning:
            return
        items[0].text = reasoning
        for item in items if not reasoning else items[1:]:
            _withdraw(item)

    def _agree_text(self, text: str, logprobs: Sequence[TokenLogprob], calls: bool) -> None:
        items = [item for item in self._said if isinstance(item, MessageItem)]
        if not items:
            if text or not calls:
                item = self._current(MessageItem)
                if text:
                    item.delta(text, logprobs)
            return
        if "".join(item.text for item in items) == text:
            return
        last = items[-1]
        for item in items[:-1] if text else items:
            _withdraw(item)
        if last.open and text.startswith(last.text) and len(items) == 1:
            last.delta(text[len(last.text) :])
        else:
            last.text, last.logprobs = text, []


def usage_of(tokens: Tokens, reasoning_tokens: int = 0) -> dict[str, Any]:
    """Usage in Responses' form: sums over every call of the request. `reasoning_tokens`: of the final answer. Nothing
    is charged for being cached, so `cache_write_tokens` is 0."""
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.completion,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": tokens.prompt + tokens.completion,
    }


def _withdraw(item: Item) -> None:
    item.withdrawn = True
    item.end("incomplete")
