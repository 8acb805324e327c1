"""Short words for asking a server in tests."""

from __future__ import annotations

import json
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
TURN = {"role": "user", "content": "2+2?"}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
FUSION_CALL = '<tool_call>{"name": "openrouter_fusion", "arguments": {}}</tool_call>'
ADD_CALL = '<tool_call>{"name": "add", "arguments": {"a": 4}}</tool_call>'


async def ask(client: httpx.AsyncClient, path: str = CHAT, **body: Any) -> httpx.Response:
    """Post a body; a chat gets one turn where it has none."""
    if path == CHAT:
        body = {"messages": [TURN]} | body
    return await client.post(path, json=body)


async def said(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """The body of a chat that must succeed."""
    answer = await ask(client, **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refused(client: httpx.AsyncClient, path: str = CHAT, **body: Any) -> tuple[int, str, str | None]:
    """Status, code and param of a refusal, which must be in OpenAI's form."""
    answer = await ask(client, path, **body)
    error = answer.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["param"]


async def streamed(client: httpx.AsyncClient, path: str = CHAT, **body: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The chunks and the comments of a stream that must end with [DONE]."""
    answer = await ask(client, path, stream=True, **body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1] if line.startswith("data: ")]
    return chunks, [line for line in lines if line.startswith(":")]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    """The text that the deltas of a choice make."""
    pieces = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in pieces)


def calls_of(chunks: list[dict[str, Any]]) -> dict[int, dict[str, str]]:
    """The tool calls that the deltas make."""
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for piece in choice["delta"].get("tool_calls", ()):
                call = calls.setdefault(piece["index"], {"name": "", "arguments": "", "pieces": ""})
                call["name"] += piece["function"].get("name", "")
                call["arguments"] += piece["function"].get("arguments", "")
                call["pieces"] += "."
    return calls


def reasons_of(chunks: list[dict[str, Any]]) -> list[str]:
    """Every finish reason, in order."""
    return [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
