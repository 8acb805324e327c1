"""merge: analysis, writer, guard, and every way in which one of them can fail."""

from __future__ import annotations

import asyncio

import pytest
from fusion_fakes import (
    ANALYSIS,
    FakeEngine,
    completion,
    engines_of,
    hang,
    judge_says,
    later,
    prefers,
    recipe_of,
    request_of,
)

from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.events import AnalysisDone, Guarded, Listener, WriterDelta, WriterStarted
from local_fusion.fusion.fuse import fuse
from local_fusion.types import Message, Sampling, ToolCall, ToolDelta

TWO = ("a", "b", "judge")


def guard_says(written: float, otherwise=None):
    """Reads that favour the written text by `written` log-odds in both orders; `otherwise` answers the picks."""

    def read(call):
        if call.stage == "guard":
            swapped = (
                "2, the final answer" in call.messages[-1].content or "text 2 is the final" in call.messages[-1].content
            )
            return [0.0, written] if swapped else [written, 0.0]
        return (otherwise or prefers("beta"))(call)

    return read


def panel(say=None, read=None, **more):
    judge = FakeEngine("judge", say or judge_says(), read or guard_says(2.0))
    return engines_of(a="alpha speaks", b="beta speaks", judge=judge, **more)


async def test_the_writer_s_text_is_returned_when_the_guard_upholds_it():
    engines = panel()
    heard = []
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines, Listener(heard.append))
    assert (fused.text, fused.model) == ("the final answer", "judge")
    verdict = fused.receipt.verdict
    assert (verdict.kept, verdict.against, verdict.consistent) == ("written", "b", True)
    assert verdict.margin == pytest.approx(2.0)
    assert fused.degraded == ()
    assert engines["judge"].stages() == ["analyse", "write"]
    assert [call.stage for call in engines["judge"].reads].count("guard") == 2
    assert [event.verdict.kept for event in heard if isinstance(event, Guarded)] == ["written"]
    assert {call.stage for call in fused.receipt.calls} == {"panel", "analyse", "pick", "write", "guard"}
    assert fused.tokens.prompt == sum(call.tokens.prompt for call in fused.receipt.calls)


async def test_the_analysis_names_models_not_letters():
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), panel())
    analysis = fused.receipt.analysis
    assert analysis.consensus == ("both speak",)
    assert {stance.model for stance in analysis.contradictions[0].stances} == {"a", "b"}
    assert analysis.unique_insights[0].model in "ab"


async def test_the_best_panel_answer_is_returned_when_the_guard_finds_it_better():
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), panel(read=guard_says(-2.0)))
    assert (fused.text, fused.model) == ("beta speaks", "b")
    assert fused.receipt.verdict.kept == "answer"
    assert fused.receipt.mode == "merge"
    assert fused.degraded == ()


async def test_the_margin_must_be_won():
    recipe = recipe_of(TWO, mode="merge", guard_margin=3.0)
    fused = await fuse(request_of(), recipe, panel())
    assert fused.receipt.verdict.kept == "answer"


async def test_orders_that_disagree_are_told():
    read = lambda call: [0.0, -1.0] if call.stage == "guard" else prefers("beta")(call)  # noqa: E731
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), panel(read=read))
    assert fused.receipt.verdict.consistent is False
    assert fused.receipt.verdict.margin == pytest.approx(0.0)


async def test_without_guard_nothing_is_read():
    engines = panel()
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge", guard=False), engines)
    assert fused.text == "the final answer"
    assert engines["judge"].reads == []


async def test_without_analysis_the_writer_reads_the_raw_answers():
    engines = panel()
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge", analysis=False), engines)
    assert engines["judge"].stages() == ["write"]
    assert fused.receipt.analysis is None
    assert fused.degraded == ()


@pytest.mark.parametrize(
    "broken",
    ["not JSON", "{}", "[]", '{"consensus": 1}', "[" * 5000, ANALYSIS.replace('"A"', '"Z"'), ANALYSIS[:-20]],
)
async def test_an_invalid_analysis_is_repaired_once(broken):
    def analysis(call):
        return broken if call.stage == "analyse" else ANALYSIS

    engines = panel(judge_says(analysis=analysis))
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines)
    assert engines["judge"].stages() == ["analyse", "repair", "write"]
    assert fused.receipt.analysis is not None
    assert [failure.reason for failure in fused.receipt.failures] == ["invalid_json"]
    assert fused.degraded == ()
    repair = engines["judge"].calls[1].messages
    assert repair[-2].role == "assistant"
    assert len(repair[-2].content) <= 2000


@pytest.mark.parametrize("bad", ["still not JSON", CallError("down"), ""])
async def test_an_analysis_that_stays_invalid_leaves_the_raw_answers(bad):
    heard = []
    engines = panel(judge_says(analysis=bad))
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines, Listener(heard.append))
    assert fused.text == "the final answer"
    assert fused.receipt.analysis is None
    assert fused.degraded == ("the analysis could not be had; the answer was written from the raw answers",)
    (write,) = [call for call in engines["judge"].calls if call.stage == "write"]
    assert [message.role for message in write.messages] == ["system", "user"]
    assert [event.analysis for event in heard if isinstance(event, AnalysisDone)] == [None]


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (lambda call: CallError("down"), "engine_error"),
        (lambda call: "", "empty"),
        (lambda call: completion(call, None, "length", reasoning="hm"), "no_answer"),
        (lambda call: completion(call, "half", "abort"), "aborted"),
        (lambda call: completion(call, "half", "length"), "cut at its token limit"),
        (lambda call: hang(), "timeout"),
    ],
)
async def test_the_next_writer_steps_in_and_then_the_best_panel_answer(says, reason):
    recipe = recipe_of(
        ("a", "b", "judge", "writer1", "writer2"), mode="merge", writer=("writer1", "writer2"), member_timeout_s=0.2
    )
    engines = panel(writer1=says, writer2="second hand")
    fused = await fuse(request_of(), recipe, engines)
    assert (fused.text, fused.model) == ("second hand", "writer2")
    assert fused.degraded == (f"writer writer1 failed ({reason}); writer2 was asked instead",)

    fused = await fuse(request_of(), recipe, panel(writer1=says, writer2=""))
    assert (fused.text, fused.model) == ("beta speaks", "b")
    assert fused.degraded[-1] == "no writer gave an answer; this is the best panel answer"
    assert fused.receipt.mode == "merge"


async def test_a_text_cut_by_the_client_s_own_limit_is_the_answer():
    engines = panel(judge_says(lambda call: completion(call, "half", "length")))
    fused = await fuse(request_of(max_tokens=5), recipe_of(TWO, mode="merge"), engines)
    assert (fused.text, fused.finish_reason) == ("half", "length")
    assert fused.degraded == ()


async def test_a_cut_text_is_better_than_a_cut_answer():
    engines = panel(judge_says(lambda call: completion(call, "half", "length")))
    for name in "ab":
        engines[name].say = lambda call: completion(call, f"cut {call.id[-1]}", "length")
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge", guard_margin=-9), engines)
    assert (fused.text, fused.finish_reason) == ("half", "length")


async def test_a_dead_judge_and_no_writer_leave_the_best_by_certainty():
    engines = engines_of(
        a=FakeEngine("a", "alpha", certainty=0.4),
        b=FakeEngine("b", "beta", certainty=0.9),
        judge=FakeEngine("judge", lambda call: CallError("down"), lambda call: CallError("down")),
    )
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines)
    assert fused.text == "beta"
    assert len(fused.degraded) == 4


async def test_the_deadline_while_the_writer_writes_gives_the_best_panel_answer():
    engines = panel(judge_says(lambda call: hang()))
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge", deadline_s=0.8), engines)
    assert fused.text == "beta speaks"
    assert [(failure.stage, failure.reason) for failure in fused.receipt.failures] == [("write", "deadline")]
    assert (
        fused.degraded[-1]
        == "the deadline passed before the final answer was written; this is the best panel answer so far"
    )
    assert all(engine.running == 0 for engine in engines.values())


async def test_the_deadline_while_the_judge_analyses_gives_the_best_panel_answer():
    engines = panel(lambda call: hang(), lambda call: hang())
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge", deadline_s=0.2), engines)
    assert fused.text in ("alpha speaks", "beta speaks")
    assert any("deadline" in phrase for phrase in fused.degraded)


async def test_writer_and_listener_stream():
    heard = []
    engines = panel(judge_says("one two"))
    await fuse(request_of(), recipe_of(TWO, mode="merge"), engines, Listener(heard.append, deltas=True))
    assert [event.text for event in heard if isinstance(event, WriterDelta)] == ["one", "two"]
    assert [event.model for event in heard if isinstance(event, WriterStarted)] == ["judge"]


async def test_the_writers_tool_calls_are_heard_in_pieces():
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    called = ToolCall("call_1", "look", '{"at": "it"}')
    engines = panel(judge_says(lambda call: completion(call, None, "tool_calls", tool_calls=(called,))))
    heard = []
    request = request_of(tools=(tool,), tool_choice="required")
    fused = await fuse(request, recipe_of(TWO, mode="merge"), engines, Listener(heard.append, deltas=True))
    pieces = [piece for event in heard if isinstance(event, WriterDelta) for piece in event.tools]
    assert pieces == [ToolDelta(0, "call_1", "look"), ToolDelta(0, arguments='{"at": "it"}')]
    assert (fused.tool_calls, fused.finish_reason) == ((called,), "tool_calls")


async def test_a_written_answer_that_is_the_best_one_needs_no_guard():
    engines = panel(judge_says("beta speaks"))
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines)
    assert fused.model == "judge"
    assert [call for call in engines["judge"].reads if call.stage == "guard"] == []


async def test_answers_that_are_the_same_are_not_merged():
    engines = engines_of(a="alpha", b="alpha", judge=FakeEngine("judge", judge_says()))
    fused = await fuse(request_of(), recipe_of(TWO, mode="merge"), engines)
    assert fused.text == "alpha"
    assert engines["judge"].calls == []


async def test_everything_the_client_asks_of_the_answer_goes_to_the_writer_alone():
    tools = ({"type": "function", "function": {"name": "look", "parameters": {}}},)
    schema = {"type": "object"}
    request = request_of(
        sampling=Sampling(temperature=0.1, max_tokens=77, stop=("END",)),
        json_schema=schema,
        tools=tools,
        tool_choice="auto",
    )
    engines = panel()
    await fuse(request, recipe_of(TWO, mode="merge"), engines)
    for call in engines["a"].calls + [call for call in engines["judge"].calls if call.stage == "analyse"]:
        assert call.tools == ()
        assert call.json_schema != schema
        assert call.sampling.stop == ()
        assert call.sampling.temperature != 0.1
        assert call.sampling.max_tokens != 77
    (write,) = [call for call in engines["judge"].calls if call.stage == "write"]
    assert (write.tools, write.json_schema, write.tool_choice) == (tools, schema, "auto")
    assert (write.sampling.temperature, write.sampling.max_tokens, write.sampling.stop) == (0.1, 77, ("END",))


@pytest.mark.parametrize("mode", ["best-of", "vote", "merge", "debate", "auto", "layered"])
async def test_with_tools_the_writer_answers_and_may_call_them(mode):
    call_of = ToolCall("1", "look", "{}")
    engines = panel(judge_says(lambda call: completion(call, None, "tool_calls", tool_calls=(call_of,))))
    request = request_of(tools=({"type": "function", "function": {"name": "look", "parameters": {}}},))
    fused = await fuse(request, recipe_of(TWO, mode=mode), engines)
    assert fused.tool_calls == (call_of,)
    assert (fused.text, fused.finish_reason) == ("", "tool_calls")
    assert fused.degraded == ()
    assert [call for call in engines["judge"].reads if call.stage == "guard"] == []


async def test_tools_that_may_not_be_called_are_as_none():
    engines = panel()
    request = request_of(tools=({"type": "function", "function": {"name": "look"}},), tool_choice="none")
    fused = await fuse(request, recipe_of(TWO, mode="best-of"), engines)
    assert fused.text == "beta speaks"


async def test_a_schema_is_not_broken_by_the_guard():
    engines = panel(judge_says('{"x": 1}'), guard_says(-9.0))
    fused = await fuse(request_of(json_schema={"type": "object"}), recipe_of(TWO, mode="merge"), engines)
    assert fused.text == '{"x": 1}'
    assert "nothing to guard against" in fused.receipt.notes[0]


async def test_past_tool_calls_are_told_to_the_judge_in_words():
    messages = (
        Message("user", "look it up"),
        Message("assistant", "", tool_calls=(ToolCall("1", "look", '{"x": 1}'),)),
        Message("tool", "found it", tool_call_id="1"),
    )
    engines = panel()
    await fuse(request_of(messages=messages), recipe_of(TWO, mode="merge"), engines)
    shown = engines["judge"].calls[0].messages[1].content
    assert '(called look with {"x": 1})' in shown
    assert "found it" in shown


async def test_a_pick_runs_while_the_writer_writes():
    stages = []

    def write(call):
        stages.append("write")
        return later(0.05, "the final answer")

    def read(call):
        stages.append(call.stage)
        return guard_says(2.0)(call)

    await fuse(request_of(), recipe_of(TWO, mode="merge"), panel(judge_says(write), read))
    assert stages.index("pick") < len(stages) - 3
    assert stages[-2:] == ["guard", "guard"]


async def test_writer_limits_keep_the_writer_s_own_template_settings():
    recipe = recipe_of(
        TWO, mode="merge", max_writer_tokens=40, writer_sampling={"chat_template_kwargs": {"think": False}}
    )
    engines = panel()
    await fuse(request_of(sampling=Sampling(max_tokens=500, chat_template_kwargs={"x": 1})), recipe, engines)
    (write,) = [call for call in engines["judge"].calls if call.stage == "write"]
    assert write.sampling.max_tokens == 40
    assert write.sampling.chat_template_kwargs == {"think": False, "x": 1}


async def test_cancelling_in_the_middle_of_writing_and_picking_leaves_nothing_running():
    writing = asyncio.Event()

    def write(call):
        writing.set()
        return hang()

    engines = panel(judge_says(write), lambda call: hang())
    task = asyncio.create_task(fuse(request_of(), recipe_of(TWO, mode="merge"), engines))
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engines["judge"].running == 0


async def test_control_tokens_of_a_writer_that_may_step_in_are_made_plain_too():
    second = FakeEngine("writer2", "second hand", special_tokens=("<odd>",))
    engines = panel(writer1="", writer2=second)
    engines["a"].say = lambda call: "alpha <odd> speaks"
    recipe = recipe_of(("a", "b", "judge", "writer1", "writer2"), mode="merge", writer=("writer1", "writer2"))
    fused = await fuse(request_of(), recipe, engines)
    assert fused.text == "second hand"
    assert not any("<odd>" in message.content for message in second.calls[0].messages)


async def test_a_text_written_beside_tools_is_guarded():
    engines = panel(read=guard_says(-2.0))
    request = request_of(tools=({"type": "function", "function": {"name": "look", "parameters": {}}},))
    fused = await fuse(request, recipe_of(TWO, mode="merge"), engines)
    assert fused.text == "beta speaks"
    assert fused.receipt.verdict.kept == "answer"


async def test_a_cut_text_keeps_to_the_schema_rather_than_becoming_a_plain_answer():
    cut = judge_says(lambda call: completion(call, '{"x": "aaa', "length"))
    fused = await fuse(request_of(json_schema={"type": "object"}), recipe_of(TWO, mode="merge"), panel(cut))
    assert (fused.text, fused.finish_reason) == ('{"x": "aaa', "length")


async def test_without_a_writer_a_plain_answer_never_stands_for_a_schema():
    engines = panel(judge_says(lambda call: CallError("it broke")))
    with pytest.raises(FusionError) as caught:
        await fuse(request_of(json_schema={"type": "object"}), recipe_of(TWO, mode="merge"), engines)
    assert caught.value.code == "writer_failed"
    assert "JSON schema" in caught.value.message
