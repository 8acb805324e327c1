"""The real engine on a CPU, random weights: the contract of `Engine`, not the sense of what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from local_fusion.errors import CallAborted, CallError, CallTimeout, ContextExceeded
from local_fusion.prompts import analysis_schema
from local_fusion.types import Call, Completion, Delta, LabelCall, Message, Sampling

pytestmark = pytest.mark.vllm

ASK = (Message("system", "Be brief."), Message("user", "How many apples are there?"))
LONG = (Message("user", "apple " * 100),)
WARM = Sampling(max_tokens=24, temperature=1.0, ignore_eos=True)
TOOL = {
    "type": "function",
    "function": {
        "name": "weigh",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"kg": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["kg"],
            "additionalProperties": False,
        },
    },
}


def call(name: str, seed: int = 1, **fields: Any) -> Call:
    return Call(**({"id": name, "messages": ASK, "sampling": WARM, "seed": seed} | fields))


async def consume(stream: Any) -> tuple[list[Delta], Completion]:
    parts = [part async for part in stream]
    assert isinstance(parts[-1], Completion)
    assert all(isinstance(part, Delta) for part in parts[:-1])
    return parts[:-1], parts[-1]


async def test_the_same_seed_gives_the_same_text(engine: Any) -> None:
    first, again, other = await asyncio.gather(
        engine.generate(call("a", 2**80 + 5)), engine.generate(call("b", 2**80 + 5)), engine.generate(call("c", 6))
    )
    assert first.text == again.text
    assert first.text != other.text
    assert (first.finish_reason, first.tokens.completion) == ("length", 24)
    assert first.logprob is not None
    assert first.logprob < 0
    assert 0 <= first.timing.queued_s <= first.timing.total_s
    assert (await engine.generate(call("w", stage="write"))).logprob is None


async def test_deltas_join_to_the_completion(engine: Any) -> None:
    whole = await engine.generate(call("whole", 7))
    deltas, last = await consume(engine.stream(call("stream", 7)))
    assert len(deltas) > 3
    assert "".join(delta.text for delta in deltas) == last.text == whole.text
    assert (last.tokens, last.finish_reason) == (whole.tokens, whole.finish_reason)
    assert last.logprob == pytest.approx(whole.logprob)


@pytest.mark.parametrize("streams", [False, True])
async def test_reasoning_without_an_end_is_no_answer(engine: Any, streams: bool) -> None:
    thinking = Sampling(max_tokens=12, temperature=1.0, chat_template_kwargs={"enable_thinking": True})
    asked = call("think", sampling=thinking)
    if streams:
        deltas, said = await consume(engine.stream(asked))
        assert "".join(delta.reasoning for delta in deltas) == said.reasoning
        assert not any(delta.text for delta in deltas)
    else:
        said = await engine.generate(asked)
    assert said.text is None
    assert said.reasoning


async def test_stop_strings_end_the_text(engine: Any) -> None:
    text = (await engine.generate(call("free", 11))).text
    mark = next(letter for letter in text[4:] if letter.isprintable())
    said = await engine.generate(call("stopped", 11, sampling=Sampling(max_tokens=24, temperature=1.0, stop=(mark,))))
    assert said.text == text[: text.index(mark)]
    assert said.finish_reason == "stop"


@pytest.mark.parametrize("streams", [False, True])
async def test_guided_json_is_valid(engine: Any, streams: bool) -> None:
    schema = analysis_schema(("A", "B"), max_items=1, max_chars=6)
    asked = call("json", stage="analyse", json_schema=schema, sampling=Sampling(max_tokens=600, temperature=1.0))
    said = (await consume(engine.stream(asked)))[1] if streams else await engine.generate(asked)
    assert said.finish_reason == "stop"
    # Bytes that are no character count once for the grammar and up to three times in the text.
    jsonschema.validate(json.loads(said.text, strict=False), analysis_schema(("A", "B"), max_items=1, max_chars=18))


async def test_label_reads_are_the_models_own_probabilities(engine: Any) -> None:
    letters = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    read = await engine.label_read(LabelCall("l", ASK, letters))
    assert 0.0 < sum(math.exp(one) for one in read.logprobs) < 1.0
    some = await engine.label_read(LabelCall("m", ASK, ("Z", "A")))
    assert some.logprobs == pytest.approx((read.logprobs[25], read.logprobs[0]), abs=1e-3)
    assert read.tokens.completion == 1
    with pytest.raises(CallError, match="'AB' is 2 tokens") as caught:
        await engine.label_read(LabelCall("n", ASK, ("A", "AB")))
    assert caught.value.reason == "bad_request"


async def test_a_label_follows_a_closed_reasoning_block(engine: Any) -> None:
    opened = {"opened": True}
    prompt = await engine._chat.render(ASK, opened)
    assert engine._chat._closing_ids(prompt.token_ids)
    assert not engine._chat._closing_ids((await engine._chat.render(ASK, {"enable_thinking": False})).token_ids)


async def test_a_repeated_prompt_comes_from_the_prefix_cache(engine: Any) -> None:
    first = await engine.generate(call("cold", messages=LONG, cache_salt="x"))
    again = await engine.label_read(LabelCall("warm", LONG, ("A", "B"), cache_salt="x"))
    other = await engine.label_read(LabelCall("salted", LONG, ("A", "B"), cache_salt="y"))
    assert first.tokens.cached == 0
    assert again.tokens.cached >= 0.9 * (again.tokens.prompt // 128) * 128 > 0
    assert other.tokens.cached == 0


async def test_counted_tokens_are_prompt_tokens(engine: Any) -> None:
    counts = await engine.count_tokens([ASK, LONG, (Message("user", "apple " * 5000),)])
    assert counts[0] == (await engine.generate(call("n"))).tokens.prompt
    assert counts[2] > 5000 * 6  # beyond the context, and beyond what is rendered on the loop


async def test_a_prompt_beyond_the_context_is_refused_and_a_long_answer_cut(engine: Any) -> None:
    with pytest.raises(ContextExceeded, match="context only 1024"):
        await engine.generate(call("big", messages=(Message("user", "apple " * 400),)))
    said = await engine.generate(call("tight", messages=(Message("user", "a" * 950),), sampling=Sampling(9999, 1.0)))
    assert said.tokens.prompt + said.tokens.completion <= 1024


@pytest.mark.parametrize("how", ["abort", "cancel", "timeout", "close"])
async def test_a_call_that_ends_early_leaves_the_engine(engine: Any, how: str) -> None:
    asked = call("long", sampling=Sampling(900, 1.0, ignore_eos=True), timeout_s=0.05 if how == "timeout" else None)
    if how == "close":
        stream = engine.stream(asked)
        await anext(stream)
        await stream.aclose()
    else:
        task = asyncio.create_task(engine.generate(asked))
        while not engine.running:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        if how == "abort":
            await engine.abort(["unknown", "long"])
        elif how == "cancel":
            task.cancel()
        kind = {"abort": CallAborted, "cancel": asyncio.CancelledError, "timeout": CallTimeout}[how]
        with pytest.raises(kind):
            await task
    assert engine.running == 0
    assert engine._runs.watching == 0


async def test_a_slow_reader_of_a_stream_is_not_interrupted(engine: Any) -> None:
    stream = engine.stream(call("slow", timeout_s=0.3))
    await anext(stream)
    await asyncio.sleep(0.5)  # the limit must not cancel the reader here, only a wait for the engine
    with contextlib.suppress(CallTimeout):
        await consume(stream)


async def test_a_template_that_refuses_is_a_bad_request(engine: Any) -> None:
    odd: Any = "unknown"
    with pytest.raises(CallError) as caught:
        await engine.generate(call("odd", messages=(Message(odd, "secret words"),)))
    assert caught.value.reason == "bad_request"
    assert "secret" not in caught.value.message


async def test_a_template_of_the_callers_own_is_refused(engine: Any) -> None:
    own = Sampling(chat_template_kwargs={"chat_template": "{{ 1 }}"})
    with pytest.raises(CallError, match="chat_template") as caught:
        await engine.generate(call("own", sampling=own))
    assert caught.value.reason == "bad_request"


async def test_bad_sampling_is_a_bad_request(engine: Any) -> None:
    with pytest.raises(CallError, match="top_p") as caught:
        await engine.generate(call("p", sampling=Sampling(top_p=7.0)))
    assert caught.value.reason == "bad_request"


async def test_priorities_are_taken(engine: Any) -> None:
    said = await asyncio.gather(*(engine.generate(call(f"p{i}", i, priority=i % 3 * 100 - 100)) for i in range(9)))
    assert len({one.text for one in said}) == 9


SPOKEN = {
    "<think>so</think>\n\nright": ("right", "so", 0),
    "so</think>right": ("right", "so", 0),
    "and on and on": (None, "and on and on", 0),
    '</think>ok <tool_call>\n{"name": "weigh", "arguments": {"kg": 3}}\n</tool_call>': ("ok ", None, 1),
}


@pytest.mark.parametrize("text", SPOKEN)
@pytest.mark.parametrize("streams", [False, True])
async def test_what_a_model_says_is_split(engine: Any, text: str, streams: bool) -> None:
    from local_fusion.engines.vllm_stream import Joiner

    thinking = Sampling(chat_template_kwargs={"enable_thinking": True})
    asked = call("said", sampling=thinking, tools=(TOOL,), tool_choice="auto", stream=streams)
    prepared = await engine._calls.prepare(asked)
    ids = engine._chat.tokenizer.encode(text, add_special_tokens=False)
    if streams:
        joiner, deltas = Joiner(asked, prepared, engine._calls), []
        for number, token in enumerate(ids):
            piece = SimpleNamespace(text=engine._chat.tokenizer.decode([token]), token_ids=[token])
            deltas.append(joiner.feed(SimpleNamespace(outputs=[piece], finished=number == len(ids) - 1)))
        said = joiner.said()
        assert "".join(delta.text for delta in deltas if delta) == (said[0] or "")
    else:
        said = engine._calls.read(asked, prepared, SimpleNamespace(text="", token_ids=ids, finish_reason="length"))
    assert (said[0], said[1], len(said[2])) == SPOKEN[text]
    if said[2]:
        assert said[2][0].id == "call_000000010"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weigh"}}])
async def test_forced_tools_are_called(engine: Any, choice: Any) -> None:
    asked = call("t", tools=(TOOL,), tool_choice=choice, sampling=Sampling(200, 1.0), messages=(Message("user", "x"),))
    said = await engine.generate(asked)
    assert said.finish_reason == "tool_calls"
    assert said.tool_calls[0].name == "weigh"
    assert 0 <= json.loads(said.tool_calls[0].arguments)["kg"] <= 9


async def test_tools_of_the_models_choice_and_past_tool_turns(engine: Any) -> None:
    from local_fusion.types import ToolCall

    past = (
        Message("user", "x"),
        Message("assistant", "", tool_calls=(ToolCall("1", "weigh", '{"kg": 2}'),)),
        Message("tool", "2 kg", tool_call_id="1"),
    )
    said = await engine.generate(call("auto", tools=(TOOL,), tool_choice="auto", messages=past))
    assert said.text is not None
    without = await engine.generate(call("none", tools=(TOOL,), tool_choice="none", messages=past))
    assert without.tokens.prompt < said.tokens.prompt


async def test_what_an_engine_says_of_itself(engine: Any) -> None:
    info = await engine.info()
    assert (info.context, info.max_running, info.gpus) == (1024, 256, 0.0)
    assert info.kv_cache_tokens >= 1024
    assert {"<think>", "<|im_end|>", "<tool_call>"} <= set(info.special_tokens)
    assert info.versions["vllm"] >= "0.26"
    assert (await engine.check()).ready
    with pytest.raises(CallError, match="GPU"):
        await engine.sleep()


async def test_two_hundred_at_once(engine: Any) -> None:
    said = await asyncio.gather(*(engine.generate(call(f"m{i}", i)) for i in range(200)))
    assert all(one.tokens.completion == 24 for one in said)
    assert engine.running == 0
