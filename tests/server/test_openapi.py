"""The OpenAPI description: closed like everything else, and every operation says what can go wrong."""

from __future__ import annotations

import re

import httpx
from jsonschema import Draft202012Validator

from tests.server.test_batches import begin, line


async def test_every_operation_declares_its_errors(client: httpx.AsyncClient) -> None:
    found = (await client.get("/openapi.json")).json()
    assert found["openapi"].startswith("3.1")
    assert {"/v1/chat/completions", "/v1/models", "/health/ready", "/metrics"} <= set(found["paths"])
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            place = f"{method} {path}"
            responses = operation["responses"]
            assert "422" not in responses, place
            assert {"401", "403", "500"} <= set(responses), place
            assert operation["summary"], place
            if method == "post":
                assert "413" in responses, place
            for status, response in responses.items():
                assert status == "200" or response["description"], place
            for content in operation.get("requestBody", {}).get("content", {}).values():
                Draft202012Validator.check_schema(content["schema"])


async def test_every_request_body_is_described(client: httpx.AsyncClient) -> None:
    found = (await client.get("/openapi.json")).json()
    silent = [
        path
        for path, operations in found["paths"].items()
        for method, operation in operations.items()
        if method == "post" and "requestBody" not in operation and not path.endswith("/cancel")
    ]
    assert silent == []


async def test_a_refused_method_is_told_all_that_the_address_takes(client: httpx.AsyncClient) -> None:
    for path, methods in (
        ("/v1/files", "GET, POST"),
        ("/v1/files/file-0", "DELETE, GET"),
        ("/v1/responses/resp_0", "DELETE, GET"),
        ("/metrics", "GET"),
    ):
        answer = await client.put(path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == methods
        assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_ids_are_described_as_they_are_made(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    batch = await begin(client, [line("one")])
    response = (await client.post("/v1/responses", json={"model": "team", "input": "2+2?"})).json()
    for path, made in (
        ("/v1/files/{file_id}", batch["input_file_id"]),
        ("/v1/batches/{batch_id}", batch["id"]),
        ("/v1/responses/{response_id}", response["id"]),
    ):
        described = paths[path]["get"]["parameters"][0]
        assert described["in"] == "path"
        assert re.search(described["schema"]["pattern"], made)
    assert (await client.get("/v1/files/no-such-form")).status_code == 404
