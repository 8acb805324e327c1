"""Kinds of prompts: found by likeness, the same each time, and recognised by the table that is written."""

from __future__ import annotations

import random

import pytest

from local_fusion.calibrate.by_kind import LEAST_PROMPTS, Option, apart, compare, winner
from local_fusion.calibrate.sorting import by_given, by_likeness, rarity_of, table_of
from local_fusion.config.kinds import kind_of

FORMS = {
    "sum": "Please add {0} and {1} and tell me the sum",
    "word": "How many letters has the word {2} and which is its last letter?",
    "tongue": "Translate the sentence '{2} {3}' into French, politely",
}


def prompts(each: int, seed: int = 0) -> tuple[list[str], list[str]]:
    draw = random.Random(seed)
    names = [name for name in FORMS for _ in range(each)]
    draw.shuffle(names)

    def word() -> str:
        return "".join(draw.choice("abcdefghijklmnop") for _ in range(6))

    return [FORMS[name].format(draw.randint(2, 99), draw.randint(2, 99), word(), word()) for name in names], names


def test_clusters_are_the_kinds_that_are_there() -> None:
    texts, names = prompts(40)
    found = by_likeness(texts, 20)
    assert len(found.centre) == 3
    assert len(set(zip(found.label, names, strict=True))) == 3
    assert found.recovered > 0.9
    assert by_likeness(texts, 20) == found


def test_a_table_knows_new_prompts_of_its_kinds_and_no_strangers() -> None:
    texts, names = prompts(40)
    found = by_given(texts, names)
    table = table_of(found, {name: ({"mode": "vote"}, 40, "won") for name in found.centre}, 1)
    later, expected = prompts(20, seed=9)
    told = [kind_of(table, text) for text in later]
    right = sum(one is not None and one.kind.name == name for one, name in zip(told, expected, strict=True))
    assert right >= 0.9 * len(later)
    assert kind_of(table, "Write a poem on autumn winds") is None


def test_words_of_one_prompt_alone_do_not_enter_the_table() -> None:
    texts, _ = prompts(10)
    assert "xylophone" not in rarity_of([*texts, "Please add xylophone"])
    assert "add" in rarity_of(texts)


@pytest.mark.parametrize("texts", [["What is it?"] * 3, ["a", "b", "c", "d"], [f"x{n} y{n}" for n in range(80)]])
def test_what_cannot_be_parted_is_one_kind(texts: list[str]) -> None:
    assert len(by_likeness(texts, 2).centre) >= 1


def option(name: str, right: int, count: int, cost: float, begin: int = 0) -> Option:
    scores = {begin + place: float(place < right) for place in range(count)}
    return Option(name, {"mode": name}, scores, dict.fromkeys(scores, cost))


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        (option("surely better", 58, 60, 20), True),
        (option("as good and cheaper", 30, 60, 5), True),
        (option("as good and dearer", 30, 60, 20), False),
        (option("a little better and dearer", 31, 60, 20), False),
        (option("worse and cheaper", 29, 60, 1), False),
        (option("better, on few", 20, 20, 5), False),
        (option("surely better, on others", 58, 60, 20, 1000), True),
        (option("as good and cheaper, on others", 30, 60, 5, 1000), False),
    ],
    ids=lambda value: value.name if isinstance(value, Option) else "",
)
def test_a_recipe_is_kept_only_on_enough_evidence(other: Option, kept: bool) -> None:
    found = winner(range(2000), option("present", 30, 60, 10), [other])
    assert (found.option is not None) is kept, found.why


def test_equal_means_are_no_gain() -> None:
    """0.1 + 0.1 + 0.4 and 0.3 + 0.2 + 0.1, in floats a hair apart, for less."""
    scores = [dict(enumerate(marks * 20)) for marks in ([0.3, 0.2, 0.1], [0.1, 0.1, 0.4])]
    for mine, theirs in (scores, scores[::-1]):
        found = compare(range(60), Option("one", {}, mine, mine), Option("other", {}, theirs, theirs), LEAST_PROMPTS)
        assert found is not None
        assert str(found.gain.value) == "0.0"


def test_too_few_prompts_tell_nothing() -> None:
    few = LEAST_PROMPTS - 1
    found = winner(range(few), option("present", 0, few, 10), [option("perfect", few, few, 1)])
    assert found.option is None
    assert "too few" in found.why


def test_two_groups_are_told_apart_with_an_interval() -> None:
    surely = apart([1.0] * 50, [0.0] * 50)
    assert (surely.value, surely.low) == (1.0, 1.0)
    chance = apart([1.0, 0.0] * 20, [0.0, 1.0] * 20)
    assert chance.low < 0 < chance.high
