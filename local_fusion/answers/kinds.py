"""The other kinds: choice letters, yes or no, dates, lists, JSON, quoted and short text."""

from __future__ import annotations

import json
import re
from typing import Any

from local_fusion.answers.text import STOP_WORDS, Text, final_part, is_short, marked, only_new, plain, plain_part, words

_OPTION = re.compile(r"(?:^|[\s(])\(?([A-J])[).:]\s", re.MULTILINE)
_LETTER = re.compile(
    r"(?:\b(?i:answer|option|choice)\b\s*(?:is|:)?\s*)\(?([A-J])\)?(?![\w'])|^\W*\(?([A-J])\)?(?:[).:,]|\W*$)",
)
_BARE_LETTER = re.compile(r"\W*\(?([A-Ja-j])\)?\W*")
_YES_QUESTION = re.compile(
    r"(?:^|[.?!\n])\s{0,4}(?:is|are|was|were|does|do|did|can|could|has|have|had|will|would|should|may|must"
    r"|true or false)\b",
    re.IGNORECASE,
)
_YES = {"yes": "yes", "true": "yes", "correct": "yes", "no": "no", "false": "no", "incorrect": "no"}
_MONTH_NAMES = "january february march april may june july august september october november december"
_MONTHS = {name[:3]: number for number, name in enumerate(_MONTH_NAMES.split(), 1)}
_MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
_DATE = re.compile(
    rf"\b(?P<y1>\d{{4}})-(?P<m1>\d{{2}})-(?P<d1>\d{{2}})\b"
    rf"|\b{_MONTH}\s+(?:the\s+)?(?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:,?\s+(?P<y2>\d{{4}}))?\b"
    rf"|\b(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(?P<y3>\d{{4}}))?\b",
    re.IGNORECASE,
)
_LIST = re.compile(r"(?<![\w'\"-])[\w'\"-]++(?:\s?(?:,\s?(?:and\s|or\s)?|;|\sand\s)\s?[\w'\"-]++)+")
_SEPARATOR = re.compile(r"\s?(?:,\s?(?:and\s|or\s)?|;|\sand\s)\s?")
_LIST_CUE = re.compile(r"\b(?:sort|order|arrange|rank|list|sequence|alphabet)", re.IGNORECASE)
_QUOTED = re.compile(r"""(?<!\w)(["'])(.{1,80}?)\1(?!\w)""")
_FENCE = re.compile(r"^\s*```[a-z]*\n(.*)\n```\s*$", re.DOTALL)
_MOST_WORDS = 6
_NEGATIONS = frozenset(("not", "no", "never", "none", "neither", "nor", "cannot", "without"))


def read_json(question: Text, answer: Text) -> str | None:
    """A JSON object or array, keys sorted, in canonical form."""
    return canonical_json(answer.text)


def read_choice(question: Text, answer: Text) -> str | None:
    """The letter chosen, where the question offers lettered options."""
    offered = question.find(_offered)
    if len(offered) < 2:
        return None
    part = answer.find(plain_part)
    bare = _BARE_LETTER.fullmatch(part)
    found = [bare.group(1)] if bare else ["".join(groups) for groups in _LETTER.findall(part)]
    if not found and answer.find(marked) is not None:
        found = re.findall(r"^\W*\(?([A-J])\b", part)
    letters = {letter.upper() for letter in found} & offered
    return letters.pop() if len(letters) == 1 else None


def read_yes_or_no(question: Text, answer: Text) -> str | None:
    """yes or no, where the question can be answered so and the answer begins so."""
    if not question.find(_is_yes_question):
        return None
    said = words(answer.find(plain_part))
    return _YES.get(said[0]) if said else None


def read_date(question: Text, answer: Text) -> str | None:
    """A day of a month, with its year where it is said: "03-17", "2024-03-17"."""
    dates = _dates(answer.find(plain_part))
    return only_new(dates, question.find(_plain_dates)) if dates else None


def read_list(question: Text, answer: Text) -> str | None:
    """Items in their order, where the question asks for an order or every item is a number or a letter."""
    found = _lists(answer.find(plain_part).rstrip(" .!"))
    items = only_new(found, question.find(_plain_lists)) if found else None
    if items is None:
        return None
    if not question.find(_asks_for_order) and not all(len(item) == 1 or item.isdigit() for item in items):
        return None
    return ", ".join(items)


def read_quoted(question: Text, answer: Text) -> str | None:
    """The one value in quotation marks that a short answer gives."""
    if not is_short(answer.text) and answer.find(marked) is None:
        return None
    values = _quoted(answer.find(final_part))
    return only_new(values, question.find(_quoted)) if values else None


def read_short_text(question: Text, answer: Text) -> str | None:
    """The words of a short answer that the question does not hold: "Paris is the capital of France." is "paris"."""
    part = answer.find(plain_part)
    if not is_short(part) or part.count("\n") > 1:
        return None
    said = [word for word in words(part) if word not in STOP_WORDS]
    asked = question.find(_asked_words)
    new = [word for word in said if word not in asked]
    if len(new) > _MOST_WORDS or len(said) > 3 * _MOST_WORDS:
        return None
    return " ".join(new or said) or None


def canonical_json(answer: str) -> str | None:
    """The JSON object or array that a text is, fenced or not: keys sorted, no spaces; None where it is none."""
    fenced = _FENCE.match(answer)
    text = (fenced.group(1) if fenced else answer).strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.dumps(_whole(json.loads(text)), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def _offered(question: str) -> frozenset[str]:
    return frozenset(_OPTION.findall(question))


def _is_yes_question(question: str) -> bool:
    return _YES_QUESTION.search(question) is not None


def _asks_for_order(question: str) -> bool:
    return _LIST_CUE.search(question) is not None


def _asked_words(question: str) -> frozenset[str]:
    return frozenset(words(plain(question))) - _NEGATIONS


def _plain_dates(text: str) -> list[str]:
    return _dates(plain(text))


def _plain_lists(text: str) -> list[tuple[str, ...]]:
    return _lists(plain(text))


def _whole(value: Any) -> Any:
    """Numbers that are whole made integers, at any depth."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    return value


def _dates(text: str) -> list[str]:
    return [date for match in _DATE.finditer(text) if (date := _date(match)) is not None]


def _date(match: re.Match[str]) -> str | None:
    named = match.group(4) or match.group(8)
    month = int(match["m1"]) if match["m1"] else _MONTHS[named[:3].lower()]
    day = int(match["d1"] or match["d2"] or match["d3"])
    year = match["y1"] or match["y2"] or match["y3"]
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return f"{year}-{month:02}-{day:02}" if year else f"{month:02}-{day:02}"


def _lists(text: str) -> list[tuple[str, ...]]:
    return [_items(match.group()) for match in _LIST.finditer(text)]


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip("'\" ").lower() for item in _SEPARATOR.split(text) if item.strip("'\" "))


def _quoted(text: str) -> list[str]:
    return [match.group(2).strip(" .,!?").lower() for match in _QUOTED.finditer(plain(text))]
