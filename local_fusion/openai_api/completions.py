"""The legacy completions API: a text or token ids continued by one model, without a chat template.

Invariant: every field is honoured or refused by name. Source: OpenAI's completions API; what lm-evaluation-harness
sends (token ids, `echo`, `logprobs`). `text_offset` counts characters of the text that is returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from local_fusion.config.schema import SamplingSettings
from local_fusion.errors import RequestError
from local_fusion.openai_api.chat_reply import finish
from local_fusion.openai_api.refusal import refusal_of
from local_fusion.openai_api.request import MAX_CHOICES, MAX_STOPS, MAX_TOP_LOGPROBS, WireStreamOptions
from local_fusion.openai_api.tokens import MAX_TOKENS, TokenId
from local_fusion.openai_api.wire import Listed, Wire
from local_fusion.types import FinishReason, TokenLogprob

MAX_PROMPTS = 1024
DEFAULT_MAX_TOKENS = 16
Prompt = str | tuple[int, ...]
_Ids = Annotated[Listed[TokenId], Field(min_length=1)]
_REFUSED = {"suffix": "the models here write on, they do not fill in", "logit_bias": "token ids differ by model"}


class WireCompletion(Wire):
    """A completion request."""

    model: str
    prompt: str | Annotated[Listed[str], Field(min_length=1)] | _Ids | Annotated[Listed[_Ids], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: Listed[str] | None = None
    ignore_eos: bool | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    best_of: Literal[1] | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: bool | None = None
    stream: bool | None = None
    stream_options: WireStreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=512)] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, value: Any) -> Any:
        stops = [value] if isinstance(value, str) else value
        if isinstance(stops, list) and (len(stops) > MAX_STOPS or "" in stops):
            raise PydanticCustomError("stop", "give up to 16 texts, none of them empty")
        return stops


_SAMPLING_FIELDS = tuple(name for name in SamplingSettings.model_fields if name in WireCompletion.model_fields)


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A checked body. `max_tokens` may be 0 with `echo`: then only the prompt is scored."""

    model: str
    prompts: tuple[Prompt, ...]
    sampling: SamplingSettings
    max_tokens: int
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None
    echo: bool = False
    stream: bool = False
    stream_usage: bool = False
    cache_salt: str | None = None


def parse_completion(body: Mapping[str, Any]) -> CompletionRequest:
    """Check a body. Raises RequestError whose `param` names the field; nothing of the prompts is repeated in it."""
    for name, why in _REFUSED.items():
        if body.get(name) not in (None, {}):
            raise RequestError(f"{name} is not supported: {why}; leave it out", "unsupported_field", name)
    _check_size(body.get("prompt"))
    try:
        wire = WireCompletion.model_validate({key: value for key, value in body.items() if key not in _REFUSED})
        given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(wire, name)) is not None}
        given.pop("max_tokens", None)
        sampling = SamplingSettings(**given)
    except ValidationError as problem:
        refusal = refusal_of(problem)
        if refusal.param is not None and refusal.param.startswith("prompt."):
            told = "prompt must be a text, a list of texts, a list of token ids, or a list of such lists, none empty"
            raise RequestError(told, "invalid_field", "prompt") from None
        raise refusal from None
    prompts = _prompts(wire.prompt)
    _check(wire, prompts)
    return CompletionRequest(
        model=wire.model,
        prompts=prompts,
        sampling=sampling,
        max_tokens=DEFAULT_MAX_TOKENS if wire.max_tokens is None else wire.max_tokens,
        seed=wire.seed,
        n=wire.n or 1,
        logprobs=wire.logprobs,
        echo=bool(wire.echo),
        stream=bool(wire.stream),
        stream_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        cache_salt=wire.cache_salt,
    )


def _check_size(prompt: Any) -> None:
    """Bounds a prompt before its entries are looked at: texts by their number, ids all together."""
    if not isinstance(prompt, list):
        return
    several = sum(len(one) for one in prompt if isinstance(one, list))
    if len(prompt) + several > MAX_TOKENS or (len(prompt) > MAX_PROMPTS and not isinstance(prompt[0], int)):
        raise RequestError(
            f"prompt may hold {MAX_PROMPTS} prompts and {MAX_TOKENS} token ids at most", "too_many", "prompt"
        )


def _prompts(given: Any) -> tuple[Prompt, ...]:
    if isinstance(given, str):
        return (given,)
    if isinstance(given[0], int):
        return (tuple(given),)
    return tuple(one if isinstance(one, str) else tuple(one) for one in given)


def _check(wire: WireCompletion, prompts: Sequence[Prompt]) -> None:
    if any(isinstance(prompt, str) and "\0" in prompt for prompt in prompts):
        raise RequestError("prompt holds a NUL character; remove it", "nul_character", "prompt")
    if len(prompts) * (wire.n or 1) > MAX_PROMPTS:
        raise RequestError(f"at most {MAX_PROMPTS} choices can be asked for at once", "invalid_field", "prompt")
    if wire.max_tokens == 0 and not wire.echo:
        raise RequestError("max_tokens 0 needs echo: true", "invalid_field", "max_tokens")
    if wire.stream_options is not None and not wire.stream:
        raise RequestError("stream_options needs stream: true", "invalid_field", "stream_options")
    if wire.stream and wire.echo and wire.logprobs is not None:
        raise RequestError("echo with logprobs cannot be streamed; leave stream out", "unsupported_field", "stream")


def text_choice(
    index: int, text: str, logprobs: Sequence[TokenLogprob] | None, reason: FinishReason | None, offset: int = 0
) -> dict[str, Any]:
    """A choice of a text completion, or of a chunk of it. `offset`: characters of the choice that went before."""
    return {
        "index": index,
        "text": text,
        "logprobs": None if logprobs is None else legacy_logprobs(logprobs, offset),
        "finish_reason": None if reason is None else finish(reason),
    }


def legacy_logprobs(tokens: Sequence[TokenLogprob], offset: int = 0) -> dict[str, Any]:
    """OpenAI's legacy form; the chosen token is always among `top_logprobs`, the first of a prompt has none."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.token)
    return {
        "tokens": [token.token for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": offsets,
    }


def _top(token: TokenLogprob) -> dict[str, float] | None:
    if token.logprob is None:
        return None
    top: dict[str, float] = {}
    for text, value in (*token.top, (token.token, token.logprob)):
        top[text] = max(value, top.get(text, value))
    return top
