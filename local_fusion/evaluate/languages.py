"""Which language a text is in, where its script or its commonest words tell it; knows no model and no dictionary."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

_SHARE = 0.6  # of the letters that must be of the script
_FOREIGN_LEAD = 3  # words: "DIE HARD" is no German
_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "ar": ("ARABIC",), "fa": ("ARABIC",), "ur": ("ARABIC",), "bn": ("BENGALI",), "gu": ("GUJARATI",),
    "hi": ("DEVANAGARI",), "mr": ("DEVANAGARI",), "ne": ("DEVANAGARI",), "kn": ("KANNADA",), "ko": ("HANGUL",),
    "pa": ("GURMUKHI",), "ta": ("TAMIL",), "te": ("TELUGU",), "th": ("THAI",), "ru": ("CYRILLIC",),
    "bg": ("CYRILLIC",), "uk": ("CYRILLIC",), "el": ("GREEK",), "he": ("HEBREW",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"), "zh": ("CJK",),
}  # fmt: skip
_ALONE = frozenset(("bn", "gu", "kn", "ko", "pa", "ta", "te", "th", "el", "he", "ja", "zh"))
"""Languages whose script is theirs alone; of the others the script can only speak against them."""
_COMMON: Mapping[str, str] = {
    "en": "the of and to in is that it for was with as are this have",
    "de": "der die und das ist nicht ein ich mit sie auf für auch den",
    "fr": "le la les des est et un une que pour dans pas sur avec",
    "es": "el los las que de una por con para es del se como más",
    "it": "il che di una per non con sono della gli è più anche",
    "pt": "que não uma para com os das por mais como são você ao em",
    "vi": "của và là có không được cho một trong người với các này",
    "sw": "na ya wa kwa ni katika za la cha kuwa hii kama watu",
    "fi": "ja on ei se että hän oli mutta kun ovat tämä joka myös",
    "ru": "и в не на что он с как это по но она из",
    "bg": "и на се да от за в е че по ще са това",
    "uk": "і в не на що з та це до як є але від",
    "ar": "في من على أن إلى هذا التي عن مع هو ما كان",
    "fa": "و در به از که این را با است برای آن یک",
    "ur": "کے میں کی ہے اور سے کا کو پر یہ نہیں ہیں",
    "hi": "के में है की और से का को पर यह नहीं हैं",
    "mr": "आहे आणि या च्या मध्ये ते हे नाही एक आहेत होते",
    "ne": "छ र को मा यो लागि हो पनि गर्न एक भएको",
}
_WORDS = re.compile(r"[^\W\d_]+(?:[\u0900-\u0dff]|[^\W\d_])*")


def is_in(language: str, text: str) -> bool | None:
    """Whether `text` is in `language` (ISO 639-1), by its script and, where that is not its alone, by the commonest
    words, if they tell any language. None for a language of which neither is known, and for a text without letters."""
    language = language.lower().split("-")[0]
    letters = [letter for letter in text if letter.isalpha()]
    if not letters or (language not in _SCRIPTS and language not in _COMMON):
        return None
    if _share(letters, _SCRIPTS.get(language, ("LATIN",))) < _SHARE:
        return False
    if language in _SCRIPTS:
        if language in ("ja", "zh"):
            kana = any(unicodedata.name(letter, "").startswith(("HIRAGANA", "KATAKANA")) for letter in letters)
            return kana == (language == "ja")
        if language in _ALONE:
            return True
    return _commonest(text) in (None, language)


def is_foreign(language: str, text: str) -> bool:
    """Whether `text` is told to be in another language than `language`, which is one of the Latin script: by its own
    script, or by the commonest words. A text that tells nothing is not."""
    letters = [letter for letter in text if letter.isalpha()]
    if letters and _share(letters, ("LATIN",)) < _SHARE:
        return True
    return _commonest(text, _FOREIGN_LEAD) not in (None, language)


def _share(letters: Sequence[str], names: tuple[str, ...]) -> float:
    """Of the letters that are of a script, whose names begin so."""
    return sum(unicodedata.name(letter, "").startswith(names) for letter in letters) / len(letters)


def _commonest(text: str, lead: int = 1) -> str | None:
    """The language whose common words are the most of the text, by so many; None where there is none."""
    said = [word.lower() for word in _WORDS.findall(text)]
    counts = {language: sum(map(words.split().__contains__, said)) for language, words in _COMMON.items()}
    first, second = sorted(counts.values(), reverse=True)[:2]
    return max(counts, key=lambda name: counts[name]) if first - second >= lead else None
