"""Log lines: one per request, with an id, without a word of what was asked or answered."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from local_fusion.server.watch.logs import LibraryHandler, log, tame_libraries

SECRET = "xylophone"
router = APIRouter()


@router.get("/breaks")
async def breaks(request: Request) -> None:
    raise ValueError(f"cannot read {SECRET}")


@router.get("/breaks/late")
async def breaks_late(request: Request) -> StreamingResponse:
    async def body() -> Any:
        yield b"begun"
        raise ValueError(f"cannot read {SECRET}")

    return StreamingResponse(body())


@pytest.fixture
def lines() -> Iterator[Any]:
    """Gives the lines written since it was called last."""
    output = io.BytesIO()

    def read() -> list[dict[str, Any]]:
        written = output.getvalue()
        output.seek(0)
        output.truncate()
        return [json.loads(line) for line in written.splitlines()]

    log.configure("json", output)
    yield read
    log.configure("off")


def chat(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": SECRET}], **more}


async def test_a_request_is_one_line_without_its_content(client: httpx.AsyncClient, lines: Any) -> None:
    for body in (chat(), chat(stream=True)):
        answer = await client.post(f"/v1/chat/completions?debug={SECRET}", json=body)
        found = lines()
        assert len(found) == 1
        line = found[0]
        assert SECRET not in json.dumps(line)
        assert line["event"] == "request"
        assert line["request_id"] == answer.headers["x-request-id"]
        assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/chat/completions", 200)
        assert (line["key"], line["model"], line["level"]) == ("local", "team", "info")
        assert line["tokens"] > 0
        assert line["seconds"] >= 0
        assert line["timestamp"].endswith("Z")


async def test_a_request_id_is_taken_over_if_it_is_one(client: httpx.AsyncClient, lines: Any) -> None:
    answer = await client.get("/v1/models", headers={"x-request-id": "mine-42_A"})
    assert answer.headers["x-request-id"] == "mine-42_A"
    assert lines()[0]["request_id"] == "mine-42_A"
    for bad in ("a b", "x" * 129, 'x"y', ""):
        answer = await client.get("/v1/models", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"].startswith("req_")
    first, second = [(await client.get("/version")).headers["x-request-id"] for _ in range(2)]
    assert first != second


async def test_errors_keep_the_request_id_and_echo_nothing(client: httpx.AsyncClient, lines: Any) -> None:
    answer = await client.post("/v1/chat/completions", json=chat(temperature=SECRET))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temperature"
    assert SECRET not in answer.text
    assert answer.headers["x-request-id"]
    assert SECRET not in json.dumps(lines())


async def test_an_error_nobody_expected_is_a_500_without_details(client: httpx.AsyncClient, lines: Any) -> None:
    client._transport.app.include_router(router)  # type: ignore[attr-defined]
    answer = await client.get("/breaks")
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"]
    assert SECRET not in answer.text
    failed, request = lines()
    assert failed["event"] == "request_failed"
    assert failed["error"] == request["error"] == "ValueError"
    assert failed["place"].startswith("test_logs.py:")
    assert failed["request_id"] == request["request_id"] == answer.headers["x-request-id"]
    assert SECRET not in json.dumps([failed, request])


async def test_libraries_say_no_more_than_types(lines: Any) -> None:
    before = {name: logging.getLogger(name).handlers for name in ("uvicorn.error", "uvicorn", "asyncio")}
    tame_libraries()
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as problem:
            logging.getLogger("uvicorn.error").error("it %s", SECRET, exc_info=problem)
        logging.getLogger("asyncio").warning("took %s\n" + SECRET, SECRET)
        logging.getLogger("multipart").warning(f"cannot parse {SECRET}")
    finally:
        for name, handlers in before.items():
            logging.getLogger(name).handlers = handlers
            logging.getLogger(name).propagate = True
        root = logging.getLogger()
        root.handlers = [handler for handler in root.handlers if not isinstance(handler, LibraryHandler)]
    found = lines()
    assert [line["event"] for line in found] == ["library_error", "library_warning", "library_warning"]
    assert (found[1]["words"], found[2]["words"]) == ("took %s", "")
    assert SECRET not in json.dumps(found)
