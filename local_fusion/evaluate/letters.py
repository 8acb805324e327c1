"""Which letter of a multiple-choice question a text gives as its answer. Pure.

A letter that is said to be the answer counts, the last one where it is said again; only without any is a letter looked
for that stands alone. Letters before options that are merely listed or discussed are no answer.
"""

from __future__ import annotations

import re

from local_fusion.answers.text import plain

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MEANT = r"(?i:(?:\s{1,3}(?:therefore|thus|hence|clearly|probably|most\slikely|option|choice|letter))*)"
_WORD_AFTER = r"(?i:because|since|as|for|is|and\snot|or|but|not|which|due|given|where)\b"
_LETTER = (  # a small one only in brackets or at an end, A and I not before what makes them words: "a" is a word
    r"\s{0,3}(?:\(([A-Za-z])\)"
    rf"|(?![AI]\s{{1,3}}(?!{_WORD_AFTER})[a-z]|I(?:,|\s{{1,3}}and|\s{{0,3}}&)\s{{1,3}}I)([A-Z])(?![\w'])"
    r"|([a-z])(?=\s{0,3}(?:\)|\.(?!\w)|$)))"
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
            r"\\boxed\s?\{\s?(?i:(?:option|choice|answer)\s)?\(?([A-Za-z])(?=[).:},\s])",
            # it is B, at an end
            rf"(?i:\bit(?:'s|\sis|\smust\sbe)){_MEANT}{_LETTER}\s{{0,3}}[.!]?$",
        )
    ),
    re.MULTILINE,
)
_IS_RIGHT = re.compile(
    r"\(?\b([A-Z])\b\)?\s{1,3}is\s{1,3}(?:(?:the\s{1,3})?(?:correct|right|best)\b|(?:the|my)\s{1,3}(?:final\s{1,3})?answer\b)"
)
_ALONE = re.compile(r"^[^\w\n]{0,8}(?:(?i:answer|option|choice)\s\(?)?([A-Z])[^\w\n]{0,8}$", re.MULTILINE)
_NOTHING_ELSE = re.compile(r"\W{0,8}([a-z])\W{0,8}")
_LISTED = re.compile(r"^[^\w\n]{0,8}([A-Z])[).:,]", re.MULTILINE)
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")
_OPTION = re.compile(r"(?i:\boption|\bchoice)\s([A-Z])(?![\w'])")
_CONDITION = re.compile(r"[^.\n]{0,200}?\bif\b", re.IGNORECASE)
_DRESSED = (
    (re.compile(r"\\(?:text|mathrm|mathbf|mathit|mathsf|textbf|bf|rm)\s?\{\s?([^{}\n]{0,40})\}"), r"\1"),
    (re.compile(r"\\[()\[\]]|\$"), ""),
    (re.compile(r"(?i:<answer>|[\"']answer[\"']\s?:)"), "answer: "),
    (re.compile(r"</[a-z]{1,12}>", re.IGNORECASE), "\n"),
    (re.compile(r"(?<!\w)[\"'*_]{1,3}([A-Za-z])[\"'*_]{1,3}(?!\w)"), r"\1"),
    (re.compile(r"\[{1,2}\s?([A-Za-z])\s?\]{1,2}|\(\s?([A-Za-z])\s?\)"), r"(\1\2)"),
)
"""What a letter may be dressed in (LaTeX, tags, JSON, emphasis, quotes, brackets), and what is left of it."""


def letter_said(text: str, options: int = len(ALPHABET)) -> str | None:
    """The letter, a capital one among the first `options`; None where the text gives none."""
    text, known = _undressed(plain(text)), ALPHABET[:options]
    for found in (
        [_letter(match) for match in _SAID.finditer(text) if not _supposed(match, text)],
        _IS_RIGHT.findall(text),
        _ALONE.findall(text.strip()),
        [whole.group(1).upper()] if (whole := _NOTHING_ELSE.fullmatch(text.strip())) else [],
        _only(_LISTED.findall(text.strip())),
        _in_last_line(text),
    ):
        fitting = [letter for letter in found if letter in known]
        if fitting:
            return fitting[-1]
    return None


def _undressed(text: str) -> str:
    for pattern, left in _DRESSED:
        text = pattern.sub(left, text)
    return text


def _supposed(match: re.Match[str], text: str) -> bool:
    """The answer *would be* that letter *if* something else were so."""
    return "would" in match.group().lower() and _CONDITION.match(text, match.end()) is not None


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).upper()


def _only(letters: list[str]) -> list[str]:
    """The one letter that begins lines; none where several do, for those are options."""
    return letters[:1] if len(set(letters)) == 1 else []


def _in_last_line(text: str) -> list[str]:
    """A letter in brackets, or an option by its letter, within the last line, where no other is."""
    line = text.rstrip().rpartition("\n")[2]
    return [] if _LISTED.match(line) else _only(_IN_BRACKETS.findall(line)) or _only(_OPTION.findall(line))
