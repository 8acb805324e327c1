"""best-of: a choice by label reads, averaged over orders, near ties read as a pair."""

from __future__ import annotations

import asyncio
import math

import pytest
from fusion_fakes import FakeEngine, completion, engines_of, prefers, recipe_of, request_of

from local_fusion.errors import CallError
from local_fusion.fusion.events import Chosen, Listener
from local_fusion.fusion.fuse import fuse
from local_fusion.types import Sampling


def panel(**judge):
    return engines_of(a="alpha speaks", b="beta speaks", c="gamma speaks", judge=FakeEngine("judge", **judge))


async def test_the_chosen_answer_is_returned_as_it_is():
    heard = []
    fused = await fuse(request_of(), recipe_of(mode="best-of"), panel(read=prefers("beta")), Listener(heard.append))
    assert (fused.text, fused.model, fused.finish_reason) == ("beta speaks", "b", "stop")
    assert fused.receipt.mode == "best-of"
    assert fused.receipt.choice.winner == 1
    assert sum(fused.receipt.choice.probabilities) == pytest.approx(1)
    assert [event.model for event in heard if isinstance(event, Chosen)] == ["b"]
    assert fused.degraded == ()


async def test_a_liking_for_the_first_place_cancels_over_a_whole_turn_of_orders():
    def biased(call):
        wish = prefers("gamma")(call)
        return [value / 5 + (3.0 if place == 0 else 0.0) for place, value in enumerate(wish)]

    fused = await fuse(request_of(), recipe_of(mode="best-of", rotations=3, tie_margin=0), panel(read=biased))
    assert fused.model == "c"
    unbiased = 1 / (1 + 2 * math.exp(-1))
    assert fused.receipt.choice.probabilities == pytest.approx(((1 - unbiased) / 2, (1 - unbiased) / 2, unbiased))


async def test_a_near_tie_is_read_as_a_pair_in_both_orders_over_the_same_prefix():
    def read(call):
        if call.stage == "pair":
            return [-1.0 if "gamma" in body_of(call, label) else -0.2 for label in call.labels]
        return [-5.0 if "alpha" in body_of(call, label) else -0.7 for label in call.labels]

    def body_of(call, label):
        text = call.messages[-1].content
        start = text.find(f"<answer {label} ")
        return text[start : text.find("</answer", start)]

    engines = panel(read=read)
    fused = await fuse(request_of(), recipe_of(mode="best-of"), engines)
    assert fused.model == "b"
    assert fused.receipt.choice.paired
    pairs = [call for call in engines["judge"].reads if call.stage == "pair"]
    assert len(pairs) == 2
    assert pairs[0].labels == pairs[1].labels
    assert pairs[0].messages[-1].content != pairs[1].messages[-1].content


async def test_two_answers_read_in_both_orders_need_no_pair():
    engines = engines_of(a="alpha", b="beta", judge=FakeEngine("judge", read=lambda call: [-0.7, -0.7]))
    await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert [call.stage for call in engines["judge"].reads] == ["pick", "pick"]


async def test_answers_that_say_the_same_share_their_mass():
    def read(call):
        return [-0.9 if "gamma" in body else -1.2 for body in bodies(call)]

    def bodies(call):
        text = call.messages[-1].content
        return [text[text.find(f"<answer {label} ") :].split("</answer")[0] for label in call.labels]

    engines = engines_of(a="alpha", b="alpha", c="gamma", judge=FakeEngine("judge", read=read))
    fused = await fuse(request_of(), recipe_of(mode="best-of", tie_margin=0), engines)
    assert fused.text == "alpha"


async def test_the_same_text_everywhere_needs_no_judge():
    engines = engines_of(a="alpha", b="alpha ", judge="x")
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert fused.text == "alpha"
    assert engines["judge"].reads == []
    assert "no judge was asked" in fused.receipt.why


async def test_one_answer_needs_no_judge():
    engines = engines_of(a="alpha", b="", judge="x")
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert fused.text == "alpha"
    assert engines["judge"].reads == []


@pytest.mark.parametrize("read", [lambda call: CallError("down"), lambda call: [0.0], lambda call: ValueError("x")])
async def test_a_judge_that_fails_leaves_agreement_weight_and_certainty(read):
    engines = engines_of(
        a=FakeEngine("a", "alpha", certainty=0.5),
        b=FakeEngine("b", "beta", certainty=0.8),
        c=FakeEngine("c", "gamma", certainty=0.6),
        judge=FakeEngine("judge", read=read),
    )
    fused = await fuse(request_of(), recipe_of(mode="best-of"), engines)
    assert fused.text == "beta"
    assert fused.degraded == ("the judge could not choose; the answer was taken by agreement, weight and certainty",)
    assert {failure.stage for failure in fused.receipt.failures} == {"pick"}


async def test_without_a_judge_the_greater_number_wins_over_the_most_certain():
    engines = engines_of(
        a="It is 85.",
        b=FakeEngine("b", "It is 86.", certainty=0.99),
        c="85",
        judge=FakeEngine("judge", read=lambda call: CallError("down")),
    )
    fused = await fuse(request_of("What is 47 + 38?"), recipe_of(mode="best-of"), engines)
    assert fused.model in "ac"


async def test_one_failed_read_of_two_is_enough():
    reads = iter([CallError("once"), [0.0, -9.0, -9.0]])
    fused = await fuse(request_of(), recipe_of(mode="best-of"), panel(read=lambda call: next(reads)))
    assert fused.receipt.choice.rotations == 1
    assert fused.degraded == ()


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
async def test_labels_that_the_engine_did_not_see_do_not_break_the_mean(bad):
    def read(call):
        return [value if value == 0.0 else bad for value in prefers("beta")(call)]

    fused = await fuse(request_of(), recipe_of(mode="best-of"), panel(read=read))
    assert fused.model == "b"
    assert sum(fused.receipt.choice.probabilities) == pytest.approx(1)


async def test_the_client_s_schema_length_and_stop_hold_for_the_chosen_answer_but_not_its_temperature():
    engines = engines_of(a='{"x": 1} END more', b="", judge="x")
    request = request_of(
        sampling=Sampling(temperature=0.0, stop=("END",)), max_tokens=50, json_schema={"type": "object"}
    )
    fused = await fuse(request, recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    (call,) = engines["a"].calls
    assert call.json_schema == {"type": "object"}
    assert call.sampling.max_tokens == 50
    assert call.sampling.temperature == 0.7
    assert call.sampling.stop == ()
    assert fused.text == '{"x": 1} '
    assert fused.finish_reason == "stop"


async def test_a_cut_answer_says_length():
    engines = engines_of(a=lambda call: completion(call, "half", "length"), judge="x")
    fused = await fuse(request_of(), recipe_of(("a", "judge"), mode="best-of"), engines)
    assert fused.finish_reason == "length"


async def test_a_long_request_is_read_once_before_the_other_orders():
    order = []

    async def read(call):
        order.append("begin")
        await asyncio.sleep(0.01)
        order.append("end")
        return [0.0, -9.0, -9.0]

    await fuse(request_of("long " * 600), recipe_of(mode="best-of", rotations=3, tie_margin=0), panel(read=read))
    assert order == ["begin", "end", "begin", "begin", "end", "end"]
