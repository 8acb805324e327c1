"""What a client ordered, checked and resolved: a fusion, a plain member, or an outer model that may call a fusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from local_fusion.fusion.events import Event
from local_fusion.fusion.recipe import Recipe
from local_fusion.types import (
    FinishReason,
    Fused,
    Message,
    Request,
    Sampling,
    StageUsage,
    TokenLogprob,
    Tokens,
    ToolCall,
    ToolDelta,
)

Streaming = Literal["checked", "live"]


@dataclass(frozen=True, slots=True)
class FusionOrder:
    """Fuse `request` by `recipe`. `streaming`: whether text is sent before the guard has spoken."""

    recipe: Recipe
    request: Request
    streaming: Streaming = "checked"
    parallel_tools: bool = True


@dataclass(frozen=True, slots=True)
class MemberOrder:
    """One model alone, `n` times, each with a seed of its own that follows from `seed`. `parallel_tools`: it may call
    several tools in one turn; else the first call counts. `timeout_s` bounds each."""

    id: str
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    n: int = 1
    logprobs: int | None = None
    cache_salt: str | None = None
    parallel_tools: bool = True
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class OuterOrder:
    """`member` answers and may call the fusion once as a tool; `forced`: it must. `whole`: the fusion's own mode is run
    to its final answer; else the outer model gets the panel's answers and the analysis. `reads_calls`: its engine finds
    calls of tools in free text; else it calls what it is made to call."""

    member: MemberOrder
    recipe: Recipe
    forced: bool = False
    whole: bool = False
    reads_calls: bool = True


Order = FusionOrder | MemberOrder | OuterOrder


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of the final answer as the client gets it; `index` of the choice."""

    text: str = ""
    reasoning: str = ""
    tools: tuple[ToolDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    index: int = 0


@dataclass(frozen=True, slots=True)
class FusionBegan:
    """A fusion starts: at once, or because the outer model called it."""

    fusion: str


@dataclass(frozen=True, slots=True)
class FusionEnded:
    """A fusion is done; `fused` is None where it failed, and `error` then says why, `code` in one word."""

    fused: Fused | None = None
    error: str = ""
    code: str = ""


Heard = Event | Piece | FusionBegan | FusionEnded
Hear = Callable[[Heard], None]


def tool_pieces(calls: tuple[ToolCall, ...]) -> tuple[ToolDelta, ...]:
    """Whole tool calls in the form of deltas."""
    return tuple(ToolDelta(index, call.id, call.name, call.arguments) for index, call in enumerate(calls))


@dataclass(frozen=True, slots=True)
class Said:
    """One choice of the final answer."""

    text: str
    finish_reason: FinishReason
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole answer. `model` wrote it; `tokens` sums every call; `fused` where a fusion had a part; `calls`: every
    call, those of the fusion and of an outer model too; `failed`: the fusion that an outer model called in vain.

    `replaced`: text that was streamed live is not the final one (the guard, or another writer, stepped in after it).
    """

    id: str
    model: str
    said: tuple[Said, ...]
    tokens: Tokens = field(default_factory=Tokens)
    fused: Fused | None = None
    replaced: bool = False
    calls: tuple[StageUsage, ...] = ()
    failed: FusionEnded | None = None
