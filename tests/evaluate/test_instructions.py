"""Every published kind of instruction, kept and broken; unknown kinds and arguments are neither."""

from __future__ import annotations

from typing import Any

import pytest

from local_fusion.evaluate.instructions import KINDS, follows

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["river", "boat"]}, "A River and a boat.", "A river."),
    ("keywords:frequency", {"keyword": "sea", "relation": "at least", "frequency": 2}, "Sea and sea.", "Sea."),
    ("keywords:frequency", {"keyword": "sea", "relation": "less than", "frequency": 2}, "Sea.", "Sea and sea."),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "A category.", "A cat."),
    (
        "keywords:letter_frequency",
        {"letter": "z", "let_relation": "at least", "let_frequency": 2},
        "Zizz",
        "Zip",
    ),
    (
        "language:response_language",
        {"language": "de"},
        "Das ist nicht der Hund, der auf mich wartet.",
        "This is the dog.",
    ),
    ("language:response_language", {"language": "th"}, "สวัสดีครับ", "Hello there."),
    (
        "length_constraints:number_sentences",
        {"relation": "at least", "num_sentences": 3},
        "One. Two! Three?",
        "One. Two.",
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One.\n***\nTwo.", "One.\n\nTwo."),
    (
        "length_constraints:number_words",
        {"relation": "less than", "num_words": 4},
        "It's two",
        "It's three words",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "First a.\n\nThen b.",
        "Then a.\n\nFirst b.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "Dear [name], of [place]", "Dear [name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. More.", "Bye."),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\n**P.S.** More.", "Bye.\n**PS** More."),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "Bye. And p. p. s. more.", "Bye. P.S. More."),
    ("detectable_content:postscript", {"postscript_marker": "N.B."}, "Bye, n.b. more.", "Bye."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One. *** Two.", "One. *** *** Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "***\nOne.\n***", "One.\n***\nTwo."),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "+ none\n- one", "+ none\n+ none"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "well-known"},
        '"Well-known, it is.',
        "Well, known.",
    ),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "so: my answer is no."),
    ("change_case:english_capital", {}, "HELLO WORLD", "DER HUND IST NICHT DAS"),
    ("change_case:english_capital", {}, "THE RIVER IS DEEP", "ПРИВЕТ МИР"),
    ("change_case:english_lowercase", {}, "hello world", "le chat est dans les bois"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* two", "* one\n* two\n- three"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and **two**", "*one*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a: 1"),
    ("detectable_format:title", {}, "<<On rivers>>\nThey flow.", "On rivers"),
    ("combination:two_responses", {}, "One.\n******\nTwo.", "One.\n******\nOne."),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "say it. Done.", "Done. Say it."),
    ("startend:end_checker", {"end_phrase": "That is all."}, "So. That is all.", "That is all. So."),
    ("startend:quotation", {}, '"All of it."', '"Some" of it.'),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        "VERY GOOD",
        "VERY good",
    ),
    ("change_case:english_capital", {}, "ALL OF IT", "Not ALL"),
    ("change_case:english_lowercase", {}, "all of it", "Not all"),
    ("punctuation:no_comma", {}, "One and two.", "One, two."),
    *[
        ("length_constraints:number_sentences", {"relation": "at least", "num_sentences": 3}, kept, "One. two")
        for kept in (
            "i like it. you like it. we like it.",
            "**First** one. **Second** one. **Third** one.",
            "- One thing.\n- Another thing.\n- A third thing.",
            "Привет. Как дела? Хорошо.",
            "They met at 3 p.m. Then they left. So it ended.",
            "Wow! 😀 Great. 🎉 Super.",
        )
    ],
    *[
        ("length_constraints:number_sentences", {"relation": "less than", "num_sentences": 3}, kept, "One. two! three?")
        for kept in (
            "Dr. Smith met Mr. Jones. They talked.",
            "It opens at 9 a.m. and closes at 3.5 minutes past. Yes.",
            "Use e.g. Python, i.e. this. Yes.",
        )
    ],
    (
        "detectable_format:number_highlighted_sections",
        {"num_highlights": 4},
        "* **Bold:** text\n* **Other:** text",
        "**one** and *two*",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 1}, "- [] todo", "[a\nb]"),
    ("detectable_format:title", {}, "<<My <b>title</b>>>", "<<  >>"),
    ("detectable_format:title", {}, "<<A -> B>>", "<<A\nB>>"),
    ("language:response_language", {"language": "en"}, "Rivers run deep.", "Реки глубоки."),
    ("language:response_language", {"language": "ru"}, "Привет, мир!", "Hello, world!"),
    ("language:response_language", {"language": "de"}, "Hallo Welt! Guten Morgen.", "The end of the world is near."),
    ("change_case:english_capital", {}, "DIE HARD 2: DIE HARDER.", "DIE HUNDE UND DIE KATZEN"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "kept", "broken"), CASES, ids=[f"{case[0]}-{number}" for number, case in enumerate(CASES)]
)
def test_kept_and_broken(name: str, arguments: dict[str, Any], kept: str, broken: str) -> None:
    assert follows(name, arguments, kept, "?") is True
    assert follows(name, arguments, broken, "?") is False
    assert follows(name, arguments, "", "?") is False


def test_all_published_kinds_are_there() -> None:
    assert len(KINDS) == 25
    assert {case[0] for case in CASES} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("poetry:rhyme", {}),
        ("length_constraints:number_words", {}),
        ("length_constraints:number_words", {"relation": "about", "num_words": 3}),
        ("language:response_language", {"language": "xx"}),
    ],
)
def test_what_cannot_be_checked_is_neither(name: str, arguments: dict[str, Any]) -> None:
    assert follows(name, arguments, "Some text.", "?") is None


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "This is the first of the letters that I have for you."),
        ("fr", "Il est dans la maison avec les autres, mais pas pour une heure."),
        ("es", "El perro es de la casa y no se va por los gatos."),
        ("pt", "Você não pode mais ver o cão, mas ele está com os outros por uma hora."),
        ("it", "Il cane è della casa e non va con gli altri per una sera."),
        ("ru", "Это не то, что он хотел, но она из города и на работе."),
        ("hi", "यह किताब मेज पर है और वह नहीं पढ़ता है।"),
        ("ja", "これはペンです。"),
        ("zh", "这是一支笔。"),
        ("ko", "이것은 펜입니다."),
    ],
)
def test_languages(language: str, text: str) -> None:
    assert follows("language:response_language", {"language": language}, text, "?") is True
    other = "de" if language != "de" else "en"
    assert follows("language:response_language", {"language": other}, text, "?") is False
