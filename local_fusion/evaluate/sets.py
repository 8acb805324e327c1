"""Finds a set by file or name and reads it: JSONL (gz too), a JSON list, or parquet where pyarrow is installed.

Invariant: every item has an id of its own, and the same file gives the same items in the same order. Nothing is
fetched: a set that is not on this disk is a sentence that says where to put it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.lines import digest_file, read_lines
from local_fusion.errors import InputError
from local_fusion.evaluate.forms import Form, form_of
from local_fusion.evaluate.items import Item

SETS_VARIABLE = "LOCAL_FUSION_SETS"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")


@dataclass(frozen=True)
class EvalSet:
    """Items of one set; `digest`: sha256 of its file, or of what it was generated from."""

    name: str
    form: str
    items: tuple[Item, ...]
    digest: str

    def first(self, count: int | None) -> EvalSet:
        """The set cut to its first `count` items."""
        return self if count is None else replace(self, items=self.items[:count])


def find_set(name: str, folder: Path | None) -> Path:
    """The file that `name` means: a path, or a name in `folder` (None: in LOCAL_FUSION_SETS). Raises InputError."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    place = folder or (Path(os.environ[SETS_VARIABLE]).expanduser() if os.environ.get(SETS_VARIABLE) else None)
    if place is None:
        raise InputError(
            f"there is no file {name}; name a file of items, or put {name}.jsonl into a folder and give it with --sets "
            f"or {SETS_VARIABLE}"
        )
    if not place.is_dir():
        raise InputError(f"{place} is no folder; give the folder of your sets with --sets or {SETS_VARIABLE}")
    for stem in (name, f"{name}/test", f"{name}/{name}", f"{name}/question"):
        for suffix in SUFFIXES:
            if (place / f"{stem}{suffix}").is_file():
                return place / f"{stem}{suffix}"
    there = sorted({entry.name.split(".")[0] for entry in place.iterdir() if not entry.name.startswith(".")})
    raise InputError(f"{place} holds no set {name!r}; there are: {', '.join(there) or 'none'}")


def read_set(path: Path, baseline: Path | None = None) -> EvalSet:
    """Read a whole file. `baseline`: answers to beat, in Arena-Hard's or MT-Bench's answer form. Raises InputError."""
    form: Form | None = None
    items: dict[str, Item] = {}
    for line, row in _rows(path):
        try:
            form = form or form_of(row)
            item = form.read(row, line)
        except InputError as problem:
            raise InputError(f"{path.name} line {line}: {problem.message}") from None
        except (KeyError, ValueError, TypeError, AttributeError, IndexError):
            raise InputError(f"{path.name} line {line}: not a row of the form {form.name if form else '?'}") from None
        if not item.id.isprintable() or "/" in item.id:
            item = replace(item, id=_safe(item.id))
        if item.id in items:
            raise InputError(f"{path.name} line {line}: the id {item.id!r} is an earlier line's; give each its own")
        items[item.id] = item
    if form is None:
        raise InputError(f"{path} has no items; write one JSON object per line")
    digest = digest_file(path)
    if baseline is not None:
        items = _with_baseline(items, baseline)
        digest = hashlib.sha256((digest + digest_file(baseline)).encode()).hexdigest()
    return EvalSet(path.name.split(".")[0], form.name, tuple(items.values()), digest)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    if path.name.endswith(".json"):
        yield from _json_list(path)
        return
    for line, raw in read_lines(path):
        if raw is None:
            raise InputError(f"{path.name} line {line}: the line is too long")
        try:
            row = orjson.loads(raw)
        except orjson.JSONDecodeError as problem:
            raise InputError(f"{path.name} line {line}: not JSON: {problem.msg}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path.name} line {line}: not a JSON object")
        yield line, row


def _json_list(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        rows = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as problem:
        raise InputError(f"{path} is not JSON: {problem.msg}; a file of one object per line is called .jsonl") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} is not a JSON list of objects")
    yield from enumerate(rows, 1)


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(
            f"{path} is parquet, which needs the package pyarrow: install it, or write the file as JSONL "
            "(python -c \"import pandas, sys; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient='records', "
            'lines=True)" FILE.parquet FILE.jsonl)'
        ) from None
    line = 0
    for group in parquet.ParquetFile(path).iter_batches():
        for row in group.to_pylist():
            line += 1
            yield line, row


def _with_baseline(items: Mapping[str, Item], path: Path) -> dict[str, Item]:
    """The items with the answer to beat: `uid` + `messages`, or `question_id` + `choices` of `turns`."""
    answers: dict[str, str] = {}
    for line, row in _rows(path):
        name = str(row.get("uid") or row.get("question_id") or row.get("id") or "")
        text = _answer_text(row)
        if not name or text is None:
            raise InputError(f"{path.name} line {line}: not an answer: `uid` and `messages`, or `id` and `answer`")
        answers[name] = text
    joined = {}
    for name, item in items.items():
        found = answers.get(name) or answers.get(name.split("-", 1)[-1]) or answers.get(name.removeprefix("mt-bench-"))
        joined[name] = (
            item if found is None else replace(item, match="pair", details={**item.details, "baseline": found})
        )
    if not any("baseline" in item.details for item in joined.values()):
        raise InputError(f"{path} answers none of the items; is it the answer file of another set?")
    return joined


def _answer_text(row: Mapping[str, Any]) -> str | None:
    """The last text of a published answer row, or None."""
    if isinstance(row.get("answer"), str):
        return str(row["answer"])
    if isinstance(row.get("messages"), list) and row["messages"]:
        said: Any = row["messages"][-1]
        said = said.get("content") if isinstance(said, Mapping) else None
        said = said.get("answer") if isinstance(said, Mapping) else said
        return said if isinstance(said, str) else None
    choices = row.get("choices")
    turns: Any = choices[0].get("turns") if isinstance(choices, list) and choices else None
    last = turns[-1] if isinstance(turns, Sequence) and turns and not isinstance(turns, str) else None
    last = last.get("content") if isinstance(last, Mapping) else last
    return last if isinstance(last, str) else None


def _safe(name: str) -> str:
    plain = "".join(letter if letter.isprintable() and letter != "/" else "-" for letter in name)
    return f"{plain[:80]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
