"""Files, documents and batches of a server over real engines, by the OpenAI SDK, and what the prefix cache saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.engine import Engines
from local_fusion.server.documents.place import OPENING, make_document
from local_fusion.types import Message
from tests.real.test_clients import PROGRAMS, SCRIPTS, run
from tests.server.test_batches import until

pytestmark = pytest.mark.vllm

FACTS = "What is 47 + 38? Sort the numbers 4, 9, 2. Reverse the word 'planet'. "
JUDGE = "qwen-judge"


async def whole_blocks(engines: Engines, model: str, text: str) -> int:
    """Tokens of the whole blocks that the document's own turn fills."""
    document = make_document("", text)
    shown = f"{OPENING}<document {document.label}>\n{document.text}\n</document {document.label}>"
    tokens = (await engines[model].count_tokens([(Message("system", shown),)]))[0]
    block = (await engines[model].info()).kv_block_tokens
    assert block
    blocks: int = (tokens - 16) // block * block  # what the chat template adds at the end is fewer than 16
    assert blocks >= 4 * block
    return blocks


@pytest.fixture
async def client(served: str) -> Any:
    async with httpx.AsyncClient(base_url=served, timeout=200) as made:
        yield made


async def upload(client: httpx.AsyncClient, text: str, name: str) -> str:
    sent = {"file": (name, text.encode())}
    answer = await client.post("/v1/files", files=sent, data={"purpose": "user_data"})
    return str(answer.json()["id"])


def question(file_id: str, text: str, model: str) -> dict[str, Any]:
    parts = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": text}]
    return {"model": model, "messages": [{"role": "user", "content": parts}]}


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_member_reads_a_document_once(client: httpx.AsyncClient, fleet: Engines) -> None:
    text = "A member's document. " + FACTS * 22
    file_id = await upload(client, text, "facts.txt")
    whole = await whole_blocks(fleet, "qwen-numbers", text)
    first = await ask(client, question(file_id, "What is 47 + 38?", "qwen-numbers"))
    second = await ask(client, question(file_id, "What is 12 + 30?", "qwen-numbers"))
    assert first["usage"]["prompt_tokens"] > whole
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 0.9 * whole
    same = await upload(client, text, "other-name.md")  # the same text under another name is the same prefix
    third = await ask(client, question(same, "What is 20 + 30?", "qwen-numbers"))
    assert third["usage"]["prompt_tokens_details"]["cached_tokens"] >= 0.9 * whole


async def test_every_member_and_the_judge_read_it_once(client: httpx.AsyncClient, fleet: Engines) -> None:
    text = "A fusion's document. " + FACTS * 22
    file_id = await upload(client, text, "facts.txt")
    await ask(client, question(file_id, "What is 47 + 38?", "demo"))
    order = {"fusion": {"include": ["receipt"]}}
    body = await ask(client, question(file_id, "What is 12 + 30?", "demo") | order)
    calls = body["fusion"]["calls"]
    first = {}
    for call in calls:
        first.setdefault(call["model"], call)
    assert len(first) == 4
    saved = 0
    for model, call in first.items():
        whole = await whole_blocks(fleet, model, text)
        assert call["cached_tokens"] >= 0.9 * whole, (call, whole)
        saved += call["cached_tokens"]
    assert first[JUDGE]["stage"] == "analyse"
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] >= saved


async def test_responses_read_the_same_prefix(client: httpx.AsyncClient, fleet: Engines) -> None:
    text = "A response's document. " + FACTS * 22
    file_id = await upload(client, text, "facts.txt")
    whole = await whole_blocks(fleet, "qwen-numbers", text)
    await ask(client, question(file_id, "What is 47 + 38?", "qwen-numbers"))
    parts = [{"type": "input_text", "text": "What is 12 + 30?"}, {"type": "input_file", "file_id": file_id}]
    body = {"model": "qwen-numbers", "input": [{"role": "user", "content": parts}], "store": False}
    answer = (await client.post("/v1/responses", json=body)).json()
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] >= 0.9 * whole


@pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the clients are not installed; `make test` installs them")
async def test_the_openai_sdk_runs_files_and_batches(served: str, tmp_path: Path) -> None:
    said = await run(tmp_path, PROGRAMS / "python", SCRIPTS / "openai_batches.py", served, "qwen-numbers")
    assert said.count("ok ") == 5


def sum_row(number: int) -> str:
    body = {"model": "demo", "messages": [{"role": "user", "content": f"What is {number} + {number}?"}]}
    row = {"custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(row) + "\n"


async def test_interactive_requests_go_before_a_batch(client: httpx.AsyncClient) -> None:
    """A question is answered while a batch of hundreds of rows is at work, and long before its end."""
    sent = {"file": ("in.jsonl", "".join(sum_row(n) for n in range(300)).encode())}
    file_id = (await client.post("/v1/files", files=sent, data={"purpose": "batch"})).json()["id"]
    ask_for = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = (await client.post("/v1/batches", json=ask_for)).json()
    await until(client, batch["id"], "in_progress")
    said = await ask(client, {"model": "demo", "messages": [{"role": "user", "content": "What is 47 + 38?"}]})
    assert said["choices"][0]["message"]["content"]
    batch = (await client.get(f"/v1/batches/{batch['id']}")).json()
    assert batch["status"] == "in_progress"
    assert batch["request_counts"]["completed"] < 200
    assert (await client.post(f"/v1/batches/{batch['id']}/cancel")).status_code == 200
    batch = await until(client, batch["id"], "cancelled")
    assert sum(batch["request_counts"][kind] for kind in ("completed", "failed")) == 300
