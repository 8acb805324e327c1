"""A vote in waves: no more samples are asked for than the count needs."""

from __future__ import annotations

import pytest
from fusion_fakes import FakeEngine, engines_of, later, recipe_of, request_of
from hypothesis import given
from hypothesis import strategies as st

from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.events import EarlyExit, Listener
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.waves import leads

ASK = "What is 47 + 38?"
THREE_EACH = [{"model": name, "samples": 3} for name in "abc"]


def recipe(confidence=0.8, panel=THREE_EACH, **settings):
    return recipe_of(mode="vote", panel=panel, exit_confidence=confidence, **settings)


async def test_agreement_in_the_first_wave_ends_the_vote():
    engines = engines_of(a="85", b="It is 85.", c="85", judge="x")
    heard = []
    fused = await fuse(request_of(ASK), recipe(), engines, Listener(heard.append))
    assert [len(engines[name].calls) for name in "abc"] == [1, 1, 1]
    assert fused.receipt.early_exit
    assert fused.receipt.aborted == 6
    assert fused.receipt.why == "3 of 3 answers agree (number); 6 more would hardly have changed it and were stopped"
    assert [event.aborted for event in heard if isinstance(event, EarlyExit)] == [6]
    assert fused.degraded == ()


async def test_disagreement_asks_for_more():
    said = {"a": iter(["85", "85", "85"]), "b": iter(["86", "85", "85"]), "c": iter(["87", "85", "85"])}
    engines = {name: FakeEngine(name, lambda call, of=texts: next(of)) for name, texts in said.items()}
    fused = await fuse(request_of(ASK), recipe(0.85), engines | {"judge": FakeEngine("judge")})
    assert [len(engines[name].calls) for name in "abc"] == [2, 2, 2]
    assert fused.text == "85"


async def test_without_a_confidence_all_samples_are_asked_for():
    engines = engines_of(a="85", b="85", c="85", judge="x")
    await fuse(request_of(ASK), recipe(None, early_exit=False), engines)
    assert [len(engines[name].calls) for name in "abc"] == [3, 3, 3]


async def test_a_wave_too_small_for_the_quorum_is_not_the_last():
    engines = engines_of(a="85", b="85", c="85", judge="x")
    fused = await fuse(request_of(ASK), recipe(quorum=4), engines)
    assert len(fused.receipt.answers) == 6


async def test_a_wave_that_fails_is_followed_by_the_next_and_named():
    tries = iter([CallError("it broke"), "85", "85"])
    engines = engines_of(a=lambda call: next(tries), judge="x")
    panel = [{"model": "a", "samples": 3}]
    fused = await fuse(request_of(ASK), recipe(0.7, panel=panel), engines)
    assert fused.text == "85"
    assert len(engines["a"].calls) == 2
    assert fused.degraded == ("1 of 2 panel answers are missing (engine_error)",)


async def test_nothing_at_all_is_an_error():
    engines = engines_of(a=lambda call: CallError("it broke"), judge="x")
    with pytest.raises(FusionError) as caught:
        await fuse(request_of(ASK), recipe(panel=[{"model": "a", "samples": 2}]), engines)
    assert caught.value.code == "all_panels_failed"


@pytest.mark.parametrize(("first", "second", "expected"), [(3, 0, 0.9375), (2, 1, 0.6875), (0, 0, 0.5), (1, 1, 0.5)])
def test_the_rule_is_that_of_a_beta_distribution(first, second, expected):
    assert leads(first, second) == pytest.approx(expected, abs=1e-6)


@given(st.floats(0, 100), st.floats(0, 100))
def test_more_votes_for_the_leader_never_make_it_less_sure(first, second):
    assert leads(first + 1, second) >= leads(first, second) - 1e-6
    assert leads(first, second) + leads(second, first) == pytest.approx(1.0, abs=1e-5)


async def test_the_grace_time_begins_with_the_quorum_and_not_with_a_failure():
    panel = [{"model": name, "samples": 2} for name in "abc"]
    engines = engines_of(a=lambda call: CallError("down"), judge="x")
    for name in "bc":
        engines[name] = FakeEngine(name, lambda call: later(0.6, "8"))
    recipe = recipe_of(
        ("a", "b", "c", "judge"), panel=panel, mode="vote", exit_confidence=0.6, straggler_grace_s=0.1, quorum=2
    )
    fused = await fuse(request_of("What is 4 + 4?"), recipe, engines)
    assert {answer.model for answer in fused.receipt.answers} == {"b", "c"}
    assert {failure.reason for failure in fused.receipt.failures} == {"engine_error"}
