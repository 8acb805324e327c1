"""A programmable engine for exact fault cells: every call goes to a function that answers, raises or waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any

from local_fusion.config.schema import FusionSettings, ModelSettings
from local_fusion.errors import CallAborted
from local_fusion.fusion.recipe import Recipe, make_recipe
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    EngineInfo,
    Health,
    LabelCall,
    LabelRead,
    Message,
    Request,
    Timing,
    Tokens,
    ToolDelta,
)

Say = Callable[[Call], Any]


class FakeEngine:
    """`say(call)` gives a text, a Completion, an exception to raise, or an awaitable of one of these. `read(call)`
    gives log-probabilities. Records every call and every cancellation."""

    def __init__(
        self,
        name: str,
        say: Say | str = "fine",
        read: Callable[[LabelCall], Any] | None = None,
        context: int = 32_768,
        special_tokens: tuple[str, ...] = (),
        certainty: float | None = 0.9,
    ) -> None:
        self.name = name
        self.say: Say = (lambda call: say) if isinstance(say, str) else say
        self.read = read or (lambda call: [0.0, *[-1.0] * (len(call.labels) - 1)])
        self.calls: list[Call] = []
        self.reads: list[LabelCall] = []
        self.cancelled: list[str] = []
        self.running = 0
        self.certainty = certainty
        self._info = EngineInfo(
            name, context, versions={"fake": "1"}, digest=f"sha256:{name}", special_tokens=special_tokens
        )

    async def generate(self, call: Call) -> Completion:
        self.calls.append(call)
        return await self._tracked(call.id, self._complete(call))

    async def stream(self, call: Call) -> Any:
        self.calls.append(call)
        completion = await self._tracked(call.id, self._complete(call))
        for word in (completion.text or "").split(" "):
            yield Delta(text=word)
        for index, tool in enumerate(completion.tool_calls):
            yield Delta(tools=(ToolDelta(index, tool.id, tool.name),))
            yield Delta(tools=(ToolDelta(index, arguments=tool.arguments),))
        yield completion

    async def label_read(self, call: LabelCall) -> LabelRead:
        self.reads.append(call)
        values = await self._tracked(call.id, self._resolve(self.read(call)))
        return LabelRead(call.id, self.name, tuple(values), Tokens(prompt=10, completion=1))

    async def count_tokens(self, conversations: Any) -> list[int]:
        return [sum(len(message.content.split()) + 3 for message in turns) for turns in conversations]

    async def abort(self, call_ids: Any) -> None:
        raise CallAborted("not used by the fusion room")

    async def check(self, timeout_s: float = 10.0) -> Health:
        return Health(True)

    async def info(self) -> EngineInfo:
        return self._info

    async def close(self) -> None:
        return None

    def stages(self) -> list[str]:
        return [call.stage for call in self.calls]

    async def _tracked(self, call_id: str, work: Any) -> Any:
        self.running += 1
        try:
            return await work
        except asyncio.CancelledError:
            self.cancelled.append(call_id)
            raise
        finally:
            self.running -= 1

    async def _complete(self, call: Call) -> Completion:
        result = await self._resolve(self.say(call))
        if isinstance(result, Completion):
            return result
        count = max(1, len(result.split()))
        logprob = None if self.certainty is None else math.log(self.certainty) * count
        return Completion(
            call.id,
            self.name,
            result,
            "stop",
            tokens=Tokens(10, 0, count),
            logprob=logprob,
            timing=Timing(total_s=0.01),
        )

    async def _resolve(self, result: Any) -> Any:
        if asyncio.iscoroutine(result):
            result = await result
        if isinstance(result, Exception):
            raise result
        return result


async def hang() -> str:
    """Never answers."""
    await asyncio.Event().wait()
    return ""


async def later(seconds: float, text: str) -> str:
    await asyncio.sleep(seconds)
    return text


def completion(call: Call, text: str | None, finish: Any = "stop", **rest: Any) -> Completion:
    return Completion(call.id, "?", text, finish, tokens=Tokens(10, 0, 5), **rest)


def recipe_of(models: Mapping[str, Any] | tuple[str, ...] = ("a", "b", "c", "judge"), **settings: Any) -> Recipe:
    """A recipe over scripted model settings; panel: all but `judge` and `writer*`."""
    names = list(models)
    panel = settings.pop("panel", [name for name in names if name != "judge" and not name.startswith("writer")])
    settings.setdefault("judge", "judge")
    fusion = FusionSettings(panel=panel, **settings)
    return make_recipe("test", fusion, {name: ModelSettings(engine="scripted") for name in names})


def engines_of(**says: Any) -> dict[str, FakeEngine]:
    """Engines by name; a value may be a FakeEngine, a text or a function."""
    return {name: say if isinstance(say, FakeEngine) else FakeEngine(name, say) for name, say in says.items()}


def request_of(prompt: str = "Tell me something.", **rest: Any) -> Request:
    messages = rest.pop("messages", (Message("user", prompt),))
    return Request(id=rest.pop("id", "row-1"), messages=messages, **rest)


def prefers(text: str) -> Callable[[LabelCall], list[float]]:
    """Reads that favour the candidate whose text contains `text`, wherever it stands."""

    def read(call: LabelCall) -> list[float]:
        shown = "\n".join(message.content for message in call.messages if message.role == "user")
        owners = []
        for label in call.labels:
            start = shown.find(f"<answer {label} ")
            body = shown[start : shown.find("</answer", start)] if start >= 0 else ""
            owners.append(0.0 if text in body else -5.0)
        return owners

    return read


ANALYSIS = (
    '{"consensus": ["both speak"], "contradictions": [{"topic": "t", "stances": [{"model": "A", "stance": "x"},'
    ' {"model": "B", "stance": "y"}]}], "partial_coverage": [{"models": ["A"], "point": "p"}],'
    ' "unique_insights": [{"model": "B", "insight": "i"}], "blind_spots": []}'
)


def judge_says(written: Any = "the final answer", analysis: Any = ANALYSIS) -> Say:
    """Analysis on analyse and repair, `written` on write."""

    def say(call: Call) -> Any:
        wanted = written if call.stage == "write" else analysis
        return wanted(call) if callable(wanted) else wanted

    return say
