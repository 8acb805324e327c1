"""Words of question and answer: what an answer says beyond the question, and its final part."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
SHORT_CHARACTERS = 160
QUESTION_CHARACTERS = 8_000
TAIL_CHARACTERS = 2_000  # a conclusion stands at the end; reading no more keeps every pattern quick
LAST_CHARACTERS = 320

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MARK = re.compile(
    r"####\s*(?P<hash>[^\n]+)"
    r"|answer\s{0,3}(?:is|:|=)\s{0,3}(?:that\s)?:?\s{0,3}(?P<said>[^\n]+)",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\boxed\s*\{")
_STOP_WORDS = (
    "a an the is are was were be it its it's this that these those of in on at to as by for so then and with"
    " they he she you i we there here which who whom what my your our their his her"
    " answer final result therefore thus hence would will"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())


class Text:
    """A text, and what was looked for in it: each thing once, however many readers and answers ask for it."""

    __slots__ = ("_found", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._found: dict[Callable[[str], Any], Any] = {}

    def find(self, look: Callable[[str], T]) -> T:
        """What `look`, a function of nothing but the text, finds here."""
        if look not in self._found:
            self._found[look] = look(self.text)
        found: T = self._found[look]
        return found


def is_short(text: str) -> bool:
    """Short enough that its value is all it says: one line or two, some twenty words."""
    return len(text.strip()) <= SHORT_CHARACTERS


def plain(text: str) -> str:
    """Compatibility forms, raised digits, typographic quotes and Markdown emphasis made plain."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", _RAISED.sub(r"^\g<0>", text))
    text = text.translate(_QUOTES)
    return text.replace("**", "").replace("__", "").replace("`", "")


_RAISED = re.compile(r"[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "−": "-", "–": "-"})


def tail(text: str) -> str:
    return text[-TAIL_CHARACTERS:]


def marked(text: str) -> str | None:
    r"""What stands in the last `\boxed{}`, after the last `####` or after "the answer is"; None without such a mark."""
    text = tail(text)
    if "answer" not in text.lower() and "####" not in text and "\\boxed" not in text:
        return None
    boxes = list(_BOXED.finditer(text))
    if boxes:
        return _braced(text, boxes[-1].end())
    marks = list(_MARK.finditer(text))
    if not marks:
        return None
    last = marks[-1]
    return (last.group("hash") or last.group("said") or "").strip() or None


def final_part(text: str) -> str:
    """Where the value must stand: the marked part; else the whole of a short answer, or the last line of a long one."""
    found = marked(text)
    if found is not None:
        return found
    if is_short(text):
        return text.strip()
    return tail(text).rstrip().rsplit("\n", 1)[-1][-LAST_CHARACTERS:]


def plain_part(text: str) -> str:
    """The final part made plain."""
    return plain(final_part(text))


def words(text: str) -> list[str]:
    return [match.group().lower() for match in _WORD.finditer(text)]


def only_new(values: Sequence[T], known: Sequence[T]) -> T | None:
    """The one value that the question does not hold itself; the last of all where it holds each; None where several
    are new, for then nobody knows which is meant."""
    fresh = [value for value in values if value not in known]
    if not fresh:
        return values[-1] if values else None
    return fresh[0] if all(value == fresh[0] for value in fresh) else None


def _braced(text: str, start: int) -> str | None:
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return text[start:place].strip()
    return None
