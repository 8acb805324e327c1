"""Messages to prompt tokens and output back to reasoning, text and tool calls, by vLLM's own renderer and parsers.

Invariant: the prompt is what the model's own template and tokenizer make of the messages; nothing is truncated here.
Short prompts are rendered on the event loop (a thread costs more than it saves), long ones in the renderer's pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.renderers import ChatParams, TokenizeParams
from vllm.v1.engine.async_llm import AsyncLLM

from local_fusion.engines import vllm_compat
from local_fusion.errors import CallError
from local_fusion.types import Message, ToolCall

LONG_CHARACTERS = 16_000
"""Longer prompts are rendered off the event loop."""
_UNBOUNDED = TokenizeParams(max_total_tokens=None, add_special_tokens=False)
_NO_REASONING = {"enable_thinking": False, "thinking": False}
_TAIL_TOKENS = 16
_HARMONY_ANSWER = "<|channel|>final<|message|>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt: vLLM's engine input, its token ids, and the template arguments it was made with."""

    engine_input: Any
    token_ids: list[int]
    template_kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Marks:
    """Tokens around reasoning; `closing` comes before an answer: always where `start` is None, else if it is open."""

    start: int | None
    end: int | None
    closing: list[int]


class Chat:
    """Renders and parses for one engine."""

    def __init__(
        self,
        engine: AsyncLLM,
        template_kwargs: Mapping[str, Any],
        reasoning_parser: str | None,
        tool_parser: str | None,
    ) -> None:
        self._engine = engine
        self._renderer = engine.renderer
        self._defaults = dict(template_kwargs)
        self._label_ids: dict[str, int] = {}
        self._answer_marks: _Marks | None = None
        self.tokenizer = engine.renderer.get_tokenizer()
        self.parser_class = vllm_compat.parser_class(engine.model_config, self.tokenizer, reasoning_parser, tool_parser)
        self.has_tool_parser = tool_parser is not None
        self.has_reasoning_parser = reasoning_parser is not None
        harmony = vllm_compat.is_harmony(engine.model_config)
        self._harmony: Any = vllm_compat.harmony_renderer(engine, reasoning_parser, tool_parser) if harmony else None

    async def render(
        self,
        messages: Sequence[Message],
        template_kwargs: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]] = (),
        cache_salt: str | None = None,
    ) -> Prompt:
        """Token ids of a conversation, ready for generation. Raises CallError (bad_request)."""
        kwargs = {**self._defaults, **template_kwargs}
        if "chat_template" in kwargs or "tokenize" in kwargs:
            raise CallError("chat_template_kwargs may not hold chat_template or tokenize; remove them", "bad_request")
        turns = [wire_message(message) for message in messages]
        try:
            if self._harmony is not None:
                return await _render_harmony(self._harmony, turns, kwargs, tools, cache_salt)
            params = ChatParams(
                chat_template_kwargs={
                    **kwargs,
                    "add_generation_prompt": True,
                    "tools": [dict(tool) for tool in tools] or None,
                    "tokenize": False,
                }
            )
            extras = {"cache_salt": cache_salt} if cache_salt is not None else None
            if sum(len(message.content) for message in messages) < LONG_CHARACTERS:
                _, (rendered,) = self._renderer.render_chat([turns], params, _UNBOUNDED, prompt_extras=extras)
            else:
                _, (rendered,) = await self._renderer.render_chat_async(
                    [turns], params, _UNBOUNDED, prompt_extras=extras
                )
        except vllm_compat.RENDER_ERRORS as problem:
            raise CallError(
                f"the chat template refuses the conversation ({type(problem).__name__}); check roles and their order",
                "bad_request",
            ) from problem
        return Prompt(rendered, list(rendered["prompt_token_ids"]), kwargs)

    async def render_for_label(
        self, messages: Sequence[Message], template_kwargs: Mapping[str, Any], cache_salt: str | None
    ) -> Prompt:
        """As `render`, with reasoning off or closed, so that the label is the very next token."""
        prompt = await self.render(messages, {**template_kwargs, **_NO_REASONING}, cache_salt=cache_salt)
        closing = self._closing_ids(prompt.token_ids)
        if closing:
            prompt.token_ids.extend(closing)
            prompt.engine_input["prompt_token_ids"] = prompt.token_ids
        return prompt

    def _closing_ids(self, token_ids: list[int]) -> list[int]:
        """Tokens that lead to the answer's first one where the template ends before it: in an open reasoning block."""
        marks = self._answer_marks = self._answer_marks or self._find_marks()
        if marks.start is None:
            return marks.closing
        for token in reversed(token_ids[-_TAIL_TOKENS:]):
            if token == marks.end:
                return []
            if token == marks.start:
                return marks.closing
        return []

    def _find_marks(self) -> _Marks:
        if self._harmony is not None:
            return _Marks(None, None, self.tokenizer.encode(_HARMONY_ANSWER, add_special_tokens=False))
        if not self.has_reasoning_parser:
            return _Marks(None, None, [])
        reasoning = self.parser().reasoning_parser
        vocabulary = self.tokenizer.get_vocab()
        found = (reasoning.reasoning_start_str, reasoning.reasoning_end_str)
        start, end = (vocabulary.get(mark.strip()) if mark else None for mark in found)
        if start is None or end is None:
            return _Marks(None, None, [])
        return _Marks(start, end, [end, *self.tokenizer.encode("\n\n", add_special_tokens=False)])

    async def label_ids(self, labels: Sequence[str]) -> list[int]:
        """The one token of each label where an answer begins. Raises CallError (bad_request) naming the label."""
        return [self._label_ids.get(label) or await self._find_label(label) for label in labels]

    async def _find_label(self, label: str) -> int:
        alone = self.tokenizer.encode(label, add_special_tokens=False)
        if self._harmony is None:
            prompt = await self.render((Message("user", "?"),), _NO_REASONING)
            text = self.tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
            before = self.tokenizer.encode(text, add_special_tokens=False)
            after = self.tokenizer.encode(text + label, add_special_tokens=False)
            if before == prompt.token_ids and after[: len(before)] == before:
                alone = after[len(before) :]
        if len(alone) != 1:
            raise CallError(
                f"the label {label!r} is {len(alone)} tokens for this model, but one is needed; use other labels",
                "bad_request",
            )
        self._label_ids[label] = int(alone[0])
        return int(alone[0])

    def parser(self, tools: Any = None, template_kwargs: Mapping[str, Any] | None = None) -> Any:
        """A fresh parser for one call, or None where the model needs none."""
        if self.parser_class is None:
            return None
        return self.parser_class(
            self.tokenizer,
            tools,
            chat_template_kwargs=dict(self._defaults if template_kwargs is None else template_kwargs),
            model_config=self._engine.model_config,
        )


async def _render_harmony(
    renderer: Any,
    turns: list[dict[str, Any]],
    kwargs: dict[str, Any],
    tools: Sequence[Mapping[str, Any]],
    cache_salt: str | None,
) -> Prompt:
    request = chat_request(turns, tools=tools, chat_template_kwargs=kwargs, cache_salt=cache_salt)
    request.reasoning_effort = kwargs.get("reasoning_effort")
    _, (rendered,) = await renderer.render_chat(request)
    return Prompt(rendered, list(rendered["prompt_token_ids"]), kwargs)


def chat_request(turns: list[dict[str, Any]], **fields: Any) -> ChatCompletionRequest:
    """vLLM's own request, which its parsers read. Raises ValueError."""
    given = {name: value for name, value in fields.items() if value not in (None, (), [])}
    if "tools" in given:
        given["tools"] = [dict(tool) for tool in given["tools"]]
    return ChatCompletionRequest(model="local", messages=turns, **given)


def wire_message(message: Message) -> dict[str, Any]:
    """A message in OpenAI's form."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return turn


def tool_call(index: int, call_id: str | None, name: str, arguments: str, seed: int) -> ToolCall:
    """A tool call. Ids that the model's template counts on (they hold the name) are kept; vLLM's random ones give way
    to the call's seed, so that a run can be repeated."""
    kept = call_id if call_id and name in call_id else f"call_{seed % 16**8:08x}{index}"
    return ToolCall(id=kept, name=name, arguments=arguments)
