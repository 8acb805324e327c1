"""Bounds on everything a client can send, and what it hears when it goes beyond."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.errors import RequestError
from local_fusion.server.door import limits
from local_fusion.server.door.connections import HEAD_BYTES, BoundedProtocol
from local_fusion.server.door.limits import check_counts, check_depth
from tests.server.conftest import CONFIG, make_config, serving
from tests.server.sockets import chat_request, exchange, listening, question, until
from tests.server.test_batches import ENDED, begin, line, rows
from tests.server.test_batches import until as batch_until

SECRET = "xylophone"


def nested(depth: int) -> Any:
    value: Any = SECRET
    for _ in range(depth):
        value = {"a": [value]}
    return value


async def post(client: httpx.AsyncClient, content: bytes | str, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/json"} | headers
    return await client.post("/v1/chat/completions", content=content, headers=sent)


async def test_a_body_beyond_the_limit_is_413(tmp_path: Path) -> None:
    config = make_config(tmp_path, CONFIG.replace("heartbeat_s: 0.2", "heartbeat_s: 0.2, max_body_bytes: 2000"))
    async with serving(config) as client:
        assert (await post(client, json.dumps(question()))).status_code == 200
        answer = await post(client, json.dumps(question(user=SECRET * 300)))
        assert answer.status_code == 413
        assert SECRET not in answer.text


@pytest.mark.parametrize(
    "raw",
    ["", "{", "[]", "null", '"' + SECRET + '"', '{"messages": NaN}', "[" * 100_000, '{"a":' * 2000 + "1" + "}" * 2000],
)
async def test_what_is_no_json_object_is_400(client: httpx.AsyncClient, raw: str) -> None:
    answer = await post(client, raw)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert SECRET not in answer.text
    assert len(answer.content) < 1000


async def test_another_content_type_is_415(client: httpx.AsyncClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await post(client, json.dumps(question()), **{"content-type": kind})
        assert answer.status_code == 415, kind
    assert (
        await post(client, json.dumps(question()), **{"content-type": "application/json; charset=utf-8"})
    ).is_success


def test_depth_is_bounded() -> None:
    for depth, wrong in ((31, False), (40, True), (400, True)):
        raw = json.dumps(nested(depth)).encode()
        if wrong:
            with pytest.raises(RequestError, match="nested deeper"):
                check_depth(nested(depth), raw)
        else:
            check_depth(nested(depth), raw)


def schema(inner: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": inner}}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": [{}] * (limits.MESSAGES + 1)}, "messages"),
    ({"input": ["x"] * (limits.MESSAGES + 1)}, "input"),
    ({"prompt": ["x"] * (limits.PROMPTS + 1)}, "prompt"),
    ({"tools": [{}] * (limits.TOOLS + 1)}, "tools"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"stop": SECRET * 100}, "stop"),
    ({"metadata": {str(key): "x" for key in range(100)}}, "metadata"),
    ({"metadata": {"a": SECRET * 1000}}, "metadata"),
    ({"metadata": {SECRET * 1000: "a"}}, "metadata"),
    ({"model": SECRET * 100}, "model"),
    ({"user": SECRET * 100}, "user"),
    (schema({"type": "string", "pattern": "a" * 600}), "response_format"),
    (schema({"type": "string", "pattern": "(((a{99}){99}){99})"}), "response_format"),
    (schema({"patternProperties": {"a" * 600: {}}}), "response_format"),
    (schema({"type": "string", "minLength": 10**9}), "response_format"),
    (schema({"items": {"type": "array", "maxItems": 10**7}}), "response_format"),
    (schema({"enum": [str(place) for place in range(2000)]}), "response_format"),
    (schema({"$ref": "http://example.com/schema"}), "response_format"),
    (schema({"$ref": "file:///etc/passwd"}), "response_format"),
    (schema({"properties": {str(place): {"type": "string"} for place in range(5000)}}), "response_format"),
    (schema(nested(20)), "response_format"),
    ({"text": {"format": {"schema": {"pattern": "a" * 600}}}}, "text"),
    ({"tools": [{}, {"function": {"parameters": {"pattern": "a" * 600}}}]}, "tools.1"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_too_much_of_something_names_the_field_and_repeats_nothing(body: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_counts(body)
    assert refused.value.param == param
    assert SECRET not in refused.value.message
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": list(range(20_000))},  # one prompt of token ids
        {"messages": 3, "tools": "x", "stop": 5, "metadata": [], "response_format": 1, "text": [], "model": None},
        schema(
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "pattern": "^[a-z]{1,64}$", "maxLength": 4000}}}
        ),
        schema({"properties": {str(place): {"enum": ["a", "b"]} for place in range(500)}}),
    ],
)
def test_what_is_ordinary_or_for_others_to_judge_passes(body: dict[str, Any]) -> None:
    check_counts(body)


async def test_addresses_are_bounded(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models/" + "a" * 3000)).status_code == 414
    assert (await client.get("/v1/models?" + "a" * 17_000)).status_code == 414


async def test_an_endless_head_is_refused(tmp_path: Path) -> None:
    async with listening(make_config(tmp_path)) as served:
        for raw in (
            b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * (HEAD_BYTES + 10),
            b"GET /" + b"a" * (HEAD_BYTES + 10),
            b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
            chat_request(question(), "a: " + "b" * HEAD_BYTES + "\r\n"),
        ):
            answer = await exchange(served.port, raw)
            assert answer.startswith(b"HTTP/1.1 431"), answer[:100]
            assert b"headers_too_large" in answer


async def test_what_is_not_http_is_refused_in_the_usual_form(tmp_path: Path) -> None:
    async with listening(make_config(tmp_path)) as served:
        for raw in (b"\x16\x03\x01\x02\x00\x01\x00", b"hello there\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
            answer = await exchange(served.port, raw)
            assert answer.startswith(b"HTTP/1.1 400"), answer[:100]
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


class Impatient(BoundedProtocol):
    head_s = 0.2


async def test_a_head_that_dribbles_is_cut_off(tmp_path: Path) -> None:
    async with listening(make_config(tmp_path), protocol=Impatient) as served:
        for raw in (b"", b"GET / HTTP/1.1\r\nhost:"):
            assert b"request_timeout" in await exchange(served.port, raw, 5)
        # A connection that is kept open may ask again; and one whose answer takes long is left alone.
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        for _ in range(2):
            writer.write(chat_request(question()))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            assert json.loads(await reader.readexactly(length))["object"] == "chat.completion"
            await asyncio.sleep(0.05)
        writer.close()


async def test_a_body_that_never_comes_holds_no_place(tmp_path: Path) -> None:
    async with listening(make_config(tmp_path)) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.1)
        assert served.service.admission.working == 0
        writer.transport.abort()
        await until(lambda: served.service.admission.working == 0, 1)


def test_parts_and_calls_are_counted_over_all_turns() -> None:
    for field, name in (("messages", "content"), ("messages", "tool_calls"), ("input", "output")):
        body: dict[str, Any] = {field: [{name: [{}] * 1000} for _ in range(limits.PARTS // 1000 + 1)]}
        with pytest.raises(RequestError, match=name) as refused:
            check_counts(body)
        assert refused.value.param == field
    with pytest.raises(RequestError):
        check_counts({"chat_template_kwargs": {str(key): 1 for key in range(limits.TEMPLATE_KEYS + 1)}})


async def test_the_rows_of_a_batch_have_the_same_limits(client: httpx.AsyncClient) -> None:
    costly = schema({"type": "string", "pattern": "(((a{99}){99}){99})"})
    bodies = {"good": {}, "costly": costly, "many": {"metadata": {str(key): "x" for key in range(100)}},
              "deep": {"chat_template_kwargs": nested(40)}}  # fmt: skip
    lines = [line(name, **body) for name, body in bodies.items()]
    made = await begin(client, lines)
    done = await batch_until(client, made["id"], *ENDED)
    assert done["status"] == "completed"
    assert set(await rows(client, done["output_file_id"])) == {"good"}
    bad = await rows(client, done["error_file_id"])
    assert {name: told["response"]["body"]["error"]["code"] for name, told in bad.items()} == {
        "costly": "schema_too_large",
        "many": "too_many",
        "deep": "too_deep",
    }
