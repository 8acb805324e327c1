"""vote: values counted by weight and certainty, an exit as soon as the winner is settled."""

from __future__ import annotations

import random

import pytest
from fusion_fakes import FakeEngine, engines_of, hang, later, prefers, recipe_of, request_of

from local_fusion.answers import Reader
from local_fusion.fusion.events import EarlyExit, Listener
from local_fusion.fusion.fuse import fuse

ASK = "What is 47 + 38?"


async def test_the_value_of_the_greater_number_wins_in_the_words_of_the_most_certain():
    engines = engines_of(
        a=FakeEngine("a", "The sum is 85.", certainty=0.6),
        b=FakeEngine("b", "It is 86.", certainty=0.9),
        c=FakeEngine("c", "85", certainty=0.7),
        judge="x",
    )
    fused = await fuse(request_of(ASK), recipe_of(mode="vote"), engines)
    assert (fused.text, fused.model) == ("85", "c")
    assert fused.receipt.why == "2 of 3 answers agree (number)"
    assert engines["judge"].reads == engines["judge"].calls == []


async def test_weight_counts():
    panel = [{"model": "a"}, {"model": "b", "weight": 3.0}, {"model": "c"}]
    engines = engines_of(a="85", b="86", c="85", judge="x")
    fused = await fuse(request_of(ASK), recipe_of(mode="vote", panel=panel), engines)
    assert fused.model == "b"


async def test_a_tie_goes_to_the_most_certain():
    engines = engines_of(a=FakeEngine("a", "85", certainty=0.7), b=FakeEngine("b", "86", certainty=0.8), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(("a", "b", "judge"), mode="vote"), engines)
    assert fused.model == "b"


async def test_without_certainty_each_votes_with_its_whole_weight():
    engines = {
        name: FakeEngine(name, text, certainty=None) for name, text in zip("abc", ("85", "86", "86"), strict=True)
    }
    fused = await fuse(request_of(ASK), recipe_of(mode="vote"), engines | {"judge": FakeEngine("judge")})
    assert fused.model == "b"


async def test_members_are_aborted_as_soon_as_the_winner_cannot_change():
    engines = engines_of(a="85", b="It is 85.", c="85", d=lambda call: hang(), e=lambda call: hang(), judge="x")
    heard = []
    recipe = recipe_of(("a", "b", "c", "d", "e", "judge"), mode="vote")
    fused = await fuse(request_of(ASK), recipe, engines, Listener(heard.append))
    assert fused.receipt.early_exit
    assert fused.receipt.aborted == 2
    assert fused.receipt.failures == ()
    assert fused.degraded == ()
    assert len(engines["d"].cancelled) == len(engines["e"].cancelled) == 1
    assert [event.aborted for event in heard if isinstance(event, EarlyExit)] == [2]


async def test_nobody_is_aborted_while_a_vote_that_is_out_could_still_win():
    engines = engines_of(
        a=FakeEngine("a", "85", certainty=0.4),
        b=FakeEngine("b", "85", certainty=0.4),
        c=FakeEngine("c", lambda call: later(0.05, "86"), certainty=0.95),
        judge="x",
    )
    fused = await fuse(request_of(ASK), recipe_of(mode="vote"), engines)
    assert fused.model == "c"
    assert not fused.receipt.early_exit


async def test_early_exit_can_be_switched_off():
    engines = engines_of(a="85", b="85", c=lambda call: later(0.05, "85"), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(mode="vote", early_exit=False), engines)
    assert len(fused.receipt.answers) == 3


async def test_an_exit_waits_for_the_quorum():
    engines = engines_of(a="85", b="85", c=lambda call: later(0.05, "85"), judge="x")
    fused = await fuse(request_of(ASK), recipe_of(mode="vote", quorum=3), engines)
    assert len(fused.receipt.answers) == 3


async def test_an_answer_that_cannot_be_read_abstains():
    engines = engines_of(
        a="85", b="no number here at all, sorry, I would rather talk of something else entirely", c="85"
    )
    fused = await fuse(request_of(ASK), recipe_of(mode="vote", judge="a"), engines)
    assert fused.text == "85"
    assert "1 could not be read" in fused.receipt.why


async def test_answers_without_a_common_value_go_to_the_judge():
    engines = engines_of(
        a="alpha " * 60, b="beta " * 60, c="gamma " * 60, judge=FakeEngine("judge", read=prefers("gamma"))
    )
    fused = await fuse(request_of("Tell me a story."), recipe_of(mode="vote"), engines)
    assert fused.model == "c"
    assert fused.receipt.mode == "best-of"
    assert fused.receipt.notes == ("the answers cannot be compared by value, so the judge chose instead of a vote",)


@pytest.mark.parametrize("deadline", [0.1])
async def test_at_the_deadline_the_votes_that_are_in_count(deadline):
    engines = engines_of(a="85", b="85", c=lambda call: hang(), d=lambda call: hang(), judge="x")
    recipe = recipe_of(("a", "b", "c", "d", "judge"), mode="vote", deadline_s=deadline)
    fused = await fuse(request_of(ASK), recipe, engines)
    assert fused.text == "85"
    assert fused.degraded == ("2 of 4 panel answers are missing (2 deadline)",)


APPLES = "How many apples are 40 and 45 apples together?"


@pytest.mark.parametrize("early_exit", [True, False])
@pytest.mark.parametrize("mode", ["vote", "auto"])
async def test_one_that_says_no_number_does_not_outvote_those_that_do(mode, early_exit):
    engines = {
        "a": FakeEngine("a", "It comes to 85 fruits.", certainty=0.8),
        "b": FakeEngine("b", "85.", certainty=0.85),
        "c": FakeEngine("c", lambda call: later(0.1, "I do not know."), certainty=0.99),
        "judge": FakeEngine("judge", read=prefers("do not know")),
    }
    fused = await fuse(request_of(APPLES), recipe_of(mode=mode, early_exit=early_exit), engines)
    assert fused.text == "85."
    assert fused.receipt.early_exit is early_exit


@pytest.mark.parametrize("early_exit", [True, False])
async def test_no_early_exit_where_the_kind_of_value_may_still_change(early_exit):
    """By their words two lead by more than is out; but one more number makes it a question of numbers."""
    said = {"a": "plenty", "b": "plenty", "c": "It comes to 85 fruits.", "d": "85."}
    engines = {name: FakeEngine(name, text, certainty=None if name in "ab" else 0.9) for name, text in said.items()}
    engines |= engines_of(e=lambda call: later(0.1, "85"), judge="x")
    recipe = recipe_of((*"abcde", "judge"), mode="vote", early_exit=early_exit)
    fused = await fuse(request_of(APPLES), recipe, engines)
    assert fused.receipt.early_exit is False
    assert "85" in fused.text


@pytest.mark.parametrize("seed", range(40))
async def test_an_early_exit_finds_what_the_whole_panel_finds(seed):
    draw = random.Random(seed)
    said = [draw.choice(["85", "85.", "84", "plenty", "It comes to 85 fruits.", "I do not know."]) for _ in range(5)]
    sure = [draw.choice([0.5, 0.9, 0.99, None]) for _ in range(5)]
    names = tuple("abcde")
    texts = []
    for early_exit in (True, False):
        engines = {
            name: FakeEngine(name, lambda call, n=n: later(0.002 * n, said[n]), certainty=sure[n])
            for n, name in enumerate(names)
        }
        engines["judge"] = FakeEngine("judge")
        recipe = recipe_of((*names, "judge"), mode="vote", early_exit=early_exit)
        fused = await fuse(request_of(APPLES), recipe, engines)
        texts.append(Reader(APPLES).compare([fused.text, "85"]).keys)
    assert texts[0] == texts[1]
