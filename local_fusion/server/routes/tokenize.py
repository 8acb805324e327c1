"""`/tokenize` and `/detokenize`, in vLLM's form, by a member's own tokenizer; for a fusion, by its writer's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request

from local_fusion.engine import Engine
from local_fusion.errors import RequestError
from local_fusion.openai_api.schemas import detokenize_schema, tokenize_schema
from local_fusion.openai_api.tokens import parse_detokenize, parse_tokenize
from local_fusion.server.door.body import read_json
from local_fusion.server.door.presence import admitted, unless_gone
from local_fusion.server.orders.choose import token_model
from local_fusion.server.orders.member import bounded
from local_fusion.server.problems import Json
from local_fusion.server.service import caller_of, service_of
from local_fusion.server.wire.declared import GENERATING, errors, json_body

router = APIRouter()
MAX_STRINGS = 16_384
AT_ONCE = 32
"""Calls of an engine for one request of `return_token_strs`."""
LIMIT_S = 60.0


@router.post("/tokenize", openapi_extra=json_body(tokenize_schema()), responses=errors(*GENERATING))
async def tokenize(request: Request) -> Json:
    """Token ids of a text, or of a conversation as the model's chat template renders it."""
    service, caller = service_of(request), caller_of(request)
    asked = parse_tokenize(await read_json(request))
    model = token_model(service, caller, asked.model)
    engine = service.engine(model)
    with await admitted(request):
        work = engine.tokenize(asked.text, asked.special)
        tokens = await unless_gone(request, bounded(work, model, LIMIT_S))
        info = await unless_gone(request, bounded(engine.info(), model, LIMIT_S))
        body = {"count": len(tokens), "max_model_len": info.context, "tokens": tokens, "model": model}
        if asked.strings:
            if len(tokens) > MAX_STRINGS:
                raise RequestError(
                    f"return_token_strs is for at most {MAX_STRINGS} tokens", "invalid_field", "return_token_strs"
                )
            words = await unless_gone(request, bounded(words_of(engine, tokens), model, LIMIT_S))
            body["token_strs"] = [words[token] for token in tokens]
    return Json(body)


async def words_of(engine: Engine, tokens: Sequence[int]) -> dict[int, str]:
    """The text of each token; few calls at once, so that the engine's line stays short for others."""
    words: dict[int, str] = {}
    distinct = list(dict.fromkeys(tokens))
    for first in range(0, len(distinct), AT_ONCE):
        some = distinct[first : first + AT_ONCE]
        texts = await asyncio.gather(*(engine.detokenize([one]) for one in some))
        words |= zip(some, texts, strict=True)
    return words


@router.post("/detokenize", openapi_extra=json_body(detokenize_schema()), responses=errors(*GENERATING))
async def detokenize(request: Request) -> Json:
    """The text of token ids."""
    service, caller = service_of(request), caller_of(request)
    name, tokens = parse_detokenize(await read_json(request))
    model = token_model(service, caller, name)
    with await admitted(request):
        work = service.engine(model).detokenize(tokens)
        text = await unless_gone(request, bounded(work, model, LIMIT_S))
    return Json({"prompt": text, "model": model})
