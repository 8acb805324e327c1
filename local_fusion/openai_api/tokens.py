"""Bodies of `/tokenize` and `/detokenize`, in vLLM's form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from local_fusion.errors import RequestError
from local_fusion.openai_api.messages import MAX_MESSAGES, WireMessage, messages_of
from local_fusion.openai_api.refusal import refusal_of
from local_fusion.openai_api.wire import Listed, Wire
from local_fusion.types import Message

MAX_TOKENS = 1_000_000
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class WireTokenize(Wire):
    """A text, or a conversation as the model's chat template renders it."""

    model: str | None = None
    prompt: str | None = None
    messages: Listed[WireMessage] | None = Field(default=None, min_length=1, max_length=MAX_MESSAGES)
    add_special_tokens: bool | None = None
    return_token_strs: bool = False


class WireDetokenize(Wire):
    """Token ids."""

    model: str | None = None
    tokens: Listed[TokenId] = Field(max_length=MAX_TOKENS)


@dataclass(frozen=True, slots=True)
class TokenizeRequest:
    """`special`: with the tokenizer's own beginning; of a conversation the template alone decides."""

    model: str | None
    text: str | tuple[Message, ...]
    special: bool
    strings: bool


def parse_tokenize(body: Mapping[str, Any]) -> TokenizeRequest:
    """Raises RequestError naming the field."""
    wire = _checked(WireTokenize, body)
    if (wire.prompt is None) == (wire.messages is None):
        raise RequestError("give either prompt or messages", "invalid_field", "prompt")
    if wire.messages is not None:
        if wire.add_special_tokens:
            raise RequestError(
                "add_special_tokens is for prompt: the chat template adds what messages need",
                "invalid_field",
                "add_special_tokens",
            )
        return TokenizeRequest(wire.model, messages_of(wire.messages), False, wire.return_token_strs)
    return TokenizeRequest(wire.model, wire.prompt, wire.add_special_tokens is not False, wire.return_token_strs)


def parse_detokenize(body: Mapping[str, Any]) -> tuple[str | None, tuple[int, ...]]:
    """The model and the token ids. Raises RequestError naming the field."""
    wire = _checked(WireDetokenize, body)
    return wire.model, tuple(wire.tokens)


def _checked(kind: type[Any], body: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(body)
    except ValidationError as problem:
        raise refusal_of(problem) from None
