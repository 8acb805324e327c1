"""Lines of output.jsonl and errors.jsonl, in the form of OpenAI's batch API. One line per row."""

from __future__ import annotations

import time
from typing import Any

from local_fusion.batch.records import dump
from local_fusion.batch.rows import BadRow, Row
from local_fusion.errors import FusionError, LocalFusionError, UserError
from local_fusion.openai_api.reply import chat_completion, error_body, failed_models, short_id
from local_fusion.types import Fused

_BAD_REQUEST, _NO_ANSWER, _OUR_FAULT = 400, 503, 500
_REFUSALS = {"context_exceeded", "bad_request"}  # where only these were met, the row itself is wrong


def output_line(row: Row, fused: Fused) -> bytes:
    """A row with an answer: the body is a chat completion with the receipt under `fusion`."""
    body = chat_completion(fused, int(time.time()), row.request.metadata)
    return _line(row.line, row.id, _response(row, 200, body), None)


def failed_line(row: Row, problem: Exception) -> tuple[bytes, str]:
    """A row without any answer, and its error code. Only sentences made for users are repeated."""
    status = _OUR_FAULT
    code, message = "unexpected_error", f"the row failed with {type(problem).__name__}; this is a mistake of ours"
    if isinstance(problem, FusionError):
        refused = {failure.reason for failure in problem.failures} <= _REFUSALS and problem.failures
        status, code, message = _BAD_REQUEST if refused else _NO_ANSWER, problem.code, problem.message
    elif isinstance(problem, LocalFusionError):
        status = _BAD_REQUEST if isinstance(problem, UserError) else _NO_ANSWER
        code, message = _snake(type(problem).__name__), problem.message
    body = error_body(message, code, None, status)
    body["error"]["line"] = row.line
    if isinstance(problem, FusionError):
        body["fusion"] = {"status": "error", "failed_models": failed_models(problem.failures)}
    return _line(row.line, row.id, _response(row, status, body), None), code


def bad_line(row: BadRow) -> bytes:
    """A line that could not be run: a refused request (HTTP 400), or no request at all (`error`, no response)."""
    if row.read and row.owns_id:
        body = error_body(row.message, row.code, row.param, _BAD_REQUEST)
        body["error"]["line"] = row.line
        return _line(row.line, row.id, _response(row, _BAD_REQUEST, body), None)
    error = {"code": row.code, "message": row.message, "param": row.param, "line": row.line}
    return _line(row.line, row.id, None, error)


def _response(row: Row | BadRow, status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": f"req_{short_id(row.id, str(row.line))}", "body": body}


def _line(line: int, row_id: str, response: dict[str, Any] | None, error: dict[str, Any] | None) -> bytes:
    name = f"batch_req_{short_id(row_id, str(line), 'row')}"
    return dump({"id": name, "custom_id": row_id, "response": response, "error": error}) + b"\n"


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
