"""Schemathesis against a live server: right and wrong data on every route of its own OpenAPI description.

Invariant looked for: no 5xx but the declared 503 and 504, no error body above 64 KB, no word of the prompt repeated.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.test_serve import served

CLIENTS = Path(__file__).parents[2] / ".venv-clients" / "bin"
MOST_BYTES = 64 * 1024
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CLIENTS / "schemathesis").exists(),
        reason="no .venv-clients with schemathesis (deploy/clients.sh makes it)",
    ),
]


CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


def fuzz(url: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Send data to the routes of a server; each exchange as it was recorded. Fails where Schemathesis objects."""
    record = folder / "record.ndjson"
    command = [str(CLIENTS / "schemathesis"), "run", f"{url}/openapi.json", "--seed", "1", "--no-shrink"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(record), "--continue-on-failure"]
    command += ["--request-timeout", "30", "--warnings", "off", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    scenarios = [line["ScenarioFinished"]["recorder"] for line in lines if "ScenarioFinished" in line]
    return [
        {"label": scenario["label"]} | exchange
        for scenario in scenarios
        for exchange in scenario["interactions"].values()
        if exchange["response"] is not None
    ]


def examine(exchanges: list[dict[str, Any]]) -> None:
    """No error but declared ones, none of them long, none repeating a text of the request."""
    for exchange in exchanges:
        response, label = exchange["response"], exchange["label"]
        status = response["status_code"]
        assert status < 500 or status in (503, 504), (label, status)
        if status < 400:
            continue
        body = _bytes(response.get("content"))
        assert len(body) < MOST_BYTES, (label, status, len(body))
        assert b"Traceback" not in body, label
        for text in _texts(_bytes(exchange["request"].get("body"))):
            assert text not in body, (label, status, text)


def _bytes(content: Any) -> bytes:
    return base64.b64decode(content["$base64"]) if isinstance(content, dict) else b""


def _texts(raw: bytes) -> list[bytes]:
    """Texts of a request long enough not to be found in an error by chance."""
    try:
        return [word.encode() for word in _strings(json.loads(raw)) if len(word) >= 8]
    except (ValueError, UnicodeError):
        return []


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name in ("content", "text", "prompt", "input", "instructions", "right_answer", "comment"):
            if isinstance(value.get(name), str):
                yield value[name]
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def test_random_data_on_every_route(tmp_path: Path) -> None:
    with served(tmp_path, "--log-format", "off") as (process, url):
        checks = ("--checks", ",".join(CHECKS), "--phases", "fuzzing,stateful", "--max-examples", "15")
        found = fuzz(url, tmp_path, *checks)
        routes = {
            f"{method.upper()} {path}"
            for path, operations in httpx.get(f"{url}/openapi.json").json()["paths"].items()
            for method in operations
        }
        assert process.poll() is None
    assert routes - {"GET /openapi.json"} <= {exchange["label"] for exchange in found}  # which it reads by itself
    assert len(found) > 100
    examine(found)


def test_each_constraint_broken_on_purpose(tmp_path: Path) -> None:
    """Not all of them fit into the time; that those which were sent are answered well is what counts."""
    with served(tmp_path, "--log-format", "off") as (process, url):
        checks = ("--checks", "not_a_server_error", "--phases", "coverage", "--max-time", "20", "-m", "negative")
        found = fuzz(url, tmp_path, *checks)
        assert process.poll() is None
    assert len(found) > 100
    examine(found)
