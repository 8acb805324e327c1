r"""Numbers: digits with signs, thousands, decimals, fractions, powers of ten, percent and units; small number words."""

from __future__ import annotations

import re
from fractions import Fraction

from local_fusion.answers.text import Text, is_short, marked, only_new, plain, plain_part, words

_NUMBER = re.compile(
    r"(?<![\w.:])(?P<sign>[-+](?=[$€£¥\d.])|(?<=[=(]\s)[-+](?=\s))?\s?[$€£¥]?\s?"  # "Total - 18" is a dash
    r"(?:(?P<whole>\d{1,12})\s+(?=\d{1,6}\s?/\s?\d))?"
    r"(?P<digits>\d{1,3}(?:[,'_\u00a0\u202f ]\d{3})+(?!\d)(?:\.\d+)?|\d{1,40}(?:\.\d{1,40})?|\.\d{1,40})"
    r"(?:\s?/\s?(?P<under>\d{1,40}))?"
    r"(?!:\d)(?:\s?(?:[x×*]|\\times|\\cdot)\s?10\s?\^\s?\{?(?P<power>-?\d{1,3})\}?|[eE](?P<exponent>[-+]?\d{1,3})"
    r"|\s?\^\s?\{?(?P<raised>\d{1,2})\}?)?"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{(-?\d{1,40})\}\s*\{(\d{1,40})\}")
_CUE = re.compile(
    r"\bhow (?:many|much|often|old|long|far|tall|high|big|large|fast|deep|heavy|wide)\b"
    r"|\b(?:calculate|compute|evaluate|sum|total|difference|product|quotient|remainder|percent|average|mean|median"
    r"|count|add|subtract|multiply|divide|times|plus|minus|square root|number|largest|smallest|greatest|least|maximum"
    r"|minimum|what year|which year)\b|\d\s*[-+*/×÷^=]\s*\d",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?:=|\bis|\bare|\bequals?|\bmakes?)\s*:?\s*(?=[-+$€£¥\d.])[^=]*$", re.IGNORECASE)
_WORDS_IN_ORDER = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    " seventeen eighteen nineteen twenty"
)
_WORDS = {word: value for value, word in enumerate(_WORDS_IN_ORDER.split())} | {"once": 1, "twice": 2}
_MOST_DIGITS = 600
"""Of a number's numerator or denominator: Python may be told to write no more than 640."""
_AROUND = 3  # words a bare number may have around it: a unit, "about", a name


def read_number(question: Text, answer: Text) -> str | None:
    """The number an answer comes to, as a fraction in lowest terms ("85", "3/4"), where the question asks for one."""
    asked = question.find(_asks_for_number)
    mark = answer.find(marked)
    part = answer.find(plain_part)
    if not asked and mark is None and not _bare(part):
        return None
    if mark is not None and not asked and not _bare(part):
        return None
    values = numbers_in(part)
    if not values:
        return _in_words(part) if asked and is_short(part) else None
    if mark is not None:
        return str(values[0])
    closing = _EQUALS.search(part)
    closed = numbers_in(closing.group()) if closing else []
    if len(closed) == 1:
        return str(closed[0])
    value = only_new(values, question.find(_plain_numbers))
    if value is None and not is_short(answer.text):
        value = values[-1]
    return None if value is None else str(value)


def numbers_in(text: str) -> list[Fraction]:
    """Every number of a text, in order."""
    text = _LATEX_FRACTION.sub(r" \1/\2 ", text).replace("{,}", ",").replace("\\,", "").replace("\\$", "$")
    return [value for match in _NUMBER.finditer(text) if (value := _value(match)) is not None]


def _plain_numbers(text: str) -> list[Fraction]:
    return numbers_in(plain(text))


def _asks_for_number(question: str) -> bool:
    return _CUE.search(question) is not None


def _value(match: re.Match[str]) -> Fraction | None:
    digits = re.sub(r"[,'_\u00a0\u202f ]", "", match["digits"])
    power = match["power"] or match["exponent"] or "0"
    beside = abs(int(power)) + len(match["under"] or "") + len(match["whole"] or "")
    if len(digits) * int(match["raised"] or 1) + beside > _MOST_DIGITS:
        return None
    value = Fraction(digits)
    if match["raised"]:
        value **= int(match["raised"])
    if match["under"]:
        under = int(match["under"])
        if under == 0:
            return None
        value /= under
    if match["whole"]:
        value += int(match["whole"])
    value *= Fraction(10) ** int(power)
    return -value if match["sign"] == "-" else value


def _bare(text: str) -> bool:
    """Little but one number."""
    return len(numbers_in(text)) == 1 and len(words(text)) <= 1 + _AROUND and is_short(text)


def _in_words(text: str) -> str | None:
    values = [_WORDS[word] for word in words(text) if word in _WORDS]
    return str(values[0]) if len(values) == 1 else None
