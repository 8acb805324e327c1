"""Where guard or writer cannot do their part: never less than the best panel answer, in the form asked for."""

from __future__ import annotations

import pytest
from fusion_fakes import FakeEngine, completion, engines_of, hang, judge_says, prefers, recipe_of, request_of

from local_fusion.errors import CallError
from local_fusion.fusion.fuse import fuse

TWO = ("a", "b", "judge")


def panel(read):
    return engines_of(a="alpha speaks", b="beta speaks", judge=FakeEngine("judge", judge_says(), read))


@pytest.mark.parametrize("orders", [(True, True), (True, False), (False, True)], ids=["both", "first", "second"])
async def test_a_guard_that_fails_in_an_order_returns_the_best_panel_answer(orders):
    def read(call):
        if call.stage != "guard":
            return prefers("beta")(call)
        return CallError("down") if orders[int(call.id.rsplit("/", 2)[1])] else [0.0, -9.0]

    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), panel(read=read))
    assert (fused.text, fused.model) == ("beta speaks", "b")
    assert fused.receipt.verdict is None
    assert fused.degraded == ("the guard could not compare; the best panel answer is returned",)
    assert fused.receipt.why.endswith("but the guard could not compare it with the best one")


async def test_a_guard_that_fails_keeps_what_was_written_where_the_best_answer_is_cut():
    read = lambda call: CallError("down") if call.stage == "guard" else prefers("beta")(call)  # noqa: E731
    engines = panel(read=read)
    engines["b"].say = lambda call: completion(call, "beta spe", "length")
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines)
    assert fused.text == "the final answer"
    assert "unchecked" in fused.degraded[-1]


async def test_the_deadline_while_the_guard_compares_returns_the_best_panel_answer():
    read = lambda call: hang() if call.stage == "guard" else prefers("beta")(call)  # noqa: E731
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge", deadline_s=0.8), panel(read=read))
    assert fused.text == "beta speaks"
    assert fused.degraded == ("the deadline passed before the guard could compare; the best panel answer is returned",)


async def test_without_a_writer_the_best_answer_that_has_the_form_is_returned():
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    engines = engines_of(
        a='{"x": 1}',
        b="beta is prose",
        c='{"x": 3}',
        judge=FakeEngine("judge", judge_says(lambda call: CallError("down")), prefers("beta")),
    )
    plain = engines["judge"].read
    shown = lambda call, text: dict(zip(call.labels, prefers(text)(call), strict=True))  # noqa: E731
    engines["judge"].read = lambda call: [
        value if value == 0.0 else (-2.0 if shown(call, '"x": 3')[label] == 0.0 else -6.0)
        for label, value in zip(call.labels, plain(call), strict=True)
    ]
    fused = await fuse(request_of(json_schema=schema), recipe_of(mode="merge", analysis=False), engines)
    assert (fused.text, fused.model) == ('{"x": 3}', "c")
    assert "no writer gave an answer; this is the best panel answer" in fused.degraded
