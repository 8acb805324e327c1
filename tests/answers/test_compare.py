"""Values read out of answers: by example, by kind, and over the sentences that the shipped models say."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

from local_fusion.answers import COMPARERS, Comparer, Reader, comparable
from local_fusion.answers.text import Text
from local_fusion.zoo.questions import questions


def reading(comparer: Comparer) -> Callable[[str, str], str | None]:
    return lambda question, answer: comparer.read(Text(question), Text(answer))


READ = {comparer.kind: reading(comparer) for comparer in COMPARERS}


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("What is 47 + 38?", "The sum of 47 and 38 is 85.", "85"),
        ("What is 47 + 38?", "85 is the sum of 47 and 38.", "85"),
        ("What is 47 + 38?", "47 + 38 = 85", "85"),
        ("What is 12 + 0?", "12 + 0 = 12", "12"),
        ("What is the largest of 12, 45, 78?", "The largest is 78.", "78"),
        ("How many apples are left?", "She has 3 apples left.", "3"),
        ("How many apples are left?", "three", "3"),
        ("How much is it?", "It costs $1,234.50 in total.", "2469/2"),
        ("How much is it?", "1234.5 dollars", "2469/2"),
        ("Compute the share.", "0.75", "3/4"),
        ("Compute the share.", "3/4", "3/4"),
        ("Compute the share.", "\\frac{3}{4}", "3/4"),
        ("Compute the share.", "1 1/2", "3/2"),
        ("Compute it.", "1.2e5", "120000"),
        ("Compute it.", "1.2 × 10^5", "120000"),
        ("Compute it.", "1.2 \\times 10^{5}", "120000"),
        ("Compute it.", "−5", "-5"),
        ("Compute it.", "Reasoning about 3 and 4.\n#### 1,200", "1200"),
        ("Compute it.", "First 3, then 4, so \\boxed{\\frac{1}{2}} it is.", "1/2"),
        ("Compute it.", "Long talk. The final answer is **42**.", "42"),
        ("Tell me of Ulm.", "Einstein was born there in 1879, as you know, in the city.", None),
        ("Where was he born?", "Ulm, in the year 1879 of our era", None),
        ("Compute it.", "10^5", "100000"),
        ("How many hours?", "3:30", None),
        ("How many apples?", "between 3 and 5 apples", None),
        ("How many eggs?", "Some talk first. " * 12 + "\nShe sells 9 of them for 18 dollars", "18"),
        ("Compute it.", "1/0", None),
        ("Compute it.", "no idea", None),
    ],
)
def test_numbers(question, answer, value):
    assert READ["number"](question, answer) == value


OPTIONS = "What is it?\nA) red\nB) green\nC) blue\nD) none"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("C", "C"),
        ("(c)", "C"),
        ("C) blue", "C"),
        ("**C**", "C"),
        ("The answer is (C).", "C"),
        ("The answer is C", "C"),
        ("Answer: C) blue", "C"),
        ("A is wrong because it is red.\nThe answer is (B).", "B"),
        ("So it must be \\boxed{D}", "D"),
        ("Option B", "B"),
        ("blue", None),
        ("A cat would know.", None),
        ("Answer: E", None),
    ],
)
def test_choices(answer, value):
    assert READ["choice"](OPTIONS, answer) == value


def test_a_letter_is_no_choice_where_nothing_is_offered():
    assert READ["choice"]("What is the first letter of 'cat'?", "C") is None


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("Is 7 prime?", "Yes, it is.", "yes"),
        ("Is 7 prime?", "no", "no"),
        ("True or false: water is dry.", "False.", "no"),
        ("What is water?", "Yes.", None),
        ("Is 7 prime?", "Perhaps.", None),
    ],
)
def test_yes_or_no(question, answer, value):
    assert READ["yes or no"](question, answer) == value


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("What date is 3 days after March 14?", "It is March 17.", "03-17"),
        ("What date is 3 days after March 14?", "March 17 is 3 days after March 14.", "03-17"),
        ("When was it?", "17 March 2024", "2024-03-17"),
        ("When was it?", "on the 17th of March, 2024", "2024-03-17"),
        ("When was it?", "2024-03-17", "2024-03-17"),
        ("When was it?", "Sept. 3rd", "09-03"),
        ("When was it?", "It may be so.", None),
        ("When was it?", "2024-13-17", None),
    ],
)
def test_dates(question, answer, value):
    assert READ["date"](question, answer) == value


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("Sort the numbers 9, 3, 5.", "In order they are 3, 5, 9.", "3, 5, 9"),
        ("Sort the numbers 9, 3, 5.", "The numbers 9, 3, 5 in order are 3, 5 and 9.", "3, 5, 9"),
        ("Sort the words.", "apple, pear, plum", "apple, pear, plum"),
        ("Tell me.", "Well, Paris", None),
        ("Sort them.", "3", None),
    ],
)
def test_lists(question, answer, value):
    assert READ["list"](question, answer) == value


@pytest.mark.parametrize(
    ("question", "answer", "value"),
    [
        ("Reverse the word 'planet'.", "The reversed word is 'tenalp'.", "tenalp"),
        ("Reverse the word 'planet'.", "'planet' reversed is “tenalp”.", "tenalp"),
        ("Reverse the word 'level'.", "It is 'level'.", "level"),
        ("Reverse the word 'planet'.", "It's the dog's turn", None),
    ],
)
def test_quoted_values(question, answer, value):
    assert READ["quoted value"](question, answer) == value


@pytest.mark.parametrize(
    "answer", ["Paris", "paris.", "It is Paris.", "The capital of France is Paris.", "Paris is the capital of France!"]
)
def test_short_text_is_what_the_question_does_not_say(answer):
    assert READ["short text"]("What is the capital of France?", answer) == "paris"


def test_a_negation_is_never_dropped():
    question = "Why did it not start?"
    assert READ["short text"](question, "not the battery") != READ["short text"](question, "the battery")


@pytest.mark.parametrize("answer", ['{"b": 1.0, "a": [1, 2]}', '```json\n{"a":[1,2],"b":1}\n```'])
def test_json_is_canonical(answer):
    assert READ["JSON"]("", answer) == '{"a":[1,2],"b":1}'


@pytest.mark.parametrize("answer", ["{", "[" * 100_000, '{"a": NaN', "12", '{"a": 1} and more'])
def test_broken_json_is_no_value(answer):
    assert READ["JSON"]("", answer) is None


def test_answers_of_one_kind_are_comparable():
    found = comparable("What is 47 + 38?", ["The sum is 85.", "85", "It is 86."])
    assert found is not None
    assert found.kind == "number"
    assert found.keys == ("85", "85", "86")


def test_long_unmarked_answers_are_not_comparable():
    assert comparable("How much does inflation matter?", ["Well. " * 100 + "3 ways.", "3"]) is None


def test_long_marked_answers_are_comparable():
    found = comparable("How many?", ["Think. " * 100 + "\n#### 7", "Thus the answer is 7."])
    assert found is not None
    assert found.keys == ("7", "7")


def test_one_answer_without_a_value_abstains_unless_strict():
    answers = ["85", "85", "word " * 60]
    assert comparable("What is 47 + 38?", answers) is None
    loose = Reader("What is 47 + 38?").compare(answers)
    assert loose is not None
    assert loose.keys == ("85", "85", None)
    assert not loose.whole


def test_nothing_is_comparable_where_most_have_no_value():
    assert Reader("Tell me.").compare(["85", "word " * 60, "talk " * 60]) is None
    assert comparable("Tell me.", []) is None


REWORDED = {
    "add": ("The sum is {}.", "It is {}.", "{}", "The answer is {}."),
    "subtract": ("The difference is {}.", "It is {}.", "{}", "The answer is {}."),
    "reverse": ("Backwards it is '{}'.", "'{}'", "The reversed word is '{}'."),
    "letter": ("The letter is '{}'.", "It is '{}'."),
    "sort": ("In order they are {}.", "{}", "The order is {}."),
    "count": ("It appears {} times.", "{}", "{} times."),
    "extreme": ("It is {}.", "{}", "The answer is {}."),
    "date": ("It is {}.", "{}", "The date is {}."),
}


def test_right_answers_agree_and_wrong_ones_differ_over_generated_questions():
    draw = random.Random(3)
    asked = questions(11, 200, "heldout")
    for question, other in pairwise(asked):
        forms = draw.sample(REWORDED[question.kind], 2)
        wrong = other.expected if other.kind == question.kind and other.expected != question.expected else None
        said = [form.format(question.expected) for form in forms]
        found = comparable(question.prompt, said if wrong is None else [*said, forms[0].format(wrong)])
        assert found is not None, question
        assert found.keys[0] == found.keys[1], (question, said, found)
        if wrong is not None:
            assert found.keys[2] != found.keys[0], (question, wrong, found)


APPLES = "How many apples are 40 and 45 apples together?"


@pytest.mark.parametrize("strict", [True, False])
def test_a_particular_kind_that_half_have_goes_before_words_that_all_have(strict):
    found = Reader(APPLES).compare(["It comes to 85 fruits.", "85.", "I do not know."], strict)
    assert found is not None
    assert (found.kind, found.keys) == ("number", ("85", "85", None))
    words = Reader(APPLES).compare(["plenty", "85.", "I do not know."], strict)
    assert words is not None
    assert words.kind == "short text"


def test_half_is_of_the_weight_where_weights_are_given():
    answers = ["85", "plenty", "I do not know."]
    reader = Reader(APPLES)
    heavy, light = reader.compare(answers, weights=[3.0, 1.0, 1.0]), reader.compare(answers, weights=[1.0, 1.0, 1.0])
    assert heavy is not None
    assert light is not None
    assert (heavy.kind, light.kind) == ("number", "short text")


def test_what_may_still_be_compared_by():
    reader = Reader(APPLES)
    assert [one.kind for one in reader.possible(["85", "85"], to_come=1.0)] == ["number"]
    assert {one.kind for one in reader.possible(["plenty", "lots"], to_come=2.0)} >= {"number", "short text"}
    assert reader.possible(["85", "word " * 60], to_come=1.0) == []
    assert [one.kind for one in reader.possible(["85", "plenty"])] == ["number"]


def test_what_stands_in_the_question_is_looked_for_once():
    looked = []

    def look(text: str) -> int:
        looked.append(text)
        return len(text)

    first, second = Text("Sort a, b, c."), Text("Sort a, b, c.")
    assert [first.find(look), first.find(look), second.find(look)] == [13, 13, 13]
    assert len(looked) == 2
    comparer = Comparer("length", lambda question, answer: str(question.find(look) + answer.find(look)))
    reader = Reader("Why is it so?", [comparer])
    assert reader.compare(["it is", "so"]).keys == ("18", "15")
    assert Counter(looked[2:]) == {"Why is it so?": 1, "it is": 1, "so": 1}
