"""The items of a response's output, each of which tells its own events: message, reasoning, call of a function.

Invariant: an item is begun once and ended once, and its `body()` is what every event and the response itself show of
it; what was streamed is provisional until the end, which carries the whole. Source: OpenAI's Responses API.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from local_fusion.types import TokenLogprob

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class EventLog:
    """Events on their way out, numbered from `first`."""

    def __init__(self, first: int = 0) -> None:
        self.next = first
        self._events: list[dict[str, Any]] = []

    def add(self, kind: str, **fields: Any) -> None:
        self._events.append({"type": kind, **fields, "sequence_number": self.next})
        self.next += 1

    def take(self) -> list[dict[str, Any]]:
        """What was added since the last time."""
        events, self._events = self._events, []
        return events


class Item:
    """One entry of `output`. `withdrawn`: it was streamed but is no part of the final output."""

    type = ""

    def __init__(self, item_id: str, index: int, log: EventLog) -> None:
        self.id = item_id
        self.index = index
        self.status: ItemStatus = "in_progress"
        self.withdrawn = False
        self._log = log

    @property
    def open(self) -> bool:
        return self.status == "in_progress"

    def body(self) -> dict[str, Any]:
        """The item as it stands, as plain data."""
        return {"id": self.id, "type": self.type, "status": self.status, **self._fields()}

    def begin(self) -> None:
        self._log.add("response.output_item.added", output_index=self.index, item=self.body())
        self._begun()

    def end(self, status: ItemStatus = "completed") -> None:
        """Close it; harmless where it is closed."""
        if not self.open:
            return
        self._ending()
        self.status = status
        self._ended()
        self._log.add("response.output_item.done", output_index=self.index, item=self.body())

    def say(self, kind: str, **fields: Any) -> None:
        """One event about this item."""
        self._log.add(kind, item_id=self.id, output_index=self.index, **fields)

    def _fields(self) -> dict[str, Any]:
        return {}

    def _begun(self) -> None:
        """Events that follow `output_item.added`."""

    def _ending(self) -> None:
        """Events while the item still is in progress."""

    def _ended(self) -> None:
        """Events that come before `output_item.done`."""


class MessageItem(Item):
    """The final answer."""

    type = "message"

    def __init__(self, item_id: str, index: int, log: EventLog) -> None:
        super().__init__(item_id, index, log)
        self.text = ""
        self.logprobs: list[dict[str, Any]] = []
        self._begun_part = False

    def delta(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> None:
        """Stream the next piece."""
        self.text += text
        whole = logprob_entries(logprobs)
        self.logprobs += whole
        brief = [_brief(entry) for entry in whole]
        self.say("response.output_text.delta", content_index=0, delta=text, logprobs=brief)

    def _fields(self) -> dict[str, Any]:
        return {"role": "assistant", "content": [self._part(self.text)] if self._begun_part else []}

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self.logprobs}

    def _begun(self) -> None:
        self.say("response.content_part.added", content_index=0, part=self._part("") | {"logprobs": []})
        self._begun_part = True

    def _ended(self) -> None:
        brief = [_brief(entry) for entry in self.logprobs]
        self.say("response.output_text.done", content_index=0, text=self.text, logprobs=brief)
        self.say("response.content_part.done", content_index=0, part=self._part(self.text))


class ReasoningItem(Item):
    """What the writer thought, in its own words (not a summary)."""

    type = "reasoning"

    def __init__(self, item_id: str, index: int, log: EventLog) -> None:
        super().__init__(item_id, index, log)
        self.text = ""
        self._begun_part = False

    def delta(self, text: str) -> None:
        """Stream the next piece."""
        self.text += text
        self.say("response.reasoning_text.delta", content_index=0, delta=text)

    def _fields(self) -> dict[str, Any]:
        return {"summary": [], "content": [self._part(self.text)] if self._begun_part else []}

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}

    def _begun(self) -> None:
        self.say("response.content_part.added", content_index=0, part=self._part(""))
        self._begun_part = True

    def _ended(self) -> None:
        self.say("response.reasoning_text.done", content_index=0, text=self.text)
        self.say("response.content_part.done", content_index=0, part=self._part(self.text))


class CallItem(Item):
    """A call of one of the client's functions."""

    type = "function_call"

    def __init__(self, item_id: str, index: int, log: EventLog, call_id: str, name: str) -> None:
        super().__init__(item_id, index, log)
        self.call_id = call_id
        self.name = name
        self.arguments = ""

    def delta(self, arguments: str) -> None:
        """Stream the next piece of the arguments' JSON text."""
        self.arguments += arguments
        self.say("response.function_call_arguments.delta", delta=arguments)

    def _fields(self) -> dict[str, Any]:
        return {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}

    def _ended(self) -> None:
        self.say("response.function_call_arguments.done", name=self.name, arguments=self.arguments)


def logprob_entries(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Log-probabilities as a finished text part shows them."""
    return [
        {
            "token": one.token,
            "logprob": 0.0 if one.logprob is None else one.logprob,
            "bytes": list(one.raw or one.token.encode("utf-8", "replace")),
            "top_logprobs": [
                {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}
                for token, logprob in one.top
            ],
        }
        for one in logprobs
    ]


def _brief(entry: dict[str, Any]) -> dict[str, Any]:
    """The same as a delta shows it: without bytes."""
    top = [{"token": one["token"], "logprob": one["logprob"]} for one in entry["top_logprobs"]]
    return {"token": entry["token"], "logprob": entry["logprob"], "top_logprobs": top}
