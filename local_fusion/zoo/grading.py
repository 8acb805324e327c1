"""Read the value out of an answer's sentence and compare it with the expected one."""

from __future__ import annotations

import re

from local_fusion.zoo.questions import MONTHS

_DATE = re.compile(rf"\b({'|'.join(MONTHS)})\s+(\d{{1,2}})\b", re.IGNORECASE)
_ITEM = r"\b(?:\d+|[A-Za-z])\b"
_LIST = re.compile(rf"{_ITEM}(?:\s*,\s*(?:and\s+)?{_ITEM})+(?:\s+and\s+{_ITEM})?")
_NUMBER = re.compile(r"-?\b\d+\b")
_QUOTED = re.compile(r"['\"‘’“”]([A-Za-z]+)['\"‘’“”]")
_WORD = re.compile(r"[A-Za-z]+")


def grade(expected: str, text: str) -> bool:
    """True if `text` states `expected` as its (last) value of that kind: a date, a list, a number or a word."""
    return stated_value(text, like=expected) == _plain(expected)


def stated_value(text: str, like: str) -> str | None:
    """The last value in `text` of the same kind as `like`, normalised; None if there is none."""
    if _DATE.fullmatch(like):
        return _last(_DATE, text)
    if "," in like:
        return _last(_LIST, text)
    if _NUMBER.fullmatch(like):
        return _last(_NUMBER, text)
    return _last(_QUOTED, text) or _last(_WORD, text)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = list(pattern.finditer(text))
    if not found:
        return None
    match = found[-1]
    return _plain(" ".join(match.groups()) if match.groups() else match.group())


def _plain(value: str) -> str:
    return " ".join(re.sub(r"\band\b|,", " ", value.lower()).split())
