"""The generated questions: the same for the same seed, never shared between splits, gradable."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import pytest

from local_fusion.zoo.__main__ import main
from local_fusion.zoo.grading import grade, stated_value
from local_fusion.zoo.questions import SKILLS, draw_question, questions, split_of


def test_the_same_seed_draws_the_same_questions() -> None:
    assert questions(7, 100, "heldout") == questions(7, 100, "heldout")
    assert questions(7, 100, "heldout") != questions(8, 100, "heldout")


def test_splits_share_no_content_and_skills_come_in_equal_shares() -> None:
    trained, unseen = questions(1, 800, "train"), questions(1, 400, "heldout")
    assert not {one.content for one in trained} & {one.content for one in unseen}
    assert all(split_of(one.content) == "heldout" for one in unseen)
    assert Counter(one.skill for one in unseen) == dict.fromkeys(SKILLS, 100)
    assert len({one.content for one in unseen}) == 400


def test_wording_never_decides_the_split() -> None:
    draw = random.Random(3)
    splits: dict[str, set[str]] = {}
    for _ in range(4000):
        question = draw_question(draw, "numbers", draw.choice(("train", "heldout")))
        splits.setdefault(question.content, set()).add(split_of(question.content))
    assert all(len(found) == 1 for found in splits.values())


def test_every_right_sentence_is_graded_right_and_another_answer_wrong() -> None:
    asked = questions(2, 400, "train")
    for one, other in itertools.pairwise(asked):
        assert grade(one.expected, one.answer), one
        if one.expected != other.expected:
            assert not grade(one.expected, other.answer) or other.expected in one.expected


@pytest.mark.parametrize(
    ("expected", "text", "right"),
    [
        ("85", "47 + 38 = 85", True),
        ("85", "The sum is 85.", True),
        ("85", "The sum is 185.", False),
        ("85", "", False),
        ("-3", "It is -3.", True),
        ("planet", "Backwards it is 'planet'.", True),
        ("planet", 'It is "planet", I think.', True),
        ("planet", "Backwards it is 'planets'.", False),
        ("p", "The first letter is 'p'.", True),
        ("2, 4, 7", "In order they are 2, 4, 7.", True),
        ("2, 4, 7", "Sorted: 2, 4 and 7.", True),
        ("b, d, k", "Perhaps b, d, k, but I do not know.", True),
        ("2, 4, 7", "Sorted: 2, 4, and 7.", True),
        ("2, 4, 7", "In order they are 2, 7, 4.", False),
        ("March 17", "It is March 17.", True),
        ("March 17", "March 12 plus five days is march 17.", True),
        ("March 17", "It is May 17.", False),
    ],
)
def test_grade(expected: str, text: str, right: bool) -> None:
    assert grade(expected, text) is right


def test_stated_value_is_none_without_a_value() -> None:
    assert stated_value("I cannot say.", like="85") is None


def test_the_command_writes_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["questions", "--count", "8", "--seed", "5"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == 8
    assert all(set(row) == {"id", "prompt", "expected", "skill"} for row in rows)


def test_asking_for_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="ran out"):
        questions(1, 4000, "heldout")


def test_the_command_refuses_more_than_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["questions", "--count", "4000", "--seed", "1"]) == 2
    told = capsys.readouterr()
    assert (told.out, "ran out; ask for fewer" in told.err) == ("", True)
