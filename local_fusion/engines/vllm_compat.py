"""What differs between vLLM 0.26 and 0.33, in one place. The rest of `engines/vllm*` uses only what they share.

Importing this module imports vllm: set the environment (`airgap/env.py`) first.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib import metadata
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any

from vllm import exceptions
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.model_executor.models import ModelRegistry
from vllm.parser import ParserManager
from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import IncrementalDetokenizer
from vllm.v1.structured_output.backend_xgrammar import has_xgrammar_unsupported_json_features
from xgrammar import Grammar, TokenizerInfo

try:
    from vllm.tool_parsers.streaming import extract_required_tool_call_streaming as _required
except ImportError:  # an older vLLM has it elsewhere, and in another form
    _required = None

# 0.26 raises ValueErrors; later releases have a tree of their own, which need not be ValueErrors.
CLIENT_ERRORS: tuple[type[Exception], ...] = (
    ValueError,
    *(getattr(exceptions, name) for name in ("VLLMClientError", "GracefulHTTPError") if hasattr(exceptions, name)),
)

RENDER_ERRORS: tuple[type[Exception], ...] = (*CLIENT_ERRORS, TypeError)


def refusal(problem: Exception) -> str:
    """What vLLM minds about a request, in its own words where these cannot hold a prompt."""
    told = str(problem.args[0])[:200] if isinstance(problem, exceptions.VLLMValidationError) and problem.args else ""
    return f"{type(problem).__name__}: {told}" if told else type(problem).__name__


def version(distribution: str, *others: str) -> str:
    """Version of the first of these distributions that is installed, or an empty text."""
    for name in (distribution, *others):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


@cache
def parameters(function: Any) -> frozenset[str]:
    """Names of the parameters a function of this vLLM takes."""
    return frozenset(inspect.signature(function).parameters)


def parser_class(model_config: Any, tokenizer: Any, reasoning: str | None, tools: str | None) -> Any:
    """vLLM's parser of reasoning and tool calls, or None where neither is wanted. Raises TypeError or KeyError where
    a name is unknown, or the tokenizer lacks what the parser needs."""
    given: dict[str, Any] = {
        "tool_parser_name": tools,
        "reasoning_parser_name": reasoning,
        "enable_auto_tools": tools is not None,
        "model_name": model_config.model,
        "is_harmony": is_harmony(model_config),
        "tool_strict_level": "parameter",  # arguments always keep their schema
        "tokenizer": tokenizer,
    }
    known = parameters(ParserManager.get_parser)
    return ParserManager.get_parser(**{name: value for name, value in given.items() if name in known})


def is_harmony(model_config: Any) -> bool:
    """gpt-oss speaks OpenAI's harmony format, which no chat template renders."""
    return str(getattr(model_config.hf_config, "model_type", "")) == "gpt_oss"


def harmony_renderer(engine: AsyncLLM, reasoning: str | None, tools: str | None) -> Any:
    """vLLM's serving renderer, needed for harmony models only. Raises ImportError on a vLLM that lacks it."""
    from vllm.renderers.online_renderer import OnlineRenderer

    return OnlineRenderer(
        engine.model_config,
        engine.renderer,
        request_logger=None,
        chat_template=None,
        chat_template_content_format="auto",
        enable_auto_tools=tools is not None,
        tool_parser=tools,
        reasoning_parser=reasoning,
    )


def parse_whole(parser: Any, text: str, token_ids: Any, prompt_ids: list[int], request: ChatCompletionRequest) -> Any:
    """(reasoning, content, tool calls) of a finished answer."""
    if hasattr(parser, "parse_with_prompt"):
        return parser.parse_with_prompt(
            text,
            request,
            enable_auto_tools=True,
            model_output_token_ids=token_ids,
            prompt_token_ids=prompt_ids,
        )
    if hasattr(parser, "set_prompt_token_ids"):
        parser.set_prompt_token_ids(prompt_ids)
    return parser.parse(text, request, enable_auto_tools=True, model_output_token_ids=token_ids)


def text_of(tokenizer: Any, prompt_ids: list[int], params: SamplingParams, output: Any) -> str:
    """The text of an output made with `detokenize=False`: vLLM's own detokenizer, run once at the end. Without stop
    strings a stop is always a token, which is no text."""
    whole = detokenizer(tokenizer, prompt_ids, params)
    whole.update(list(output.token_ids), output.finish_reason == "stop")
    return str(whole.get_next_output_text(True, False))


def detokenizer(tokenizer: Any, prompt_ids: list[int], params: SamplingParams) -> Any:
    """vLLM's own, as for a call with these parameters, but deaf to stop strings."""
    unstopped = copy.copy(params)
    unstopped.stop = []
    request: Any = SimpleNamespace(
        request_id="", prompt_token_ids=prompt_ids, prompt_embeds=None, sampling_params=unstopped
    )
    return IncrementalDetokenizer.from_new_request(tokenizer, request)


def token_bytes(tokenizer: Any) -> list[bytes]:
    """The bytes of each token id, by xgrammar, which knows how tokenizers write them; one by one where it does not
    know this one."""
    try:
        return list(TokenizerInfo.from_huggingface(tokenizer).decoded_vocab)
    except (ValueError, TypeError, AttributeError):
        return [str(tokenizer.decode([token])).encode("utf-8", "replace") for token in range(len(tokenizer))]


def tight_json(schema: Any) -> StructuredOutputsParams:
    """Hold an output to a JSON schema without white space of its own choice: weak models go on with it for ever."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    grammar = _tight_grammar(text)
    return StructuredOutputsParams(json=text) if grammar is None else StructuredOutputsParams(grammar=grammar)


@lru_cache(maxsize=256)
def _tight_grammar(text: str) -> str | None:
    """None where xgrammar knows none: vLLM then says of the schema why."""
    if has_xgrammar_unsupported_json_features(json.loads(text)):
        return None
    try:
        return str(Grammar.from_json_schema(text, any_whitespace=False))
    except RuntimeError:  # xgrammar's only error
        return None


def required_pieces(before: str, now: str) -> list[Any]:
    """What of a required choice's JSON array is new between two states of its text, as vLLM's tool-call deltas. Empty
    on a vLLM that cannot say."""
    if _required is None or "delta_text" in parameters(_required):
        return []
    delta, _ = _required(previous_text=before, current_text=now, tool_call_idx=None, tool_call_id_type="random")
    return list(delta.tool_calls) if delta is not None else []


def reasoning_arguments(parser: Any, prompt_ids: list[int], template_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `AsyncLLM.generate` that tell structured output where the reasoning ends."""
    if parser is None or parser.reasoning_parser is None:
        return {}
    known = parameters(AsyncLLM.generate)
    given = {
        "reasoning_ended": parser.is_reasoning_end(prompt_ids),
        "reasoning_parser_kwargs": {"chat_template_kwargs": template_kwargs},
    }
    return {name: value for name, value in given.items() if name in known}


def inspect_here(architectures: Sequence[str]) -> None:
    """Let vLLM look at these model classes in this process. By itself it starts a process that imports everything once
    more, to keep a GPU out of this one: on a CPU that is a quarter of a minute for nothing."""
    for name in architectures:
        entry = ModelRegistry.models.get(name)
        if entry is not None and hasattr(entry, "load_model_cls"):
            ModelRegistry.register_model(name, entry.load_model_cls())


def processes(engine: AsyncLLM) -> list[BaseProcess]:
    """The engine-core processes that this engine started here; empty where others hold them (Ray)."""
    manager = getattr(getattr(engine.engine_core, "resources", None), "engine_manager", None)
    return list(getattr(manager, "processes", ()))


def kv_cache_tokens(cache_config: Any) -> int | None:
    """Tokens the KV cache holds, where the engine says so."""
    tokens = getattr(cache_config, "kv_cache_size_tokens", None)
    if tokens:
        return int(tokens)
    blocks, size = cache_config.num_gpu_blocks, cache_config.block_size
    return int(blocks) * int(size) if blocks and size else None
