"""Comparers hold over any text: they never raise, are the same each time, and see through form alone."""

from __future__ import annotations

import json
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_fusion.answers import COMPARERS, Reader, comparable
from local_fusion.answers.kinds import read_json
from local_fusion.answers.numbers import numbers_in, read_number

ANY_TEXT = st.text(max_size=300) | st.text(alphabet="0123456789.,/-+eE$%{}\\boxed#answer is\n ", max_size=120)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_any_text_is_read_without_an_error_and_alike_each_time(question, answer):
    for comparer in COMPARERS:
        value = comparer.read(question, answer)
        assert value is None or isinstance(value, str)
        assert comparer.read(question, answer) == value


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT, st.lists(ANY_TEXT, max_size=5))
def test_a_strict_comparison_is_whole_and_one_value_long(question, answers):
    found = comparable(question, answers)
    if found is not None:
        assert found.whole
        assert len(found.keys) == len(answers)
        assert Reader(question).compare(answers) == found


@settings(max_examples=100, deadline=None)
@given(st.integers(-(10**12), 10**12))
def test_thousands_separators_and_sentences_change_no_number(value):
    question = "How many are there?"
    forms = [str(value), f"{value:,}", f"There are {value}.", f"The answer is {value:,}.", f"\\boxed{{{value}}}"]
    assert {read_number(question, form) for form in forms} == {str(value)}


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
    assert read_json("", shuffled) == read_json("", json.dumps(value)) is not None


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


PIECES = (
    *("a", "1", "\n", " ", "'", '"', "1,", "a,", "(A", "A) ", "is ", "= 1", "{", "[1,", "answer is ", "answer is\n"),
    *("#### ", "\\boxed{", "\\frac{1}{", "1/", "1 ", "may 1", "- ", "**", ".", "ﷺ", "1^", "e9", "```\n", "a'"),
)


@pytest.mark.parametrize("piece", PIECES)
def test_no_text_takes_long_to_read(piece):
    long = piece * (60_000 // len(piece))
    begun = time.process_time()
    for question, answer in ((long, long), ("How many?\n" + long, "Sort it. answer is" + long), (long, "short")):
        for comparer in COMPARERS:
            comparer.read(question, answer)
    assert time.process_time() - begun < 3
