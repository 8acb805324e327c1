"""The OpenAI SDK against a server: `python openai_sdk.py BASE_URL MEMBER`. Prints a line per thing that worked."""

import json
import sys
import time

from openai import BadRequestError, NotFoundError, OpenAI

BASE, MEMBER = sys.argv[1:]
ASK = [{"role": "user", "content": "What is 75 + 2?"}]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string", "maxLength": 24}},
    "required": ["answer"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "note",
        "description": "Note a word.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "maxLength": 12}},
            "required": ["word"],
        },
    },
}
client = OpenAI(base_url=f"{BASE}/v1", api_key="local", max_retries=0, timeout=120)


def models() -> None:
    names = [model.id for model in client.models.list()]
    assert {"demo", "openrouter/fusion", MEMBER} <= set(names), names
    assert client.models.retrieve("demo").owned_by


def chat() -> None:
    done = client.chat.completions.create(model="demo", messages=ASK)
    assert "77" in done.choices[0].message.content, done
    assert done.model in {model.id for model in client.models.list()}
    assert done.usage.prompt_tokens > 0
    assert done.usage.completion_tokens > 0


def stream() -> None:
    chunks = list(
        client.chat.completions.create(model="demo", messages=ASK, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "77" in text, text
    assert chunks[-1].usage.total_tokens > 0
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"


def member() -> None:
    done = client.chat.completions.create(
        model=MEMBER, messages=ASK, n=2, logprobs=True, top_logprobs=2, temperature=0, seed=1
    )
    assert len(done.choices) == 2
    for choice in done.choices:
        assert "77" in choice.message.content
        assert choice.logprobs.content[0].top_logprobs


def tools() -> None:
    choice = {"type": "function", "function": {"name": "note"}}
    done = client.chat.completions.create(
        model="demo", messages=ASK, tools=[TOOL], tool_choice=choice, max_completion_tokens=64
    )
    (call,) = done.choices[0].message.tool_calls
    assert call.function.name == "note"
    assert set(json.loads(call.function.arguments)) == {"word"}
    pieces = []
    with client.chat.completions.stream(
        model=MEMBER, messages=ASK, tools=[TOOL], tool_choice=choice, max_completion_tokens=64
    ) as events:
        for event in events:
            if event.type == "chunk" and event.chunk.choices:
                pieces += event.chunk.choices[0].delta.tool_calls or []
    assert len(pieces) > 1, pieces
    assert set(json.loads("".join(piece.function.arguments or "" for piece in pieces))) == {"word"}


def json_schema() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    done = client.chat.completions.create(model="demo", messages=ASK, response_format=form, max_completion_tokens=64)
    assert set(json.loads(done.choices[0].message.content)) == {"answer"}


def completions() -> None:
    done = client.completions.create(model=MEMBER, prompt=[[5, 6, 7]], echo=True, logprobs=1, max_tokens=1)
    assert done.choices[0].logprobs.token_logprobs[0] is None
    try:
        client.completions.create(model="demo", prompt="1 + 1")
    except BadRequestError as problem:
        print(f"refused: {problem.code}")
    else:
        raise AssertionError("a fusion took a raw prompt")


def responses() -> None:
    done = client.responses.create(model="demo", input="What is 75 + 2?")
    assert "77" in done.output_text, done
    again = client.responses.retrieve(done.id)
    assert again.output_text == done.output_text
    client.responses.delete(done.id)
    try:
        client.responses.retrieve(done.id)
    except NotFoundError:
        pass
    else:
        raise AssertionError("a deleted response is still there")


def responses_stream() -> None:
    with client.responses.stream(model="demo", input="What is 75 + 2?") as events:
        kinds = [event.type for event in events]
        final = events.get_final_response()
    assert "response.output_text.delta" in kinds
    assert "response.fusion_call.panel.delta" in kinds, kinds
    assert "77" in final.output_text


def responses_json() -> None:
    form = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
    done = client.responses.create(model="demo", input="What is 75 + 2?", text=form, max_output_tokens=64)
    assert set(json.loads(done.output_text)) == {"answer"}


def background() -> None:
    run = client.responses.create(model="demo", input="What is 75 + 2?", background=True)
    ends = time.monotonic() + 90
    while run.status in ("queued", "in_progress") and time.monotonic() < ends:
        time.sleep(0.3)
        run = client.responses.retrieve(run.id)
    assert run.status == "completed", run
    assert "77" in run.output_text


def files_and_batches() -> None:
    lines = [
        {
            "custom_id": f"row-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "demo", "messages": ASK},
        }
        for n in range(3)
    ]
    source = "".join(json.dumps(line) + "\n" for line in lines).encode()
    uploaded = client.files.create(file=("rows.jsonl", source), purpose="batch")
    batch = client.batches.create(input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h")
    ends = time.monotonic() + 120
    while batch.status not in ("completed", "failed", "expired", "cancelled") and time.monotonic() < ends:
        time.sleep(0.3)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed", batch
    assert batch.request_counts.completed == 3
    out = client.files.content(batch.output_file_id).text.splitlines()
    assert {json.loads(line)["custom_id"] for line in out} == {"row-0", "row-1", "row-2"}
    client.files.delete(uploaded.id)


def document() -> None:
    text = ("The harbour of Lindmoor was built in 1832. " * 40).encode()
    kept = client.files.create(file=("harbour.txt", text), purpose="user_data")
    parts = [{"type": "file", "file": {"file_id": kept.id}}, {"type": "text", "text": "What is 75 + 2?"}]
    cached = []
    for _ in range(2):
        done = client.chat.completions.create(
            model=MEMBER, messages=[{"role": "user", "content": parts}], max_completion_tokens=8
        )
        cached.append(done.usage.prompt_tokens_details.cached_tokens)
    assert cached[1] > 0, cached
    client.files.delete(kept.id)


for work in (models, chat, stream, member, tools, json_schema, completions, responses, responses_stream,
             responses_json, background, files_and_batches, document):  # fmt: skip
    work()
    print(f"ok {work.__name__}", flush=True)
