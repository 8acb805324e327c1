"""The OpenAPI description: closed like everything else, and every operation says what can go wrong."""

from __future__ import annotations

import httpx
from jsonschema import Draft202012Validator


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
