"""Checks a batch's input line by line before any row is run.

What is wrong with a line itself (no JSON, no id of its own, an unknown model) fails the whole batch, as with OpenAI;
what is wrong within a body becomes that row's error. Memory does not grow with the input, but for ids (16 bytes each).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.ids import IdSet
from local_fusion.batch.lines import MAX_LINE_BYTES, read_lines
from local_fusion.batch.rows import MAX_ID_CHARS
from local_fusion.errors import InputError, RequestError
from local_fusion.server.batches.record import Problem
from local_fusion.server.documents.place import references

MAX_PROBLEMS = 100
_KEYS = {"custom_id", "method", "url", "body"}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one batch: rows, bytes of its input once unpacked, and of each line."""

    lines: int
    size_bytes: int
    line_bytes: int = MAX_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Validated:
    """`models`: what rows name, resolved, in order; `file_ids`: files that bodies refer to."""

    models: tuple[str, ...]
    rows: int
    file_ids: tuple[str, ...]
    problems: tuple[Problem, ...]


def validate(source: Path, endpoint: str, known: Callable[[str | None], str | None], limits: Limits) -> Validated:
    """Read `source` through. `known`: what a model's name stands for, None where it is none."""
    reader = _Reader(endpoint, known, min(limits.line_bytes, MAX_LINE_BYTES))
    size = 0
    try:
        for line, raw in read_lines(source):
            size += len(raw or b"")
            if reader.rows >= limits.lines:
                reader.refuse(line, "too_many_tasks", f"a batch has at most {limits.lines} lines; split it")
                break
            if size > limits.size_bytes:
                reader.refuse(line, "batch_too_large", f"a batch has at most {limits.size_bytes} bytes; split it")
                break
            reader.line(line, raw)
            if len(reader.problems) >= MAX_PROBLEMS:
                break
    except InputError:
        reader.refuse(None, "unreadable_file", "the file cannot be read; upload it again")
    if not reader.rows and not reader.problems:
        reader.refuse(None, "empty_file", "the file has no lines; write one request per line")
    return Validated(tuple(reader.models), reader.rows, tuple(reader.file_ids), tuple(reader.problems))


class _Reader:
    """What has been seen so far."""

    def __init__(self, endpoint: str, known: Callable[[str | None], str | None], line_bytes: int) -> None:
        self.rows = 0
        self.models: dict[str, None] = {}
        self.file_ids: dict[str, None] = {}
        self.problems: list[Problem] = []
        self._endpoint, self._known, self._line_bytes = endpoint, known, line_bytes
        self._ids = IdSet()

    def line(self, line: int, raw: bytes | None) -> None:
        """Take one line."""
        self.rows += 1
        try:
            body = self._checked(raw)
        except RequestError as problem:
            self.refuse(line, problem.code, problem.message, problem.param)
            return
        with contextlib.suppress(RequestError):  # a broken reference is that row's error
            for reference in references(body.get("messages")):
                if reference.file_id is not None:
                    self.file_ids[reference.file_id] = None

    def refuse(self, line: int | None, code: str, message: str, param: str | None = None) -> None:
        """Note a problem."""
        self.problems.append(Problem(code, message, line, param))

    def _checked(self, raw: bytes | None) -> dict[str, Any]:
        if raw is None or len(raw) > self._line_bytes:
            raise RequestError(f"the line is over {self._line_bytes} bytes; make it shorter", "line_too_long")
        try:
            data = orjson.loads(raw)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            raise RequestError("the line is not a JSON object", "invalid_json_line")
        for name in ("custom_id", "method", "url", "body"):
            if data.get(name) is None:
                raise RequestError(f"{name} is missing; add it", "missing_required_parameter", name)
        if set(data) != _KEYS:
            raise RequestError("a line has custom_id, method, url and body only", "unknown_field")
        self._check_id(data["custom_id"])
        if data["method"] != "POST":
            raise RequestError("method must be POST", "invalid_method", "method")
        if data["url"] != self._endpoint:
            raise RequestError(f"url must be {self._endpoint}, as the batch says", "invalid_url", "url")
        return self._body(data["body"])

    def _check_id(self, row_id: Any) -> None:
        if not isinstance(row_id, str) or not 0 < len(row_id) <= MAX_ID_CHARS or not row_id.isprintable():
            raise RequestError(
                f"custom_id must be text of 1 to {MAX_ID_CHARS} printable characters", "invalid_field", "custom_id"
            )
        if not self._ids.add(row_id):
            raise RequestError("custom_id is an earlier line's; give every line its own", "duplicate_custom_id")

    def _body(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise RequestError("body must be an object: a chat completion request", "invalid_field", "body")
        model = body.get("model")
        name = self._known(model) if model is None or isinstance(model, str) else None
        if name is None:
            raise RequestError("body.model names nothing that is served to this key", "model_not_found", "body.model")
        self.models[name] = None
        return body
