"""What an engine is asked and what it gives: calls, deltas, completions. They know nothing of engines, Ray or files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]
Mode = Literal["best-of", "vote", "merge", "debate", "layered", "auto"]
MODES: tuple[Mode, ...] = ("best-of", "vote", "merge", "debate", "layered", "auto")
Stage = Literal["panel", "revise", "layer", "pick", "pair", "analyse", "repair", "write", "guard", "fold"]
FinishReason = Literal["stop", "length", "tool_calls", "abort"]
FailureReason = Literal[
    "engine_error",
    "engine_died",
    "timeout",
    "straggler",
    "deadline",
    "aborted",
    "empty",
    "no_answer",  # a thinker was cut before it said anything, or only reasoning came
    "context_exceeded",
    "invalid_json",
    "bad_request",
]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function call asked for by a model; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, in OpenAI's chat form; `content` is text only."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one call samples. Field names and meanings are vLLM's; tokens for `max_tokens`, tokens for budgets."""

    max_tokens: int = 1024
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    thinking_token_budget: int | None = None
    ignore_eos: bool = False
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One generation asked of an engine.

    `id` is unique and deterministic: `row/stage/model/sample`, plus a digest where the content depends on earlier
    answers, so that a journal can recall it. Lower `priority` runs first. `timeout_s` bounds the call from the
    moment it is submitted. `stream` asks for deltas before the completion.
    """

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    priority: int = 10
    timeout_s: float | None = None
    cache_salt: str | None = None
    stream: bool = False
    stage: Stage = "panel"
    logprobs: int | None = None
    """None: no log-probabilities of tokens; 0..20: of each chosen token and of so many likeliest beside it."""


@dataclass(frozen=True, slots=True)
class TextCall:
    """A raw completion of a text or of token ids: no chat template. `logprobs` as in `Call`; `echo`: the same of the
    prompt's own tokens, the first of which has none. `max_tokens` of the sampling may be 0 with `echo`."""

    id: str
    prompt: str | tuple[int, ...]
    sampling: Sampling
    seed: int
    logprobs: int | None = None
    echo: bool = False
    priority: int = 10
    timeout_s: float | None = None
    cache_salt: str | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class LabelCall:
    """Asks for the log-probability of each label as the next token after `messages`. One token is generated.
    `chat_template_kwargs` as in `Sampling`: the same as of the judge's other calls, for the shared prefix's sake."""

    id: str
    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    priority: int = 0
    timeout_s: float | None = None
    cache_salt: str | None = None
    stage: Stage = "pick"
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one call or a sum of calls; `cached` is the part of `prompt` served from the prefix cache."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. `queued_s` + `first_token_s` (after start) + … within `total_s`; `gpu_s` = total_s x GPUs / share."""

    total_s: float = 0.0
    queued_s: float = 0.0
    first_token_s: float | None = None
    gpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token. `logprob`: natural log, None for a prompt's first; `top`: the likeliest there; `raw`: its bytes."""

    token: str
    token_id: int
    logprob: float | None
    top: tuple[tuple[str, float], ...] = ()
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of a tool call: `id` and `name` with the first of its `index`; `arguments`: the next of their JSON."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed completion."""

    text: str = ""
    reasoning: str = ""
    tools: tuple[ToolDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The end of a generation. `text` is None when the model said nothing but reasoning. `logprob` is the sum of the
    sampled tokens' log-probabilities (natural log), None where the engine gives none. `logprobs`: of the text alone."""

    call_id: str
    model: str
    text: str | None
    finish_reason: FinishReason
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: Tokens = Tokens()
    logprob: float | None = None
    timing: Timing = Timing()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class TextCompletion:
    """The end of a `TextCall`; `text` is without the prompt. Log-probabilities: one a token, the prompt's if echoed."""

    call_id: str
    model: str
    text: str
    finish_reason: FinishReason
    prompt_token_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    tokens: Tokens = Tokens()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    timing: Timing = Timing()


@dataclass(frozen=True, slots=True)
class LabelRead:
    """Natural-log probabilities of the labels, in the call's order; not normalised over the labels."""

    call_id: str
    model: str
    logprobs: tuple[float, ...]
    tokens: Tokens = Tokens()
    timing: Timing = Timing()


@dataclass(frozen=True, slots=True)
class Health:
    """`ready`: a one-token probe was answered in time. `detail` says why not."""

    ready: bool
    detail: str = ""
    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself once it is up. `context` in tokens; `versions` of vllm, torch, …;
    `special_tokens` of its tokenizer, which must stay plain text in anything untrusted."""

    model: str
    context: int
    versions: Mapping[str, str] = field(default_factory=dict)
    digest: str | None = None
    kv_cache_tokens: int | None = None
    kv_block_tokens: int | None = None
    max_running: int | None = None
    gpus: float = 0.0
    special_tokens: tuple[str, ...] = ()
