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
WHOLE, SPLITS = ("test", "question"), ("train", "validation")
"""Names of files that say which part of a set they hold, and not which set."""


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
    there = sorted({_stem(entry.name) for entry in place.iterdir() if not entry.name.startswith(".")})
    raise InputError(f"{place} holds no set {name!r}; there are: {', '.join(there) or 'none'}")


def name_of(path: Path) -> str:
    """What a file's set is called: as the file, or as its folder where the file says only which part it holds. Parts
    that are not the one to ask keep their own names behind it, so that none takes the place of another."""
    stem, folder = _stem(path.name), Path(os.path.abspath(path)).parent.name
    if not folder or stem not in (*WHOLE, *SPLITS):
        return stem
    return folder if stem in WHOLE else f"{folder}-{stem}"


def _stem(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


def read_set(path: Path, baseline: Path | None = None, limit: int | None = None) -> EvalSet:
    """Read a whole file, and of that the first `limit` items. `baseline`: answers to beat, one to every item, in
    Arena-Hard's or MT-Bench's answer form. Raises InputError."""
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
        digest = hashlib.sha256((digest + digest_file(baseline)).encode()).hexdigest()
    found = EvalSet(name_of(path), form.name, tuple(items.values()), digest).first(limit)
    if baseline is not None:
        found = replace(found, items=_with_baseline(found.items, baseline))
    _check_pairs(found.items, path)
    return found


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


def _with_baseline(items: Sequence[Item], path: Path) -> tuple[Item, ...]:
    """The items with the answers to beat, a text per turn: `uid` + `messages`, or `question_id` + `choices` of
    `turns`."""
    answers: dict[str, tuple[str, ...]] = {}
    for line, row in _rows(path):
        name = str(row.get("uid") or row.get("question_id") or row.get("id") or "")
        texts = _answer_texts(row)
        if not name or not texts:
            raise InputError(f"{path.name} line {line}: not an answer: `uid` and `messages`, or `id` and `answer`")
        if name in answers:
            raise InputError(f"{path.name} line {line}: {name!r} is answered on an earlier line too; keep one of them")
        answers[name] = texts
    joined, lacking = [], 0
    for item in items:
        found = (
            answers.get(item.id)
            or answers.get(item.id.split("-", 1)[-1])
            or answers.get(item.id.removeprefix("mt-bench-"))
        )
        if found is None:
            lacking += 1
        else:
            joined.append(replace(item, match="pair", details={**item.details, "baseline": found}))
    if not joined:
        raise InputError(f"{path} answers none of the items; is it the answer file of another set?")
    if lacking:
        raise InputError(
            f"{path} answers only {len(joined)} of {len(items)} items, and the others would be graded in another way; "
            "give answers to all, or take those items out of the set"
        )
    return tuple(joined)


def _check_pairs(items: Sequence[Item], path: Path) -> None:
    """Every answer to beat has as many turns as its item, and either all pairs have one or none has."""
    pairs = [item for item in items if item.match == "pair"]
    known = [item for item in pairs if "baseline" in item.details]
    if known and len(known) < len(pairs):
        raise InputError(
            f"{path}: {len(known)} of {len(pairs)} items to compare in pairs have an answer to beat; give all one, or "
            "none, and they are held against the first member"
        )
    for item in known:
        turns, answered = 1 + len(item.then), len(item.details["baseline"])
        if turns != answered:
            raise InputError(
                f"{path}: item {item.id} has {turns} turns and the answer to beat {answered}; give a text for each turn"
            )


def _answer_texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The texts of a published answer row, turn by turn; empty where it is none."""
    if isinstance(row.get("answer"), str):
        return (str(row["answer"]),)
    messages, choices = row.get("messages"), row.get("choices")
    said: Any = ()
    if isinstance(messages, list) and messages:
        turns = [turn for turn in messages if isinstance(turn, Mapping)]
        said = [turn.get("content") for turn in turns if turn.get("role", "assistant") == "assistant"]
    elif isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        said = choices[0].get("turns")
    if not isinstance(said, list):
        return ()
    texts = [_plain_text(one) for one in said]
    return tuple(text for text in texts if text is not None) if None not in texts else ()


def _plain_text(said: Any) -> str | None:
    """A text, or the one inside `{"answer": …}` or `{"content": …}`; None where there is none."""
    if isinstance(said, Mapping):
        said = said.get("answer", said.get("content"))
    return said if isinstance(said, str) else None


def _safe(name: str) -> str:
    plain = "".join(letter if letter.isprintable() and letter != "/" else "-" for letter in name)
    return f"{plain[:80]}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
