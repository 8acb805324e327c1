"""Which letter of a multiple-choice question a text gives as its answer. Pure.

A letter that is said to be the answer counts, the last one where it is said again; only without any is a letter looked
for that stands alone. Letters before options that are merely listed or discussed are no answer.
"""

from __future__ import annotations

import re

from local_fusion.answers.text import plain

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MEANT = r"(?i:(?:\s{1,3}(?:therefore|thus|hence|clearly|probably|most\slikely|option|choice|letter))*)"
_LETTER = (  # a small one only in brackets or at an end: "a" is a word
    r"\s{0,3}(?:\$\s?)?(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Z])(?![\w'])|([a-z])(?=\s{0,3}(?:[).]|$)))"
)
_AFFIRMED = r"(?:(?!\bnot\b|n't|\bcannot\b)[^\n.:=]){0,60}?"
_SAID = re.compile(
    "|".join(
        (
            # the answer is B; Answer: B; the correct option is B
            r"(?i:\banswer|\b(?:correct|right|best|final|my)\s(?:option|choice))\b"
            rf"(?:{_AFFIRMED}(?i:\b(?:is|be)\b){_MEANT}\s{{0,3}}:?|\s{{0,3}}[:=]){_MEANT}{_LETTER}",
            # I choose (B)
            rf"(?i:\b(?:choose|chose|pick|select|go\swith)\b){_MEANT}{_LETTER}",
            rf"\#{{4}}{_LETTER}",
            r"\\boxed\s?\{\s?(?:\\(?:text|mathrm|textbf)\s?\{\s?)?\(?([A-Za-z])(?=[).:}\s])",
        )
    ),
    re.MULTILINE,
)
_IS_RIGHT = re.compile(
    r"\(?\b([A-Z])\b\)?\s{1,3}is\s{1,3}(?:the\s{1,3})?(?:correct|right|best)\b(?:\s{1,3}(?:answer|option|choice))?"
)
_ALONE = re.compile(r"^[^\w\n]{0,8}([A-Z])[^\w\n]{0,8}$", re.MULTILINE)
_LISTED = re.compile(r"^[^\w\n]{0,8}([A-Z])[).:,]", re.MULTILINE)
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")


def letter_said(text: str, options: int = len(ALPHABET)) -> str | None:
    """The letter, a capital one among the first `options`; None where the text gives none."""
    text, known = plain(text), ALPHABET[:options]
    for found in (
        [_letter(match) for match in _SAID.finditer(text)],
        _IS_RIGHT.findall(text),
        _ALONE.findall(text.strip()),
        _only(_LISTED.findall(text.strip())),
        _in_last_line(text),
    ):
        fitting = [letter for letter in found if letter in known]
        if fitting:
            return fitting[-1]
    return None


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).upper()


def _only(letters: list[str]) -> list[str]:
    """The one letter that begins lines; none where several do, for those are options."""
    return letters[:1] if len(set(letters)) == 1 else []


def _in_last_line(text: str) -> list[str]:
    """A letter in brackets within the last line, where no other is."""
    line = text.rstrip().rpartition("\n")[2]
    return [] if _LISTED.match(line) else _only(_IN_BRACKETS.findall(line))
