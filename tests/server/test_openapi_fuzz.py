"""Schemathesis against a live server: right and wrong data on every operation of its own OpenAPI description.

Invariant looked for: no status and no content type but declared ones, no 5xx but 503 and 504, no error body above
64 KB, no word of the prompt repeated.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

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
    "response_headers_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
)
EXAMPLES, OTHER_METHODS = 20, 5
"""Refusals of an operation at least: of wrong data, and of methods that are not for its address."""


def operations(url: str) -> dict[str, dict[str, Any]]:
    """What the server describes, by method and path."""
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    return {
        f"{method.upper()} {path}": operation
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def fuzz(url: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """Send data to the operations of a server; each exchange as it was recorded. Fails where Schemathesis objects."""
    description, record = folder / "openapi.json", folder / "record.ndjson"
    description.write_bytes(httpx.get(f"{url}/openapi.json").content)  # from a file: of an address it leaves that out
    command = [str(CLIENTS / "schemathesis"), "run", str(description), "--url", url, "--seed", "1", "--no-shrink"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(record), "--output-sanitize", "false"]
    command += ["--checks", ",".join(CHECKS), "--continue-on-failure", "--request-timeout", "30", "--warnings", "off"]
    done = subprocess.run([*command, *options], cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    scenarios = [line["ScenarioFinished"]["recorder"] for line in lines if "ScenarioFinished" in line]
    return [
        {"label": scenario["label"], "mode": _mode(scenario["cases"][name])} | exchange
        for scenario in scenarios
        for name, exchange in scenario.get("interactions", {}).items()
        if exchange["response"] is not None
    ]


def _mode(case: dict[str, Any]) -> str | None:
    """Whether this was to be right (positive) or wrong (negative)."""
    meta = case["value"].get("meta") or {}
    mode: str | None = meta.get("generation", {}).get("mode")
    return mode


def examine(exchanges: list[dict[str, Any]]) -> None:
    """No error but declared ones, none of them long, none repeating a text of the request."""
    for exchange in exchanges:
        response, label = exchange["response"], exchange["label"]
        status = response["status_code"]
        assert status < 500 or status in (503, 504), (label, status)
        if status < 400:
            continue
        body = _bytes(response.get("content"))
        assert [str(len(body))] == response["headers"]["content-length"], label  # recorded whole
        assert len(body) < MOST_BYTES, (label, status, len(body))
        assert json.loads(body)["error"]["message"], label
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


def can_be_wrong(operation: dict[str, Any]) -> bool:
    """Whether it takes anything but free text."""
    free = ({"type": "string"}, {"type": "string", "title": "Name"})
    return "requestBody" in operation or any(one["schema"] not in free for one in operation.get("parameters", ()))


def counted(url: str) -> Counter[tuple[str, str]]:
    """Requests by operation and status, as the server itself counts them."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    found: Counter[tuple[str, str]] = Counter()
    for sample in (sample for family in families for sample in family.samples):
        if sample.name == "local_fusion_requests_total":
            labels = sample.labels
            route = labels["route"].replace(":path}", "}")
            found[f"{labels['method']} {route}", labels["status"]] += int(sample.value)
    return found


def test_random_data_on_every_operation(tmp_path: Path) -> None:
    with served(tmp_path, "--log-format", "off") as (process, url):
        found = fuzz(url, tmp_path, "--phases", "fuzzing,stateful", "--max-examples", "15")
        described = operations(url)
        assert process.poll() is None
    assert set(described) <= {exchange["label"] for exchange in found}
    assert {"positive", "negative"} <= {exchange["mode"] for exchange in found}
    examine(found)


def test_wrong_data_on_every_operation(tmp_path: Path) -> None:
    """Each constraint of each operation broken on purpose, then as many of them at random."""
    with served(tmp_path, "--log-format", "off") as (process, url):
        found = fuzz(url, tmp_path, "--phases", "coverage,fuzzing", "-m", "negative", "--max-examples", str(EXAMPLES))
        described, counts = operations(url), counted(url)
        assert process.poll() is None
    assert {exchange["mode"] for exchange in found} == {"negative"}
    refused = Counter(one["label"] for one in found if 400 <= one["response"]["status_code"] < 500)
    for label, operation in described.items():
        assert refused[label] >= (EXAMPLES if can_be_wrong(operation) else OTHER_METHODS), label
    assert set(described) <= {operation for operation, _ in counts}
    assert {status for _, status in counts if status >= "500"} <= {"503", "504"}
    assert counts.total() >= len(found) > 2000
    examine(found)
