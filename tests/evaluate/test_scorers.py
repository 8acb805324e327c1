"""Grades without a model: what counts as right, what as wrong, and what cannot be graded."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import perf_counter
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_fusion.evaluate.items import Item
from local_fusion.evaluate.scorers import PURE
from local_fusion.types import Message


def score(match: str, expected: Any, text: str, question: str = "?", **details: Any) -> float | None:
    return PURE[match](Item("one", (Message("user", question),), match, expected, details), text).score


@pytest.mark.parametrize(
    ("expected", "text", "right"),
    [
        ("72", "First 48, then 24.\n#### 72", 1.0),
        ("72", "#### 24\nNo wait.\n#### 72", 1.0),
        ("1200", "That makes $1,200 in all.", 1.0),
        (0.5, "The answer is 1/2.", 1.0),
        ("72", "He has 71 left.", 0.0),
        ("72", "Many.", 0.0),
        ("-3", "It is -3.", 1.0),
        (18, r"So it is \boxed{18}, out of 20.", 1.0),
        ("many", "72", None),
        (12, "#### 6 * 2 = 12", 1.0),
        (12, "The answer is 6 * 2 = $12.", 1.0),
        (12, r"\boxed{x = 12}", 1.0),
        (12, "#### 12 = 3 * 4", 1.0),
        *[
            (18, text, 1.0)
            for text in (
                "$\\boxed{9}$ eggs are left.\n\n#### 18",
                "#### 18\n\nThe answer is reached by 9 * 2.",
                "#### 18\n\nI checked: the answer is consistent with 16 eggs.",
                "#### Step 1: Eggs\n16-7=9\n#### Step 2: Money\n9*2=18\n\nJanet makes $18 every day.",
                "#### Answer: 18",
                "#### Janet makes $18.",
                "**Final Answer:** In 1 day, Janet makes $18.",
                "The answer is that in 1 day she makes $18.",
                "**Total:** – $18",
                "Total - $18",
                "Answer - 18",
                "- 16 eggs\n- 18 dollars",
                "#### $18",
            )
        ],
        (500, "So the total is 5 × 100 = 500 dollars", 1.0),
        (300000, "It is 3 × 10⁵.", 1.0),
        (0.003, "The answer is 3 × 10⁻³.", 1.0),
        (-5, "So x = - 5", 1.0),
        (-5, "So it is (-5).", 1.0),
        (-5, "It is -$5.", 1.0),
    ],
)
def test_number(expected: Any, text: str, right: float | None) -> None:
    assert score("number", expected, text) == right


@pytest.mark.parametrize(
    ("expected", "text", "right"),
    [
        ("C", "Because of heat, the answer is (C).", 1.0),
        ("C", "The answer is **C**", 1.0),
        ("C", "C", 1.0),
        ("C", "C) it expands", 1.0),
        ("C", "First I thought the answer is (B), but the answer is (C).", 1.0),
        ("C", "The answer is (D).", 0.0),
        ("C", "I do not know.", 0.0),
        ("J", "Answer: J", 1.0),
        ("B", "A. no\nB. this one\nD. no\n\nAnswer: B", 1.0),
        ("B", "(A) no\n(B) this one\n(D) no\n\n**Answer: (B)**", 1.0),
        ("B", "A) wrong\nB) right\nC) wrong\n\n\\boxed{B}", 1.0),
        ("B", "A) wrong\nB) right\n\n$\\boxed{\\text{(B)}}$", 1.0),
        ("B", "The answer is (b).", 1.0),
        ("B", "The answer is: b", 1.0),
        ("B", "(A) Helium\n(B) Carbon dioxide\n(C) Neon\nI choose (B)", 1.0),
        ("B", "(A) Helium\n(B) Carbon dioxide\nPlants take in (B), as is known.", 1.0),
        ("B", "the correct option is B", 1.0),
        ("B", "The correct answer is option B.", 1.0),
        ("B", "So the answer to the question is therefore **B**, not C.", 1.0),
        ("B", "Options A and C are wrong, and D is absurd. B is the correct answer.", 1.0),
        ("B", "#### B", 1.0),
        ("A", "The answer is a matter of taste.", 0.0),
        ("D", "A. no\nB. perhaps\nD. no", 0.0),
        ("I", "I think so.\nI", 1.0),
        *[
            ("B", text, 1.0)
            for text in (
                'The answer is "B".',
                r"The answer is \(B\).",
                r"The answer is \(\text{B}\)",
                r"The answer is $\text{B}$.",
                r"The answer is $\mathbf{B}$.",
                r"\boxed{\mathbf{B}}",
                r"\boxed{\text{Option B}}",
                r"\boxed{B, foo}",
                "The answer is *B*.",
                "The answer is _B_.",
                "The answer is ( B ).",
                "The answer is [[B]].",
                "<answer>B</answer>",
                '{"answer": "B"}',
                "Thus, B is the answer.",
                "Answer B",
                "Option B",
                "b",
                "(b)",
                "Answer: I and II only, option (B)",
                "Answer: I believe it is B",
                "The correct answer is: A decrease in price, i.e. option B.",
                "The answer is i.e. option B",
                "The answer is e.g. (B)",
                "The answer is (B).\n\nNote: the answer would be (D) if friction were included.",
                "The best choice would be B.",
            )
        ],
        ("A", "The answer is A because nothing else fits.", 1.0),
        ("I", "The answer is I, since the others are wrong.", 1.0),
        ("B", "a cat", 0.0),
        ("B", "Let us see if it is a trap.", 0.0),
    ],
)
def test_choice(expected: str, text: str, right: float) -> None:
    assert score("choice", expected, text) == right


@pytest.mark.parametrize(
    ("expected", "text", "right"),
    [
        ("Paris", "Paris.", 1.0),
        ("Paris", "paris", 1.0),
        ("Paris", "It took me a while.\nThe answer is Paris", 1.0),
        (["Paris", "the capital"], "The capital", 1.0),
        ("Paris", "Not Paris", 0.0),
        ("Straße", "STRASSE", 1.0),
        ("Paris", r"It is \boxed{\text{Paris}}", 1.0),
    ],
)
def test_exact(expected: Any, text: str, right: float) -> None:
    assert score("exact", expected, text) == right


@pytest.mark.parametrize(
    ("expected", "text", "right"),
    [(r"\b4\d\b", "It is 42.", 1.0), (r"^yes", "no\nyes", 1.0), (r"\b4\d\b", "It is 142.", 0.0), ("(", "x", None)],
)
def test_regex(expected: str, text: str, right: float | None) -> None:
    assert score("regex", expected, text) == right


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("expected", "text", "schema", "right"),
    [
        ({"a": 1, "b": [2]}, '{"b": [2.0], "a": 1}', False, 1.0),
        ({"a": 1}, 'Here:\n```json\n{"a": 1}\n```', False, 1.0),
        ({"a": 1}, 'It is {"a": 1}, I think.', False, 1.0),
        ({"a": 1}, '{"a": 2}', False, 0.0),
        ({"a": 1}, "none", False, 0.0),
        ({"a": 1}, 'The set {1, 2} gives:\n{"a": 1}', False, 1.0),
        ({"a": 1}, 'Input {"q": 0} leads to {"a": 1}', False, 1.0),
        (SCHEMA, '{"n": 3}', True, 1.0),
        (SCHEMA, '{"n": "3"}', True, 0.0),
    ],
)
def test_json(expected: Any, text: str, schema: bool, right: float) -> None:
    assert score("json", expected, text, schema=schema) == right


def test_only_letters_of_the_options_count() -> None:
    assert score("choice", "B", "The answer is (B), that is what\nI", options=4) == 1.0
    assert score("choice", "B", "(B)\nI", options=["x", "y"]) == 1.0
    assert score("choice", "B", "(B)\nI") == 0.0


class _Asked(BaseHTTPRequestHandler):
    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


def test_a_schema_that_leads_elsewhere_is_none_and_nothing_is_fetched() -> None:
    with HTTPServer(("127.0.0.1", 0), _Asked) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/schema.json"
            assert score("json", {"$ref": address}, "{}", schema=True) is None
        finally:
            server.shutdown()
            thread.join()
    assert _Asked.seen == []
    for wrong in ({"$ref": "#/$defs/none"}, {"type": 3}, {"type": "string", "pattern": "("}, {"$ref": "#"}):
        assert score("json", wrong, '"text"', schema=True) is None
    assert score("json", {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, "3", schema=True) == 1.0


def test_an_answer_too_deep_for_its_schema_is_wrong_and_the_item_stays() -> None:
    nested = {"type": "object", "properties": {"in": {"$ref": "#"}}}
    assert score("json", nested, '{"in": ' * 3 + "{}" + "}" * 3, schema=True) == 1.0
    assert score("json", nested, '{"in": ' * 400 + "{}" + "}" * 400, schema=True) == 0.0


def test_instructions_must_all_be_kept_and_an_unknown_one_is_not_wrong() -> None:
    rules = [
        {"id": "punctuation:no_comma", "arguments": {}},
        {"id": "length_constraints:number_words", "arguments": {"relation": "at least", "num_words": 3}},
    ]
    assert score("instructions", rules, "one two three") == 1.0
    assert score("instructions", rules, "one, two, three") == 0.0
    assert score("instructions", [*rules, {"id": "new:kind", "arguments": {}}], "one two three") is None


def test_a_grade_says_what_was_read() -> None:
    item = Item("one", (Message("user", "?"),), "number", 72)
    assert PURE["number"](item, "I get 71.").why == "read 71, expected 72"


EXPECTED: dict[str, Any] = {
    "number": 72,
    "choice": "B",
    "exact": "Paris",
    "regex": "a+b",
    "json": {"a": 1},
    "instructions": [
        {"id": "detectable_format:number_highlighted_sections", "arguments": {"num_highlights": 2}},
        {"id": "length_constraints:number_sentences", "arguments": {"relation": "at least", "num_sentences": 2}},
        {"id": "combination:two_responses", "arguments": {}},
    ],
}


@given(
    st.text(alphabet=st.sampled_from(list("aB*#[]{}()\"'.,\\/ \n0123456789-–\x00\ud83d")), max_size=300),
    st.sampled_from(list(PURE)),
)
def test_any_text_has_a_grade(text: str, match: str) -> None:
    assert score(match, EXPECTED[match], text) in (0.0, 1.0)


@pytest.mark.parametrize("match", list(PURE))
@pytest.mark.parametrize(
    "piece", ["*a", "[a", "1,", "a b. ", "- \n", "{", "####", "\\boxed{", "answer is ", "answer ", "option "]
)
def test_long_texts_are_graded_in_time(match: str, piece: str) -> None:
    begun = perf_counter()
    score(match, EXPECTED[match], piece * (200_000 // len(piece)))
    assert perf_counter() - begun < 10


def test_answers_without_measure_are_wrong_and_end_nothing() -> None:
    """A model that repeats itself may write any depth of brackets and any number."""
    for depth in (300, 500, 900, 5000):
        assert score("json", {"a": 1}, "[" * depth + "]" * depth) == 0.0
    assert score("number", "42", "1/3e400") == 0.0


def test_a_choice_that_is_no_letter_of_an_option_is_not_graded() -> None:
    assert score("choice", "Paris", "The answer is B.") is None
    assert score("choice", "D", "The answer is D.", options=3) is None
    assert score("choice", "(c)", "The answer is C.", options=3) == 1.0
