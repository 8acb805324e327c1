"""Grades an answer without a model: number, choice, exact, regex, JSON. Pure functions of the item and the text.

A text that states no value at all is wrong, not ungraded: the question asked for one. Ungraded (`score` None) is what
the item itself makes impossible, such as a pattern that is none.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from local_fusion.answers.numbers import numbers_in
from local_fusion.answers.text import final_part, marked, plain
from local_fusion.evaluate.instructions import follows
from local_fusion.evaluate.items import Grade, Item
from local_fusion.evaluate.letters import ALPHABET, letter_said

Scorer = Callable[[Item, str], Grade]
_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\s?\{([^{}\n]*)\}")
_HASHED = re.compile(r"^\s{0,3}####[ \t]*(\S[^\n]*)", re.MULTILINE)
_RESULT = re.compile(r"^[-+]?\s?[$€£¥]?\s?[\d.\\]|=|[$€£¥]\s?\d|\banswer\b|:\s{0,3}[-+]?[\d.,]+\W*$", re.IGNORECASE)
"""In a line of `####`, which may be a heading: "Step 2: Money" has a number and no result."""
_CURRENCY = re.compile(r"[-+]?[$€£¥]\s?\d")
_QUOTE_CHARS = 60
_TAIL_CHARS = 20_000
_TOLERANCE = Fraction(1, 10**6)


def score_number(item: Item, text: str) -> Grade:
    """The number after the last `####` that is no heading; else the boxed one, or that of "the answer is"; else the
    last one of the text."""
    wanted = _number(str(item.expected))
    if wanted is None:
        return Grade(None, f"expected {quote(item.expected)} is no number")
    found = _number_said(plain(text))
    if found is None:
        return Grade(0.0, f"no number; expected {quote(item.expected)}")
    same = abs(found - wanted) <= _TOLERANCE * max(Fraction(1), abs(wanted))
    return Grade(float(same), f"read {quote(_spelled(found))}, expected {quote(item.expected)}")


def score_choice(item: Item, text: str) -> Grade:
    """The last letter said to be the answer, among those of the item's options; see `letters`."""
    wanted, options = str(item.expected).strip().strip("()").upper(), _options(item.details.get("options"))
    if len(wanted) != 1 or wanted not in ALPHABET[:options]:
        return Grade(None, f"expected {quote(item.expected)} is no letter of an option")
    found = letter_said(text, options)
    if found is None:
        return Grade(0.0, f"no letter; expected {wanted}")
    return Grade(float(found == wanted), f"read {found}, expected {wanted}")


def score_exact(item: Item, text: str) -> Grade:
    """The whole text, or its marked or last part, is one of the expected texts; case, marks at the ends and runs of
    white space do not count."""
    wanted = [str(one) for one in item.expected] if isinstance(item.expected, list) else [str(item.expected)]
    said = {_normal(text), _normal(_TEXT.sub(r"\1", final_part(text)))}
    same = any(_normal(one) in said for one in wanted)
    return Grade(float(same), f"read {quote(final_part(text))}, expected {quote(wanted[0])}")


def score_regex(item: Item, text: str) -> Grade:
    """The pattern is found anywhere in the text."""
    try:
        pattern = re.compile(str(item.expected), re.MULTILINE)
    except re.error as problem:
        return Grade(None, f"the pattern is none: {problem.msg}")
    found = pattern.search(text[-_TAIL_CHARS:])
    return Grade(float(found is not None), f"found {quote(found.group())}" if found else "not found")


def score_json(item: Item, text: str) -> Grade:
    """Equal to the expected value, or, with `schema` in the details, valid by it."""
    value = _json_in(text)
    if value is _NOTHING:
        return Grade(0.0, "no JSON")
    if not item.details.get("schema"):
        wanted = _canonical(item.expected)
        try:
            found = _canonical(value)
        except RecursionError:
            return Grade(0.0, "JSON nested too deeply")
        return Grade(float(found == wanted), "equal" if found == wanted else f"read {quote(found)}")
    try:
        problem = schema_problem(value, item.expected)
    except ValueError as none:
        return Grade(None, str(none))
    return Grade(float(problem == ""), problem or "valid by the schema")


def score_instructions(item: Item, text: str) -> Grade:
    """Every instruction must be kept (IFEval's prompt level, strict); one of an unknown kind leaves it ungraded."""
    kept, unknown, broken = 0, [], []
    for rule in item.expected:
        found = follows(str(rule["id"]), rule.get("arguments") or {}, text, item.question)
        if found is None:
            unknown.append(str(rule["id"]))
        elif found:
            kept += 1
        else:
            broken.append(str(rule["id"]))
    if unknown:
        return Grade(None, f"cannot be checked: {', '.join(unknown)}")
    return Grade(
        float(not broken), f"{kept} of {len(item.expected)} kept" + (f"; not {', '.join(broken)}" * bool(broken))
    )


PURE: Mapping[str, Scorer] = {
    "number": score_number,
    "choice": score_choice,
    "exact": score_exact,
    "regex": score_regex,
    "json": score_json,
    "instructions": score_instructions,
}


def schema_problem(value: Any, schema: Any) -> str:
    """Why `value` is not valid by a JSON schema; empty where it is. Nothing is fetched: a `$ref` leads to the schema
    itself or nowhere. Raises ValueError where the schema is none. Needs the package jsonschema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError, ValidationError
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        Draft202012Validator.check_schema(schema)
        validator = Draft202012Validator(schema, registry=Registry())
        validator.is_valid(None)
    except (SchemaError, re.error, RecursionError):
        raise ValueError("the expected schema is none") from None
    except Unresolvable:
        raise ValueError("the expected schema refers to what is not in it") from None
    try:
        validator.validate(value)
    except re.error:
        raise ValueError("the expected schema is none") from None
    except RecursionError:
        return "it is too deep to be checked"
    except Unresolvable:
        raise ValueError("the expected schema refers to what is not in it") from None
    except ValidationError as problem:
        return f"at {problem.json_path}: {quote(problem.message)}"
    return ""


def quote(value: Any) -> str:
    """A value in few characters and one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= _QUOTE_CHARS else text[: _QUOTE_CHARS - 1] + "…"


_NOTHING = object()
_DECODER = json.JSONDecoder()
_BRACKET = re.compile(r"[{\[]")
_TRIES = 1_000


def _json_in(text: str) -> Any:
    """The text as JSON, or its last fenced block, or the last object or array that stands in it."""
    for candidate in (text, *reversed(_FENCE.findall(text))):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    found: Any = _NOTHING
    place, tried = 0, 0
    while tried < _TRIES and (bracket := _BRACKET.search(text, place)) is not None:
        tried += 1
        try:
            found, place = _DECODER.raw_decode(text, bracket.start())
        except (ValueError, RecursionError):
            place = bracket.end()
    return found


def _canonical(value: Any) -> str:
    return json.dumps(_whole(value), sort_keys=True, ensure_ascii=False)


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    return value


def _number_said(text: str) -> Fraction | None:
    for line in reversed(_HASHED.findall(text[-_TAIL_CHARS:])):
        if _RESULT.search(line) and (found := _marked_number(line)) is not None:
            return found
    text = text[-_TAIL_CHARS:].replace("####", "")
    found = _marked_number(marked(text) or "")
    return _number(text) if found is None else found


def _marked_number(said: str) -> Fraction | None:
    """The number of a marked part: what stands after its last "=" where that is one number; else the one sum of money;
    else the first."""
    after = numbers_in(said.rpartition("=")[2]) if "=" in said else []
    if len(after) == 1:
        return after[0]
    money = numbers_in(said[place:]) if (place := _money(said)) is not None else []
    values = money or numbers_in(said)
    return values[0] if values else None


def _money(said: str) -> int | None:
    """Where the one sum of money stands."""
    places = [match.start() for match in _CURRENCY.finditer(said)]
    return places[0] if len(places) == 1 else None


def _options(given: Any) -> int:
    """How many options an item has, told by their number or by a list of them."""
    count = len(given) if isinstance(given, list | tuple) else given
    known = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= len(ALPHABET)
    return int(count) if known else len(ALPHABET)


def _number(text: str) -> Fraction | None:
    values = numbers_in(text)
    return values[-1] if values else None


def _spelled(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    try:
        return f"{float(value):g}"
    except OverflowError:
        return str(value)


def _normal(text: str) -> str:
    text = unicodedata.normalize("NFKC", plain(text)).casefold()
    return " ".join(text.split()).strip(" .,!?:;'\"")
