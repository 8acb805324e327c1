"""Rows of the published sets, read into items. Fields are those of the published files; a row of another form is a
sentence that names the field.

| set | fields | graded by |
|---|---|---|
| GSM8K | `question`, `answer` (ends `#### 42`) | number |
| MMLU-Pro | `question_id`, `question`, `options` (up to 10), `answer` (letter), `answer_index`, `category` | choice |
| IFEval | `key`, `prompt`, `instruction_id_list`, `kwargs` (one object per instruction) | instructions, all must hold |
| HumanEval | `task_id`, `prompt`, `test`, `entry_point` (`canonical_solution` is not read) | code |
| MT-Bench | `question_id`, `category`, `turns` (two), `reference` (optional, one per turn) | points by the judge |
| Arena-Hard | `uid`, `category`, `prompt`; older: `question_id`, `turns` of `{content}` | pair against a baseline |
| DRACO | `id`, `domain`, `problem`, `answer` (JSON: `sections` of `criteria`: `id`, `weight`, `requirement`) | rubric |
| own | `id`, `prompt` or `messages`, `match`, `expected`, and what `match` needs (see `own_row`) | `match` |

A row with `match` beside `prompt` or `messages` is an own one, whatever other fields it has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.errors import InputError
from local_fusion.evaluate.items import JUDGED, MATCHES, Item
from local_fusion.types import Message

Row = Mapping[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_GSM8K = (
    "{question}\n\nThink step by step. End with a line that holds nothing but four number signs and the number: #### 0"
)
_MMLU = "{question}\n\n{options}\n\nThink step by step, then finish with: The answer is (X)."
_HUMAN_EVAL = (
    "Complete this Python function. Reply with the whole function, imports included, in one code block.\n\n"
    "```python\n{prompt}\n```"
)


@dataclass(frozen=True, slots=True)
class Form:
    """How one set is written: recognised by its fields, read row by row."""

    name: str
    fields: frozenset[str]
    read: Callable[[Row, int], Item]


def gsm8k_row(row: Row, line: int) -> Item:
    """`question`, `answer`; the number stands after `####`."""
    said = text_of(row, "answer")
    number = said.rpartition("####")[2].strip()
    if "####" not in said or not number:
        raise InputError("answer has no `#### NUMBER` at its end")
    prompt = _GSM8K.format(question=text_of(row, "question"))
    return Item(f"gsm8k-{line}", user(prompt), "number", number.replace(",", ""))


def mmlu_pro_row(row: Row, line: int) -> Item:
    """`question`, `options`, `answer` (a letter) or `answer_index`; options "N/A" are padding."""
    options = [str(option) for option in list_of(row, "options") if str(option) != "N/A"]
    letter = str(row.get("answer") or LETTERS[int(row["answer_index"])]).strip().upper()
    if not 2 <= len(options) <= len(LETTERS) or letter not in LETTERS[: len(options)]:
        raise InputError("answer is not the letter of one of the options")
    listed = "\n".join(f"({LETTERS[place]}) {option}" for place, option in enumerate(options))
    prompt = _MMLU.format(question=text_of(row, "question"), options=listed)
    name = f"mmlu-pro-{row.get('question_id', line)}"
    return Item(name, user(prompt), "choice", letter, {"options": len(options)}, kind=str(row.get("category", "")))


def ifeval_row(row: Row, line: int) -> Item:
    """`key`, `prompt`, `instruction_id_list`, `kwargs`: absent and null arguments are the same."""
    names = [str(name) for name in list_of(row, "instruction_id_list")]
    arguments = list(row.get("kwargs") or [{} for _ in names])
    if len(arguments) != len(names):
        raise InputError("kwargs and instruction_id_list differ in length")
    rules = [
        {"id": name, "arguments": {key: value for key, value in (given or {}).items() if value is not None}}
        for name, given in zip(names, arguments, strict=True)
    ]
    return Item(f"ifeval-{row.get('key', line)}", user(text_of(row, "prompt")), "instructions", rules, kind=names[0])


def human_eval_row(row: Row, line: int) -> Item:
    """`task_id`, `prompt`, `test` (defines `check(candidate)`), `entry_point`."""
    prompt = text_of(row, "prompt")
    details = {"prompt": prompt, "entry_point": text_of(row, "entry_point")}
    task = str(row.get("task_id", f"HumanEval-{line}")).replace("/", "-")
    return Item(task, user(_HUMAN_EVAL.format(prompt=prompt.rstrip())), "code", text_of(row, "test"), details)


def mt_bench_row(row: Row, line: int) -> Item:
    """`question_id`, `category`, `turns`, `reference`."""
    first, *then = [str(turn) for turn in list_of(row, "turns")]
    references = _references(list_of(row, "reference")) if row.get("reference") else []
    name, kind = f"mt-bench-{row.get('question_id', line)}", str(row.get("category", ""))
    return Item(name, user(first), "points", references, then=tuple(then), kind=kind)


def arena_hard_row(row: Row, line: int) -> Item:
    """`uid` and `prompt`, or `question_id` and `turns` of `{content}`; the answer to beat is in another file."""
    prompt: Any = row.get("prompt")
    if prompt is None:
        turns = list_of(row, "turns")
        prompt = turns[0].get("content") if isinstance(turns[0], Mapping) else None
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError("prompt is missing")
    name = str(row.get("uid") or row.get("question_id") or line)
    return Item(f"arena-{name}", user(prompt), "pair", kind=str(row.get("category") or row.get("cluster") or ""))


def draco_row(row: Row, line: int) -> Item:
    """`id`, `domain`, `problem`, `answer`: the rubric as JSON text (or as an object), sections possibly nested."""
    rubric = row.get("answer")
    try:
        loaded: Any = json.loads(rubric) if isinstance(rubric, str) else rubric
        criteria = list(_criteria(loaded["sections"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError("answer is not a rubric: a JSON object with `sections` of `criteria`") from None
    name = f"draco-{row.get('id', line)}"
    return Item(name, user(text_of(row, "problem")), "rubric", criteria, kind=str(row.get("domain", "")))


def own_row(row: Row, line: int) -> Item:
    """`id`, `prompt` or `messages` (`role`, `content`), `match` one of MATCHES, `expected`, `then` (more user turns),
    `kind`.

    `expected` by `match`: exact: text or a list of texts; number: a number; choice: a letter; regex: a pattern that
    must be found; json: a value to equal, or with `schema: true` a JSON schema to keep; instructions: a list of
    `{"id", "arguments"}`; code: Python that defines `check(candidate)`, with `entry_point`; rubric: a list of
    `{"weight", "requirement"}`; points: a reference answer or none; pair: the answer to beat, or a list of one per
    turn. Without `match`: number where `expected` is one, else exact; points where nothing is expected.
    """
    expected = row.get("expected")
    match = row.get("match") or _match_of(expected)
    if match not in MATCHES or match == "given":
        raise InputError(f"match must be one of {', '.join(name for name in MATCHES if name != 'given')}")
    if expected is None and match not in JUDGED:
        raise InputError(f"expected is missing; match {match} needs it")
    details = {key: row[key] for key in ("entry_point", "schema", "options") if key in row}
    if match == "code":
        details = {"prompt": "", "entry_point": text_of(row, "entry_point")}
    if match == "pair" and expected is not None:
        details["baseline"] = tuple(str(text) for text in (expected if _is_list(expected) else [expected]))
    if match == "points":
        expected = [] if expected is None else _references(expected if _is_list(expected) else [expected])
    if match == "instructions":
        expected = [_rule(one) for one in list_of(row, "expected")]
    if match == "rubric":
        expected = list(_criteria([{"criteria": list_of(row, "expected")}]))
    then = () if row.get("then") is None else tuple(str(turn) for turn in list_of(row, "then"))
    return Item(
        str(row.get("id", f"line-{line}")), _messages(row), match, expected, details, then, str(row.get("kind", ""))
    )


FORMS: tuple[Form, ...] = (
    Form("ifeval", frozenset({"prompt", "instruction_id_list"}), ifeval_row),
    Form("humaneval", frozenset({"prompt", "test", "entry_point"}), human_eval_row),
    Form("draco", frozenset({"problem", "answer"}), draco_row),
    Form("mmlu-pro", frozenset({"question", "options"}), mmlu_pro_row),
    Form("gsm8k", frozenset({"question", "answer"}), gsm8k_row),
    Form("arena-hard", frozenset({"uid", "prompt"}), arena_hard_row),
    Form("mt-bench", frozenset({"question_id", "turns"}), mt_bench_row),
    Form("own", frozenset({"prompt"}), own_row),
    Form("own", frozenset({"messages"}), own_row),
)
"""The first whose fields a row has is how the file is written; where it has `match`, the own ones come first."""


def form_of(row: Row) -> Form:
    """The form a row is written in. Raises InputError where it is none that is known."""
    for form in sorted(FORMS, key=lambda form: form.name != "own") if row.get("match") else FORMS:
        if form.fields <= row.keys():
            if form.name == "mt-bench" and isinstance(row["turns"], Sequence) and _holds_objects(row["turns"]):
                return next(other for other in FORMS if other.name == "arena-hard")
            return form
    known = "; ".join(f"{form.name}: {', '.join(sorted(form.fields))}" for form in FORMS)
    raise InputError(f"its fields are those of no set that is known ({known})")


def user(prompt: str) -> tuple[Message, ...]:
    """A conversation of one user turn."""
    return (Message("user", prompt),)


def text_of(row: Row, name: str) -> str:
    """A field that must be text. Raises InputError."""
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} must be text that is not blank")
    return value


def list_of(row: Row, name: str) -> list[Any]:
    """A field that must be a list with something in it. Raises InputError."""
    value = row.get(name)
    if not _is_list(value) or not value:
        raise InputError(f"{name} must be a list with at least one entry")
    return list(value)


def _criteria(sections: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for section in sections:
        for one in section.get("criteria") or ():
            name = str(one.get("id", len(found) + 1))
            found.append({"id": name, "weight": float(one.get("weight", 1)), "requirement": str(one["requirement"])})
        found += _criteria(section.get("sections") or ())
    if not found and sections and sections[0].get("criteria") is not None:
        raise InputError("the rubric has no criteria")
    return found


def _rule(one: Any) -> Row:
    if not isinstance(one, Mapping) or not isinstance(one.get("id"), str):
        raise InputError('expected must be a list of {"id": NAME, "arguments": {...}}')
    return one


def _references(texts: Sequence[Any]) -> list[str]:
    """A text per turn, empty where there is none."""
    return ["" if text is None else str(text) for text in texts]


def _match_of(expected: Any) -> str:
    if expected is None:
        return "points"
    if isinstance(expected, bool) or not isinstance(expected, int | float):
        return "exact"
    return "number"


def _messages(row: Row) -> tuple[Message, ...]:
    if "prompt" in row:
        return user(text_of(row, "prompt"))
    turns = []
    for turn in list_of(row, "messages"):
        if not isinstance(turn, Mapping) or turn.get("role") not in ("system", "developer", "user", "assistant"):
            raise InputError("messages must be objects with `role` (system, developer, user, assistant) and `content`")
        turns.append(Message(turn["role"], text_of(turn, "content")))
    return tuple(turns)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _holds_objects(value: Sequence[Any]) -> bool:
    return bool(value) and isinstance(value[0], Mapping)
