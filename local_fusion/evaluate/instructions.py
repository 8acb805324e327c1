"""IFEval's verifiable instructions by their published names: is each kept, checked by rule.

Source: Zhou et al., Instruction-Following Evaluation for Large Language Models, arXiv 2311.07911; names and arguments
as in its data, and what counts as a word, a bullet or a paragraph as in its published checkers.
`language:response_language` is checked only for languages whose script or commonest words tell them, and is unknown
otherwise; a text of the right script whose words tell nothing keeps it. "In English capitals" fails a text only where
those tell another language. Sentences, and words in capitals, are split by rule, without the tokenizer data that the
original loads: a boundary case may fall the other way. Strict: the text as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from local_fusion.evaluate.languages import is_foreign, is_in

Arguments = Mapping[str, Any]
_SENTENCE_END = re.compile(r"(?<![.!?])(?P<mark>[.!?]++)[\"'”’)\]*_]*+\s++(?=(?P<next>\S))|\n{2,}")
_NEVER_LAST = frozenset(("mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "cf", "fig"))
_SELDOM_LAST = frozenset(("etc", "a.m", "p.m", "u.s", "u.k", "inc", "ltd", "co", "jr", "sr", "approx"))
_LAST_WORD = re.compile(r"(?<![^\s(\"'“‘\[*_])[^\s(\"'“‘\[*_]+\Z")
_LONGEST = 12
"""Abbreviations before whose full stop a sentence never ends, or only where a capital follows."""
_WORD = re.compile(r"\w+")
_WHOLE_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_STAR_BULLET = re.compile(r"^\s*\*[^*].*$", re.MULTILINE)
_DASH_BULLET = re.compile(r"^\s*-.*$", re.MULTILINE)
_DIVIDER = re.compile(r"\s?\*\*\*\s?")
_FIRST_WORD_END = re.compile(r"[.,?!'\"]")
_HIGHLIGHTS = (re.compile(r"\*[^\n*]*\*"), re.compile(r"\*\*[^\n*]*\*\*"))
"""Counted one after the other, so that some text counts twice: so the published rule does."""
_FENCED = re.compile(r"^```(?:json)?\s*|\s*```$", re.IGNORECASE)
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_POSTSCRIPTS = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}


def follows(name: str, arguments: Arguments, text: str, question: str) -> bool | None:
    """Whether `text` keeps the instruction; None where this kind is unknown or its arguments are not as published."""
    check = KINDS.get(name)
    if check is None:
        return None
    if not text.strip():
        return False
    try:
        return check(arguments, text, question)
    except (KeyError, TypeError, ValueError):
        return None


def _compare(count: int, relation: str, wanted: int) -> bool:
    if relation not in ("at least", "less than"):
        raise ValueError(relation)
    return count >= wanted if relation == "at least" else count < wanted


def _count(keyword: str, text: str) -> int:
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _has_word(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None


def _existence(arguments: Arguments, text: str, _: str) -> bool:
    return all(_count(keyword, text) for keyword in arguments["keywords"])


def _frequency(arguments: Arguments, text: str, _: str) -> bool:
    return _compare(_count(arguments["keyword"], text), arguments["relation"], int(arguments["frequency"]))


def _forbidden(arguments: Arguments, text: str, _: str) -> bool:
    return not any(_has_word(word, text) for word in arguments["forbidden_words"])


def _letters(arguments: Arguments, text: str, _: str) -> bool:
    count = text.lower().count(str(arguments["letter"]).lower())
    return _compare(count, arguments["let_relation"], int(arguments["let_frequency"]))


def _language(arguments: Arguments, text: str, _: str) -> bool | None:
    return is_in(str(arguments["language"]), text)


def _sentences(arguments: Arguments, text: str, _: str) -> bool:
    return _compare(_sentences_in(text.strip()), arguments["relation"], int(arguments["num_sentences"]))


def _sentences_in(text: str) -> int:
    """Parts with a word in them, whatever letter they begin with."""
    count, start = 0, 0
    for end in _SENTENCE_END.finditer(text):
        word = _LAST_WORD.search(text, max(start, end.start() - _LONGEST), end.start())
        short = word.group().lower() if word and end["mark"] == "." else ""
        if not (short in _NEVER_LAST or (short in _SELDOM_LAST and not end["next"].isupper())):
            count += _WORD.search(text, start, end.end()) is not None
            start = end.end()
    return count + (_WORD.search(text, start) is not None)


def _paragraphs(arguments: Arguments, text: str, _: str) -> bool:
    """Paragraphs are parted by three asterisks, wherever they stand; an empty one inside breaks the rule."""
    parts = [part.strip() for part in _DIVIDER.split(text)]
    if not all(parts[1:-1]):
        return False
    return sum(map(bool, parts)) == int(arguments["num_paragraphs"])


def _words(arguments: Arguments, text: str, _: str) -> bool:
    return _compare(len(_WORD.findall(text)), arguments["relation"], int(arguments["num_words"]))


def _nth_paragraph(arguments: Arguments, text: str, _: str) -> bool:
    """Paragraphs are parted by a blank line here; their first word ends at a mark."""
    parts = [part.strip() for part in text.split("\n\n")]
    count, nth = sum(map(bool, parts)), int(arguments["nth_paragraph"])
    if count != int(arguments["num_paragraphs"]) or not 1 <= nth <= count or not parts[nth - 1]:
        return False
    first = _FIRST_WORD_END.split(parts[nth - 1].split()[0].lstrip("'\""))[0]
    return first.lower() == str(arguments["first_word"]).lower()


def _placeholders(arguments: Arguments, text: str, _: str) -> bool:
    """From a bracket to the first that closes it, on one line."""
    count = 0
    for line in text.split("\n"):
        end = -1
        while (start := line.find("[", end + 1)) >= 0 and (end := line.find("]", start)) >= 0:
            count += 1
    return count >= int(arguments["num_placeholders"])


def _postscript(arguments: Arguments, text: str, _: str) -> bool:
    """Anywhere: in bold, or in the middle of a line."""
    marker = str(arguments["postscript_marker"]).strip()
    return re.search(_POSTSCRIPTS.get(marker, re.escape(marker)), text, re.IGNORECASE) is not None


def _bullets(arguments: Arguments, text: str, _: str) -> bool:
    """Lines that begin with an asterisk or a dash."""
    return len(_STAR_BULLET.findall(text)) + len(_DASH_BULLET.findall(text)) == int(arguments["num_bullets"])


def _constrained(_: Arguments, text: str, __: str) -> bool:
    return any(answer in text for answer in _CONSTRAINED)


def _highlights(arguments: Arguments, text: str, _: str) -> bool:
    found = [part for pattern in _HIGHLIGHTS for part in pattern.findall(text) if part.strip("*").strip()]
    return len(found) >= int(arguments["num_highlights"])


def _sections(arguments: Arguments, text: str, _: str) -> bool:
    marker = re.escape(str(arguments["section_spliter"]).strip())
    return len(re.findall(rf"\s?{marker}\s?\d+\s?", text)) >= int(arguments["num_sections"])


def _json(_: Arguments, text: str, __: str) -> bool:
    try:
        json.loads(_FENCED.sub("", text.strip()))
    except (ValueError, RecursionError):
        return False
    return True


def _title(_: Arguments, text: str, __: str) -> bool:
    """On one line, from its first `<<` to its last `>>`, with something between."""
    for line in text.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end and line[start : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def _two_responses(_: Arguments, text: str, __: str) -> bool:
    """Two different texts parted by six asterisks."""
    parts = [part.strip() for part in text.split("******")]
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]


def _repeat_prompt(arguments: Arguments, text: str, question: str) -> bool:
    prompt = str(arguments.get("prompt_to_repeat") or question)
    return text.strip().lower().startswith(prompt.strip().lower())


def _end(arguments: Arguments, text: str, _: str) -> bool:
    return text.strip().strip('"').lower().endswith(str(arguments["end_phrase"]).strip().lower())


def _capital_words(arguments: Arguments, text: str, _: str) -> bool:
    count = sum(1 for word in _WHOLE_WORD.findall(text) if word.isupper())
    return _compare(count, arguments["capital_relation"], int(arguments["capital_frequency"]))


def _quoted(_: Arguments, text: str, __: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text.startswith('"') and text.endswith('"')


KINDS: Mapping[str, Callable[[Arguments, str, str], bool | None]] = {
    "keywords:existence": _existence,
    "keywords:frequency": _frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeat_prompt,
    "startend:end_checker": _end,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda _, text, __: text.isupper() and not is_foreign("en", text),
    "change_case:english_lowercase": lambda _, text, __: text.islower() and not is_foreign("en", text),
    "punctuation:no_comma": lambda _, text, __: "," not in text,
}
"""Every kind of instruction that can be checked, by its published name."""
