"""The scripted engine does what its settings say, the same way every time."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_fusion.config.schema import ScriptedSettings
from local_fusion.engines import scripted_text
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import CallAborted, CallError, CallTimeout, ContextExceeded
from local_fusion.prompts import analysis_schema, load_prompts, make_brief
from local_fusion.types import Answer, Call, Completion, Delta, LabelCall, Message, Sampling

ASK = (Message("user", "How many apples are there?"),)
TOOL = {
    "type": "function",
    "function": {
        "name": "weigh",
        "parameters": {"type": "object", "properties": {"kg": {"type": "number", "minimum": 2}}, "required": ["kg"]},
    },
}


def engine(name: str = "one", **settings: Any) -> ScriptedEngine:
    return ScriptedEngine(name, ScriptedSettings(**settings))


def call(seed: int = 1, **fields: Any) -> Call:
    return Call(**({"id": f"call/{seed}", "messages": ASK, "sampling": Sampling(), "seed": seed} | fields))


async def test_the_same_seed_gives_the_same_answer_and_others_differ() -> None:
    first, again = await engine().generate(call(7)), await engine().generate(call(7))
    assert (first.text, first.tokens, first.logprob) == (again.text, again.tokens, again.logprob)
    texts = {(await engine().generate(call(seed))).text for seed in range(20)}
    assert len(texts) == 20


async def test_answers_are_filled_in_and_may_hold_braces() -> None:
    said = await engine(answers=("{prompt} {seed}.{index}", '{"a": 1}')).generate(call(4))
    assert said.text == "How many apples are there? 4.0"
    assert (await engine(answers=("x", '{"a": 1}')).generate(call(5))).text == '{"a": 1}'


async def test_tokens_certainty_and_length() -> None:
    said = await engine(answers=("one two three four",), certainty=0.5).generate(call(sampling=Sampling(max_tokens=3)))
    assert (said.text, said.finish_reason, said.tokens.completion) == ("one two three", "length", 3)
    assert said.tokens.prompt == 5
    assert said.logprob is not None
    assert math.exp(said.logprob / 3) == pytest.approx(0.5)
    assert (await engine(tokens=128).generate(call())).tokens.completion == 128


async def test_stop_cuts_the_text() -> None:
    said = await engine(answers=("yes. END no",)).generate(call(sampling=Sampling(stop=("END",))))
    assert said.text == "yes. "


@pytest.mark.parametrize("stops", [{"fail_rate": 1.0}, {"context": 16}])
async def test_failures_are_typed_and_counted(stops: dict[str, Any]) -> None:
    one = engine(**stops)
    long = (Message("user", "word " * 16),)
    expected = CallError if "fail_rate" in stops else ContextExceeded
    with pytest.raises(expected):
        await one.generate(call(messages=long))
    assert (one.running, one.finished, one.failed, one.aborted) == (0, 0, 1, 0)


async def test_rates_are_shares_decided_by_seed() -> None:
    one, two = engine(fail_rate=0.3, empty_rate=0.2), engine(fail_rate=0.3, empty_rate=0.2)

    async def outcome(of: ScriptedEngine, seed: int) -> str | None:
        try:
            return (await of.generate(call(seed))).text
        except CallError:
            return None

    first = [await outcome(one, seed) for seed in range(400)]
    assert first == [await outcome(two, seed) for seed in range(400)]
    assert 80 < first.count(None) < 160
    assert 30 < first.count("") < 90


async def test_timeout_and_hang() -> None:
    hung = engine(hang_rate=1.0)
    assert (await hung.check()).ready
    with pytest.raises(CallTimeout):
        await hung.generate(call(timeout_s=0.01))
    with pytest.raises(CallTimeout):
        await engine(delay_s=30.0).generate(call(timeout_s=0.01))
    assert not (await hung.check(0.01)).ready


@pytest.mark.parametrize("kind", ["delay", "hang", "stream"])
async def test_abort_reaches_its_owner(kind: str) -> None:
    one = engine(hang_rate=1.0) if kind == "hang" else engine(delay_s=60.0)

    async def consume() -> None:
        if kind == "stream":
            async for _ in one.stream(call()):
                pass
        else:
            await one.generate(call())

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.01)
    assert one.running == 1
    await one.abort(["unknown", "call/1"])
    with pytest.raises(CallAborted):
        await task
    assert (one.running, one.aborted) == (0, 1)


async def test_abort_without_a_delay_and_cancelling() -> None:
    one = engine()
    task = asyncio.create_task(one.generate(call()))
    await asyncio.sleep(0)
    await one.abort(["call/1"])
    with pytest.raises(CallAborted):
        await task
    slow = engine(delay_s=60.0)
    task = asyncio.create_task(slow.generate(call()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.running == 0


async def test_two_calls_under_one_id_both_end() -> None:
    one = engine(delay_s=0.01)
    both = await asyncio.gather(one.generate(call()), one.generate(call()))
    assert both[0].text == both[1].text
    assert one.running == 0


@pytest.mark.parametrize("answer", ["one two  three\n four", "<think>so and so</think>\nright", "<think>cut", ""])
async def test_deltas_join_to_the_completion(answer: str) -> None:
    one = engine(answers=(answer,), tokens_per_s=10_000.0)
    parts = [part async for part in one.stream(call())]
    last = parts[-1]
    assert isinstance(last, Completion)
    deltas = [part for part in parts if isinstance(part, Delta)]
    assert "".join(d.text for d in deltas) == (last.text or "")
    assert "".join(d.reasoning for d in deltas) == (last.reasoning or "")
    whole = await one.generate(call())
    assert (whole.text, whole.reasoning) == (last.text, last.reasoning)


async def test_reasoning_without_an_end_is_no_answer() -> None:
    said = await engine(answers=("<think>on and on",)).generate(call())
    assert (said.text, said.reasoning) == (None, "on and on")


async def test_closing_a_stream_ends_the_call() -> None:
    one = engine(answers=("one two three",))
    stream = one.stream(call())
    await anext(stream)
    await stream.aclose()
    assert one.running == 0


async def test_garbage_attacks_the_fence_it_was_shown() -> None:
    one = engine(garbage_rate=1.0)
    shown = (Message("user", "<answer A beef>\ntext\n</answer beef>"),)
    texts = {(await one.generate(call(seed, messages=shown))).text or "" for seed in range(60)}
    assert any("</answer beef>" in text for text in texts)
    assert any("<|im_end|>" in text for text in texts)
    assert any("\x1b" in text for text in texts)
    assert len(texts) == 5


async def test_a_schema_is_kept() -> None:
    schema = analysis_schema(("A", "B"))
    said = await engine().generate(call(json_schema=schema))
    jsonschema.validate(json.loads(said.text or ""), schema)
    own = engine(answers=('{"consensus": ["x"]}',))
    assert (await own.generate(call(json_schema=schema))).text == '{"consensus": ["x"]}'


@given(
    st.recursive(
        st.sampled_from(
            [
                {"type": "string", "minLength": 2, "maxLength": 5},
                {"type": "integer", "minimum": 3, "multipleOf": 4},
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "number", "exclusiveMaximum": 0},
                {"type": "boolean"},
                {"type": "null"},
                {"type": ["string", "null"]},
                {"enum": ["a", 1]},
                {"const": {"k": 1}},
                {"$ref": "#/$defs/leaf"},
            ]
        ),
        lambda inner: st.one_of(
            st.builds(lambda item, n: {"type": "array", "items": item, "minItems": n}, inner, st.integers(0, 3)),
            st.builds(lambda a: {"type": "object", "properties": {"a": a, "b": {}}, "required": ["a"]}, inner),
            st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
            st.builds(lambda a: {"allOf": [a]}, inner),
        ),
        max_leaves=6,
    )
)
def test_instances_are_valid(schema: dict[str, Any]) -> None:
    whole = {"$defs": {"leaf": {"type": "integer", "maximum": -1}}, "type": "object", "properties": {"v": schema}}
    whole["required"] = ["v"]
    jsonschema.validate(scripted_text.instance(whole), whole)


@pytest.mark.parametrize(
    "schema",
    [
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
                {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
            ]
        },
        {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "anyOf": [{"required": ["a"]}, {"minProperties": 3}],
        },
        {"type": "integer", "minimum": 0, "exclusiveMinimum": 5},
        {"type": "integer", "maximum": -1, "multipleOf": 5},
        {
            "$ref": "#/$defs/node",
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                    "required": ["next"],
                }
            },
        },
    ],
)
def test_instances_heed_every_part_of_a_schema(schema: dict[str, Any]) -> None:
    jsonschema.validate(scripted_text.instance(schema), schema)


async def test_forced_tools_are_called() -> None:
    said = await engine().generate(call(tools=(TOOL,), tool_choice="required"))
    assert (said.finish_reason, said.text) == ("tool_calls", None)
    assert (said.tool_calls[0].name, json.loads(said.tool_calls[0].arguments)) == ("weigh", {"kg": 2})
    named = {"type": "function", "function": {"name": "weigh"}}
    assert (await engine().generate(call(tools=(TOOL,), tool_choice=named))).tool_calls
    assert (await engine().generate(call(tools=(TOOL,), tool_choice="auto"))).tool_calls == ()


ANSWERS = tuple(Answer("m", i, text) for i, text in enumerate(("It is 41.", "It is 42.", "It is 43.")))


@pytest.mark.parametrize("templates", ["default", "short"])
async def test_label_reads_favour_the_preferred_text(templates: str) -> None:
    prompts = load_prompts(templates)
    judge = engine(prefer="42", certainty=0.8)
    for rotation in range(3):
        brief = make_brief(ASK, ANSWERS, seed=5, rotation=rotation)
        read = await judge.label_read(LabelCall("l", prompts.pick(brief), brief.labels))
        best = max(range(3), key=lambda i: read.logprobs[i])
        assert brief.labels[best] == brief.label_of(1)
        assert sum(math.exp(one) for one in read.logprobs) == pytest.approx(1.0)


@pytest.mark.parametrize("templates", ["default", "short"])
@pytest.mark.parametrize("swapped", [False, True])
async def test_label_reads_of_the_guard_know_both_texts(templates: str, swapped: bool) -> None:
    prompts, brief = load_prompts(templates), make_brief(ASK, ANSWERS, seed=5)
    for written, winner in (("Written: 42", "written"), ("Written: 40", "answer")):
        messages = prompts.guard(brief, None, written, brief.label_of(1 if winner == "answer" else 0), swapped)
        read = await engine(prefer="42").label_read(LabelCall("l", messages, ("1", "2")))
        first_wins = read.logprobs[0] > read.logprobs[1]
        assert first_wins == ((winner == "written") != swapped)


async def test_without_a_preference_order_does_not_matter() -> None:
    prompts, picked = load_prompts("default"), set()
    for rotation in range(3):
        brief = make_brief(ASK, ANSWERS, seed=9, rotation=rotation)
        read = await engine("judge").label_read(LabelCall("l", prompts.pick(brief), brief.labels))
        best = max(range(3), key=lambda i: read.logprobs[i])
        picked.add(brief.index_of(brief.labels[best]))
    assert len(picked) == 1


@pytest.mark.parametrize(("after", "calls", "code"), [(0, 0, 1), (3, 2, 0), (3, 3, 1)])
def test_a_crash_ends_the_process(tmp_path: Path, after: int, calls: int, code: int) -> None:
    program = f"""
import asyncio
from local_fusion.config.schema import ScriptedSettings
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.types import Call, Message, Sampling
async def main():
    engine = ScriptedEngine("m", ScriptedSettings(crash_after={after}, crash_once_file={str(tmp_path / "once")!r}))
    await engine.start()
    for i in range({calls}):
        await engine.generate(Call(str(i), (Message("user", "x"),), Sampling(), i))
asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code
    if code:
        assert (tmp_path / "once").exists()
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_counts_and_context() -> None:
    one = engine(context=64)
    assert await one.count_tokens([ASK, (*ASK, Message("assistant", "two words"))]) == [5, 7]
    assert (await one.info()).context == 64


@pytest.mark.slow
async def test_fifty_thousand_calls_take_seconds() -> None:
    one = engine()
    begun = asyncio.get_running_loop().time()
    for seed in range(50_000):
        await one.generate(call(seed))
    assert asyncio.get_running_loop().time() - begun < 30.0
