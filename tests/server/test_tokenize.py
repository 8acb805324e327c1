"""Texts and conversations to token ids and back, in vLLM's form."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from local_fusion.server.routes.tokenize import AT_ONCE, words_of
from tests.server.talk import TURN, ask, refused


async def test_a_text_to_tokens_and_back(client: httpx.AsyncClient) -> None:
    body = (await ask(client, "/tokenize", model="one", prompt="a b c", return_token_strs=True)).json()
    assert (body["count"], body["max_model_len"], body["token_strs"]) == (3, 32_768, ["a", " b", " c"])
    back = await ask(client, "/detokenize", model="one", tokens=body["tokens"])
    assert back.json()["prompt"] == "a b c"


async def test_a_conversation_and_a_fusion(client: httpx.AsyncClient) -> None:
    body = (await ask(client, "/tokenize", messages=[TURN])).json()
    assert (body["count"], body["model"]) == (1, "judge"), "a fusion's writer"
    assert "token_strs" not in body


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/tokenize", {"model": "nobody", "prompt": "a"}, (404, "model_not_found", "model")),
        ("/tokenize", {"model": "one"}, (400, "invalid_field", "prompt")),
        ("/tokenize", {"prompt": "a", "messages": [TURN]}, (400, "invalid_field", "prompt")),
        ("/tokenize", {"messages": [TURN], "add_special_tokens": True}, (400, "invalid_field", "add_special_tokens")),
        ("/tokenize", {"prompt": "a", "chat_template": "x"}, (400, "unknown_field", "chat_template")),
        ("/detokenize", {"model": "one"}, (400, "missing_field", "tokens")),
        ("/detokenize", {"model": "one", "tokens": [-1]}, (400, "invalid_field", "tokens.0")),
        ("/detokenize", {"model": "one", "tokens": [10**9]}, (400, "bad_request", None)),
    ],
)
async def test_refusals(client: httpx.AsyncClient, path: str, body: dict[str, Any], expected: Any) -> None:
    assert await refused(client, path, **body) == expected


class Slow:
    """An engine whose tokens are their own names; `most`: calls it had at once."""

    def __init__(self) -> None:
        self.running = self.most = 0

    async def detokenize(self, tokens: Sequence[int]) -> str:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001)
        self.running -= 1
        return " ".join(map(str, tokens))


async def test_the_texts_of_many_tokens_are_few_calls_at_once() -> None:
    engine = Slow()
    words = await words_of(engine, [*range(500), *range(500)])  # type: ignore[arg-type]
    assert words == {token: str(token) for token in range(500)}
    assert engine.most == AT_ONCE
