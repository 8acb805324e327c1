"""The panel: every ask ends as one answer, one typed failure or one abort, told the moment it happens."""

from __future__ import annotations

import asyncio

import pytest
from fusion_fakes import FakeEngine, completion, engines_of, hang, later, recipe_of, request_of

from local_fusion.errors import CallError, CallTimeout, ContextExceeded, EngineDied, FusionError
from local_fusion.fusion.events import Listener, MemberDelta, MemberDone, MemberFailed, MemberStarted
from local_fusion.fusion.fuse import fuse
from local_fusion.types import Message, Sampling


def reasons(fused_or_error) -> dict[str, str]:
    failures = getattr(fused_or_error, "failures", None) or fused_or_error.receipt.failures
    return {failure.model: failure.reason for failure in failures}


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (lambda call: CallError("broken"), "engine_error"),
        (lambda call: EngineDied("gone"), "engine_died"),
        (lambda call: ContextExceeded("too long"), "context_exceeded"),
        (lambda call: ValueError("secret prompt text"), "engine_error"),
        (lambda call: "", "empty"),
        (lambda call: " \n\t ", "empty"),
        (lambda call: "\x00\x07", "empty"),
        (lambda call: completion(call, None, "length", reasoning="hm"), "no_answer"),
        (lambda call: completion(call, None), "no_answer"),
        (lambda call: completion(call, "", reasoning="hm"), "no_answer"),
        (lambda call: completion(call, "<think>hm, so", "length"), "no_answer"),
        (lambda call: completion(call, "half", "abort"), "aborted"),
        (lambda call: hang(), "timeout"),
    ],
)
async def test_a_member_that_fails_is_a_typed_failure_and_the_rest_go_on(says, reason):
    engines = engines_of(a="alpha", b=says, judge="x")
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of", member_timeout_s=0.1), engines)
    assert fused.text == "alpha"
    assert reasons(fused) == {"b": reason}
    assert fused.degraded == (f"1 of 2 panel answers are missing ({reason})",)
    assert "secret" not in fused.receipt.failures[0].error


async def test_an_engine_that_does_not_run_is_a_failure():
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines_of(a="alpha", judge="x"))
    assert reasons(fused) == {"b": "engine_error"}


async def test_all_failing_is_an_error_with_every_failure():
    engines = engines_of(a="", b=lambda call: EngineDied("gone"), judge="x")
    with pytest.raises(FusionError) as raised:
        await fuse(request_of("a secret"), recipe_of(("a", "b", "judge")), engines)
    assert raised.value.code == "all_panels_failed"
    assert reasons(raised.value) == {"a": "empty", "b": "engine_died"}
    assert "secret" not in raised.value.message


async def test_too_few_for_the_quorum_is_an_error_and_the_hopeless_rest_is_aborted():
    engines = engines_of(a="alpha", b="", c="", d=lambda call: hang(), judge="x")
    with pytest.raises(FusionError) as raised:
        await fuse(request_of(), recipe_of(("a", "b", "c", "d", "judge"), quorum=3), engines)
    assert raised.value.code == "quorum_not_met"
    assert reasons(raised.value) == {"b": "empty", "c": "empty", "d": "aborted"}
    assert len(engines["d"].cancelled) == 1


async def test_stragglers_are_aborted_after_the_grace_time():
    engines = engines_of(a="alpha", b="beta", c=lambda call: hang(), judge="x")
    fused = await fuse(request_of(), recipe_of(mode="best-of", quorum=2, straggler_grace_s=0.05), engines)
    assert reasons(fused) == {"c": "straggler"}
    assert len(engines["c"].cancelled) == 1
    assert len(fused.receipt.answers) == 2


async def test_the_grace_time_lets_a_slow_member_in():
    engines = engines_of(a="alpha", b="beta", c=lambda call: later(0.05, "gamma"), judge="x")
    fused = await fuse(request_of(), recipe_of(mode="best-of", quorum=1, straggler_grace_s=20), engines)
    assert [answer.text for answer in fused.receipt.answers] == ["alpha", "beta", "gamma"]


async def test_without_a_grace_time_everyone_is_awaited():
    engines = engines_of(a="alpha", b=lambda call: later(0.1, "beta"), judge="x")
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines)
    assert len(fused.receipt.answers) == 2


async def test_nothing_before_the_deadline_is_deadline_exceeded():
    engines = engines_of(a=lambda call: hang(), b=lambda call: hang(), judge="x")
    with pytest.raises(FusionError) as raised:
        await fuse(request_of(), recipe_of(("a", "b", "judge"), deadline_s=0.1), engines)
    assert raised.value.code == "deadline_exceeded"
    assert set(reasons(raised.value).values()) == {"deadline"}
    assert len(engines["a"].cancelled) == len(engines["b"].cancelled) == 1


async def test_too_few_at_the_deadline_is_quorum_not_met():
    engines = engines_of(a="alpha", b=lambda call: hang(), judge="x")
    with pytest.raises(FusionError) as raised:
        await fuse(request_of(), recipe_of(("a", "b", "judge"), deadline_s=0.1, quorum=2), engines)
    assert raised.value.code == "quorum_not_met"
    assert reasons(raised.value) == {"b": "deadline"}


@pytest.mark.parametrize("mode", ["best-of", "vote", "merge", "debate", "layered", "auto"])
async def test_the_best_so_far_is_returned_when_the_panel_runs_into_the_deadline(mode):
    story = " tells a story that is too long to be voted on." * 5
    engines = engines_of(
        a=FakeEngine("a", f"alpha{story}", certainty=0.5),
        b=FakeEngine("b", f"beta{story}", certainty=0.9),
        c=lambda call: hang(),
        judge="x",
    )
    fused = await fuse(request_of(), recipe_of(mode=mode, deadline_s=0.2), engines)
    assert fused.model == "b"
    assert engines["judge"].calls == engines["judge"].reads == []
    assert fused.degraded[0] == "1 of 3 panel answers are missing (deadline)"
    assert any("the deadline passed" in phrase for phrase in fused.degraded[1:])


async def test_an_engine_s_own_time_out_at_the_deadline_is_the_deadline_s():
    async def late():
        await asyncio.sleep(0.15)
        raise CallTimeout("took too long")

    engines = engines_of(a="alpha", b="beta", judge=FakeEngine("judge", read=lambda call: late()))
    fused = await fuse(request_of(), recipe_of(("a", "b", "judge"), mode="best-of", deadline_s=0.1), engines)
    assert {failure.reason for failure in fused.receipt.failures} == {"deadline"}


async def test_cut_answers_are_kept_and_reasoning_too():
    engines = engines_of(
        a=lambda call: completion(call, "half of it", "length", reasoning="thought"),
        b="<think>inner</think>outer",
        judge="x",
    )
    recipe = recipe_of(("a", "b", "judge"), mode="best-of")
    fused = await fuse(request_of(), recipe, engines)
    first, second = fused.receipt.answers
    assert (first.text, first.cut, first.reasoning) == ("half of it", True, "thought")
    assert (second.text, second.cut, second.reasoning) == ("outer", False, "inner")
    shown = "".join(message.content for read in engines["judge"].reads for message in read.messages)
    assert "outer" in shown
    assert "thought" not in shown
    assert "inner" not in shown


async def test_answers_stand_in_seat_order_whatever_order_they_came_in():
    engines = engines_of(a=lambda call: later(0.05, "alpha"), b=lambda call: later(0.02, "beta"), c="gamma", judge="x")
    done = []
    listener = Listener(lambda event: done.append(event.answer.text) if isinstance(event, MemberDone) else None)
    fused = await fuse(request_of(), recipe_of(mode="best-of"), engines, listener)
    assert done == ["gamma", "beta", "alpha"]
    assert [answer.text for answer in fused.receipt.answers] == ["alpha", "beta", "gamma"]


async def test_events_tell_every_start_delta_end_and_failure():
    engines = engines_of(a="alpha says so", b="", judge="x")
    heard = []
    await fuse(
        request_of(), recipe_of(("a", "b", "judge"), mode="best-of"), engines, Listener(heard.append, deltas=True)
    )
    assert [(event.model, event.sample) for event in heard if isinstance(event, MemberStarted)] == [("a", 0), ("b", 0)]
    assert [event.text for event in heard if isinstance(event, MemberDelta) and event.model == "a"] == [
        "alpha",
        "says",
        "so",
    ]
    assert [event.answer.model for event in heard if isinstance(event, MemberDone)] == ["a"]
    assert [event.failure.reason for event in heard if isinstance(event, MemberFailed)] == ["empty"]


async def test_members_get_the_conversation_as_it_is_and_their_own_sampling():
    messages = (
        Message("system", "be kind"),
        Message("user", "hi"),
        Message("assistant", "yes?"),
        Message("user", "go"),
    )
    engines = engines_of(a="alpha", b="beta", judge="x")
    await fuse(
        request_of(messages=messages, sampling=Sampling(temperature=0.0, max_tokens=9000)),
        recipe_of(("a", "b", "judge"), mode="best-of"),
        engines,
    )
    (call,) = engines["a"].calls
    assert call.messages == messages
    assert call.sampling.temperature == 0.7
    assert call.priority == 10


async def test_samples_of_one_model_in_two_seats_have_their_own_numbers_seeds_and_ids():
    panel = [{"model": "a", "samples": 2}, {"model": "a", "samples": 2, "sampling": {"temperature": 1.0}}]
    engines = engines_of(a="alpha", judge="x")
    fused = await fuse(request_of(), recipe_of(("a", "judge"), panel=panel, mode="best-of"), engines)
    calls = engines["a"].calls
    assert [answer.sample for answer in fused.receipt.answers] == [0, 1, 2, 3]
    assert len({call.seed for call in calls}) == len({call.id for call in calls}) == 4
    assert [call.sampling.temperature for call in calls] == [0.7, 0.7, 1.0, 1.0]


@pytest.mark.parametrize("mode", ["best-of", "vote", "merge", "debate", "layered", "auto"])
@pytest.mark.parametrize("stuck", ["panel", "judge"])
async def test_a_client_that_goes_away_aborts_every_call(mode, stuck):
    engines = engines_of(
        a="alpha is long enough to be free text. " * 9,
        b=(lambda call: hang()) if stuck == "panel" else "beta " * 80,
        judge=FakeEngine("judge", lambda call: hang(), lambda call: hang()),
    )
    task = asyncio.create_task(fuse(request_of(), recipe_of(("a", "b", "judge"), mode=mode), engines))
    await asyncio.sleep(0.1)
    running = sum(engine.running for engine in engines.values())
    assert running >= 1
    begun = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() - begun < 1.5
    assert sum(len(engine.cancelled) for engine in engines.values()) == running
    assert all(engine.running == 0 for engine in engines.values())


async def test_an_engine_that_will_not_let_go_does_not_hold_the_result():
    async def stubborn() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    release = asyncio.Event()
    engines = engines_of(a="alpha", b=lambda call: stubborn(), judge="x")
    recipe = recipe_of(("a", "b", "judge"), mode="best-of", straggler_grace_s=0.02)
    async with asyncio.timeout(10):
        fused = await fuse(request_of(), recipe, engines)
    release.set()
    assert fused.text == "alpha"


async def test_a_listener_that_raises_is_heard_of():
    def hear(event):
        raise RuntimeError("the listener's own bug")

    with pytest.raises(RuntimeError, match="own bug"):
        await fuse(request_of(), recipe_of(("a", "judge")), engines_of(a="alpha", judge="x"), Listener(hear))


async def test_an_engine_s_own_time_out_is_a_failure_where_no_limit_is_set():
    engines = engines_of(a="alpha", b=lambda call: TimeoutError(), judge="x")
    recipe = recipe_of(("a", "b", "judge"), mode="best-of", member_timeout_s=None)
    fused = await fuse(request_of(), recipe, engines)
    assert reasons(fused) == {"b": "timeout"}
    assert fused.receipt.failures[0].error == "b: the engine's own time for the call was up"


async def test_engines_that_say_nothing_of_themselves_hold_up_no_result_after_the_deadline():
    class Silent(FakeEngine):
        async def info(self):
            await asyncio.Event().wait()

    engines = {name: Silent(name, "8") for name in "abc"} | {"d": Silent("d", lambda call: hang())}
    recipe = recipe_of(tuple("abcd"), judge="a", mode="vote", deadline_s=0.3, early_exit=False)
    begun = asyncio.get_running_loop().time()
    fused = await fuse(request_of("What is 4 + 4?"), recipe, engines)
    assert asyncio.get_running_loop().time() - begun < 4.5
    assert fused.text == "8"
    assert fused.receipt.versions == {}


async def test_a_listener_that_fails_over_a_straggler_ends_the_request_with_its_error():
    def hear(event: object) -> None:
        if isinstance(event, MemberFailed):
            raise LookupError("the listener's own bug")

    engines = engines_of(a="alpha", b="beta", c=lambda call: hang(), judge="x")
    recipe = recipe_of(mode="best-of", quorum=2, straggler_grace_s=0.02)
    with pytest.raises(LookupError):
        await asyncio.wait_for(fuse(request_of(), recipe, engines, Listener(hear)), 5)
    assert engines["c"].running == 0
