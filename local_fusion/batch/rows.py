"""Rows of an input: each line that is not blank becomes exactly one `Row` or one `BadRow`, whatever its bytes.

Four forms, told apart line by line: `{"id", "prompt"}`, `{"id", "messages"}`, OpenAI's batch line (`custom_id`,
`method`, `url`, `body`), and plain text, which is every line that does not begin with `{`. The first two also take
the fields of a chat completion body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.ids import IdSet, LineSet
from local_fusion.batch.lines import MAX_LINE_BYTES, read_lines
from local_fusion.batch.options import Ask
from local_fusion.errors import RequestError
from local_fusion.openai_api.request import FUSION_ALIAS, parse_chat
from local_fusion.types import Message, Request, Sampling

MAX_ID_CHARS = 512
CHAT_URL = "/v1/chat/completions"
_BATCH_KEYS = ("custom_id", "method", "url", "body")


@dataclass(frozen=True, slots=True)
class Row:
    """A request to run. `line` counts from 1."""

    line: int
    id: str
    request: Request


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that cannot be run. `owns_id` is False for a duplicate: the id is an earlier line's. `read`: it has an
    id of its own and was read as a request; False: the line is no request at all."""

    line: int
    id: str
    code: str
    message: str
    param: str | None = None
    owns_id: bool = True
    read: bool = True


@dataclass(frozen=True, slots=True)
class Terms:
    """What all rows of a run share: its fusion's name, the seed, the sampling of the final answer, the file's name.
    `ask`: makes the request of a chat body in another way (see `BatchOptions.ask`)."""

    fusion: str
    seed: int
    base: Sampling
    source: str
    ask: Ask | None = None


def read_rows(path: Path, terms: Terms, done: LineSet, ids: IdSet, limit: int | None = None) -> Iterator[Row | BadRow]:
    """Rows in the file's order that are not in `done`; `ids` holds the ids of those that are, and gets the others'.

    `limit` counts every row, done or not. Raises InputError where the file cannot be read.
    """
    for place, (line, raw) in enumerate(read_lines(path)):
        if limit is not None and place >= limit:
            return
        if line in done:
            continue
        row = read_row(line, raw, terms)
        if ids.add(row.id):
            yield row
        else:
            told = f"{terms.source} line {line}: the id {row.id!r} is an earlier line's; give every row its own id"
            yield BadRow(line, row.id, "duplicate_id", told, "id", owns_id=False)


def read_row(line: int, raw: bytes | None, terms: Terms) -> Row | BadRow:
    """One line, without its end (None: over the cap). Never raises; nothing of a prompt is in a message."""
    row_id = f"line-{line}"
    read = False
    try:
        if raw is None:
            raise RequestError(f"the line is over {MAX_LINE_BYTES >> 20} MiB; make it shorter", "line_too_long")
        if not raw.startswith(b"{"):
            return Row(line, row_id, _request(row_id, _plain_text(raw), terms))
        data = _object(raw)
        name = "custom_id" if any(key in data for key in _BATCH_KEYS) else "id"
        row_id = _row_id(data, name, row_id)
        read = True
        request = _batch_line(row_id, data, terms) if name == "custom_id" else _simple_row(row_id, data, terms)
        return Row(line, row_id, request)
    except RequestError as problem:
        told = f"{terms.source} line {line}: {problem.message}"
        return BadRow(line, row_id, problem.code, told, problem.param, read=read)


def _plain_text(raw: bytes) -> str:
    if raw.startswith(b"["):
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError:
            return _decoded(raw)
        raise RequestError('a JSON list is no row; write an object with "id" and "prompt"', "invalid_json")
    return _decoded(raw)


def _decoded(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise RequestError(f"byte {problem.start + 1} is not UTF-8; save the file as UTF-8", "invalid_utf8") from None
    if "\0" in text:
        raise RequestError("the line holds a NUL character; remove it", "nul_character")
    return text


def _object(raw: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as problem:
        _decoded(raw)
        raise RequestError(
            f"not JSON: {problem.msg} at character {problem.colno}; a line that begins with {{ must be a whole object",
            "invalid_json",
        ) from None
    if not isinstance(data, dict):
        raise RequestError("not a JSON object; write one object per line", "invalid_json")
    return data


def _row_id(data: Mapping[str, Any], name: str, default: str) -> str:
    """The row's id as text; a whole number is taken as its digits. Only `id` may be left out."""
    value = data.get(name)
    if value is None:
        if name == "custom_id":
            raise RequestError("custom_id is missing; give the row its own", "missing_field", name)
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID_CHARS or not value.isprintable():
        raise RequestError(
            f"{name} must be text of 1 to {MAX_ID_CHARS} printable characters, or a whole number", "invalid_field", name
        )
    return value


def _simple_row(row_id: str, data: dict[str, Any], terms: Terms) -> Request:
    data.pop("id", None)
    if "prompt" not in data:
        if "messages" not in data:
            raise RequestError('neither "prompt" nor "messages" is there; add one', "missing_field", "prompt")
        return _chat(row_id, data, terms)
    prompt = data.pop("prompt")
    if "messages" in data:
        raise RequestError('both "prompt" and "messages" are there; keep one', "invalid_field", "prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError("prompt must be text that is not blank", "invalid_field", "prompt")
    if "\0" in prompt:
        raise RequestError("prompt holds a NUL character; remove it", "nul_character", "prompt")
    if not data:
        return _request(row_id, prompt, terms)
    return _chat(row_id, data | {"messages": [{"role": "user", "content": prompt}]}, terms)


def _batch_line(row_id: str, data: Mapping[str, Any], terms: Terms) -> Request:
    for name in data:
        if name not in _BATCH_KEYS:
            raise RequestError(f"the field {name[:64]!r} is not supported; leave it out", "unknown_field", name[:64])
    if data.get("method") != "POST":
        raise RequestError('method must be "POST"', "invalid_field", "method")
    if data.get("url") != CHAT_URL:
        raise RequestError(f'url must be "{CHAT_URL}"', "invalid_field", "url")
    body = data.get("body")
    if not isinstance(body, dict):
        raise RequestError("body must be an object: a chat completion request", "invalid_field", "body")
    return _chat(row_id, body, terms)


def _chat(row_id: str, body: Mapping[str, Any], terms: Terms) -> Request:
    if terms.ask is not None:
        return terms.ask(row_id, body)
    chat = parse_chat(body)
    if chat.model is not None and chat.model not in (terms.fusion, FUSION_ALIAS):
        raise RequestError(
            f"this run is of the fusion {terms.fusion!r}, not {chat.model[:64]!r}; leave model out, "
            "or run the other rows in a batch of their own",
            "unknown_model",
            "model",
        )
    if chat.stream:
        raise RequestError("a batch does not stream; leave stream out", "unsupported_field", "stream")
    return chat.request(row_id, terms.seed, terms.base)


def _request(row_id: str, prompt: str, terms: Terms) -> Request:
    return Request(row_id, (Message("user", prompt),), terms.seed)
