"""Comparers hold over any text: they never raise, are the same each time, and see through form alone."""

from __future__ import annotations

import json
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_fusion.answers import COMPARERS, Comparer, Reader, comparable
from local_fusion.answers.kinds import canonical_json
from local_fusion.answers.numbers import numbers_in, read_number
from local_fusion.answers.text import Text

ANY_TEXT = st.text(max_size=300) | st.text(alphabet="0123456789.,/-+eE^*×$%{}\\boxed#answer is\n ", max_size=120)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_any_text_is_read_without_an_error_and_alike_each_time(question, answer):
    for comparer in COMPARERS:
        value = comparer.read(Text(question), Text(answer))
        assert value is None or isinstance(value, str)
        assert comparer.read(Text(question), Text(answer)) == value


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT, st.lists(ANY_TEXT, max_size=5))
def test_a_strict_comparison_has_a_value_of_at_least_half_and_is_one_value_long(question, answers):
    found = comparable(question, answers)
    if found is not None:
        assert 2 * sum(key is not None for key in found.keys) >= len(answers)
        assert len(found.keys) == len(answers)
        assert Reader(question).compare(answers) == found


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_and_sentences_change_no_number(value):
    question = "How many are there?"
    forms = [str(value), f"{value:,}", f"There are {value}.", f"The answer is {value:,}.", f"\\boxed{{{value}}}"]
    assert {read_number(Text(question), Text(form)) for form in forms} == {str(value)}


@settings(max_examples=100, deadline=None)
@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_is_in_lowest_terms(over, under):
    assert numbers_in(f"{over}/{under}") == [Fraction(over, under)]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, min_size=1, max_size=5), st.randoms())
def test_key_order_and_spacing_change_no_json(value, draw):
    keys = list(value)
    draw.shuffle(keys)
    shuffled = json.dumps({key: value[key] for key in keys}, indent=draw.choice([None, 2]))
    assert canonical_json(shuffled) == canonical_json(json.dumps(value)) is not None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["85", "86", "It is 85.", "The sum is 86."]), min_size=1, max_size=6), st.randoms())
def test_the_order_of_answers_changes_no_value(answers, draw):
    shuffled = list(answers)
    draw.shuffle(shuffled)
    question = "What is 47 + 38?"
    first, second = comparable(question, answers), comparable(question, shuffled)
    assert first is not None
    assert second is not None
    assert sorted(map(str, first.keys)) == sorted(map(str, second.keys))


HUGE = (
    "The answer is 1234567890123456789012345678901234567890.1234567890123456789012345678901234567891^99",
    "The answer is " + "1" + ",000" * 480,
    "The answer is 123" + ",456" * 60 + "^99",
    "The answer is 123" + ",456" * 160 + "e999",
    "The answer is 1/" + "9" * 40 + "e-999",
    "The answer is 9" + ",999" * 90 + "×10^999",
)


@pytest.mark.parametrize("answer", HUGE)
def test_a_number_too_long_to_write_is_no_value(answer):
    assert read_number(Text("What is 2 + 2?"), Text(answer)) is None
    assert read_number(Text("What is 2 + 2? " + answer), Text("The answer is 4.")) == "4"
    found = Reader("What is 2 + 2?").compare([answer, "The answer is 4.", "4."])
    assert found.keys == (None, "4", "4")


def test_powers_of_ten_and_long_numbers_are_read_as_before():
    assert numbers_in("1e300")[0] == 10**300
    assert numbers_in("12^99")[0] == 12**99
    assert numbers_in("2.5e-20 and 3 1/2 and 1,234,567") == [Fraction(5, 2 * 10**20), Fraction(7, 2), 1234567]


def test_an_answer_that_breaks_a_comparer_has_no_value_and_the_others_have_theirs():
    def read(question, answer):
        if "bad" in answer.text:
            raise OverflowError("too large")
        return answer.text

    found = Reader("", (Comparer("text", read),)).compare(["a", "bad", "a"])
    assert found.keys == ("a", None, "a")


PIECES = (
    "9^9",
    "1,000e999 ",
    *("a", "1", "\n", " ", "'", '"', "1,", "a,", "(A", "A) ", "is ", "= 1", "{", "[1,", "answer is ", "answer is\n"),
    *("#### ", "\\boxed{", "\\frac{1}{", "1/", "1 ", "may 1", "- ", "**", ".", "ﷺ", "1^", "e9", "```\n", "a'"),
)


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long_to_read(piece):
    long = piece * (60_000 // len(piece))
    begun = time.process_time()
    for question, answer in ((long, long), ("How many?\n" + long, "Sort it. answer is" + long), (long, "short")):
        for comparer in COMPARERS:
            comparer.read(Text(question), Text(answer))
    assert time.process_time() - begun < 3
