"""Tool calls in pieces, log-probabilities, raw completions and token ids of the scripted engine."""

from __future__ import annotations

import asyncio
import math
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_fusion.config.schema import ScriptedSettings
from local_fusion.engine import PassingEngine, join_deltas
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.engines.scripted_tokens import Vocabulary
from local_fusion.errors import CallError, ContextExceeded
from local_fusion.types import Call, Completion, Delta, Message, Sampling, TextCall, TextCompletion, ToolCall, ToolDelta

ASK = (Message("user", "How many apples are there?"),)
TOOL = {
    "type": "function",
    "function": {
        "name": "weigh",
        "parameters": {"type": "object", "properties": {"what": {"type": "string", "minLength": 30}}},
    },
}
REQUIRED: Any = {**TOOL, "function": {**TOOL["function"], "parameters": {**TOOL["function"]["parameters"]}}}
REQUIRED["function"]["parameters"]["required"] = ["what"]
MARKED = 'Let me see. <tool_call>{"name": "weigh", "arguments": {"what": "one äpple"}}</tool_call>'


def engine(**settings: Any) -> ScriptedEngine:
    return ScriptedEngine("one", ScriptedSettings(**settings))


def call(**fields: Any) -> Call:
    return Call(**({"id": "c", "messages": ASK, "sampling": Sampling(), "seed": 1} | fields))


def text_call(prompt: Any = "one two", sampling: Sampling | None = None, **fields: Any) -> TextCall:
    return TextCall(**({"id": "t", "prompt": prompt, "sampling": sampling or Sampling(), "seed": 1} | fields))


async def parts_of(stream: Any) -> tuple[Delta, list[Delta], Any]:
    """All deltas joined, the deltas, and the last item."""
    parts = [part async for part in stream]
    return reduce(join_deltas, parts[:-1], Delta()), parts[:-1], parts[-1]


async def last_of(stream: Any) -> TextCompletion:
    return (await parts_of(stream))[2]


def test_deltas_add_up_by_the_index_of_their_tools():
    pieces = [
        Delta("a", tools=(ToolDelta(0, "id", "f", "{"),)),
        Delta("b", tools=(ToolDelta(0, arguments="}"), ToolDelta(1, "id2", "g"))),
        Delta(reasoning="r", tools=(ToolDelta(1, arguments="{}"),)),
    ]
    assert reduce(join_deltas, pieces) == Delta(
        "ab", "r", (ToolDelta(0, "id", "f", "{}"), ToolDelta(1, "id2", "g", "{}"))
    )


@pytest.mark.parametrize("choice", ["required", "auto"])
async def test_tool_calls_come_in_pieces_that_join_to_the_completion(choice: str):
    one = engine(answers=(MARKED,)) if choice == "auto" else engine()
    asked = call(tools=(REQUIRED,), tool_choice=choice)
    joined, deltas, last = await parts_of(one.stream(asked))
    assert last.finish_reason == "tool_calls"
    assert sum(bool(delta.tools) for delta in deltas) > 3
    assert joined.tools == tuple(ToolDelta(n, t.id, t.name, t.arguments) for n, t in enumerate(last.tool_calls))
    assert (joined.text or None) == last.text
    assert (await one.generate(asked)).tool_calls == last.tool_calls


async def test_marked_tool_calls_need_the_tool_and_end_with_its_result():
    one = engine(answers=(MARKED,))
    said = await one.generate(call(tools=(TOOL,)))
    assert (said.text, said.tool_calls[0].arguments) == ("Let me see.", '{"what": "one äpple"}')
    assert (await one.generate(call())).text == MARKED
    other = {"type": "function", "function": {"name": "other"}}
    assert (await one.generate(call(tools=(other,)))).tool_calls == ()
    past = (*ASK, Message("assistant", "", tool_calls=(ToolCall("1", "weigh", "{}"),)), Message("tool", "2 kg"))
    told = await one.generate(call(tools=(TOOL,), messages=past))
    assert (told.text, told.tool_calls, told.finish_reason) == ("Let me see. ", (), "stop")


async def test_log_probabilities_are_of_the_words_of_the_text():
    one = engine(answers=("<think>so and so</think>it is right",), certainty=0.8)
    joined, _, last = await parts_of(one.stream(call(logprobs=3)))
    assert [entry.token for entry in last.logprobs] == ["it", " is", " right"]
    assert "".join(entry.raw.decode() for entry in last.logprobs) == last.text
    assert joined.logprobs == last.logprobs == (await one.generate(call(logprobs=3))).logprobs
    for entry in last.logprobs:
        assert entry.top[0] == (entry.token, entry.logprob) == (entry.token, pytest.approx(math.log(0.8)))
        assert len(entry.top) == 3
        assert sum(math.exp(chance) for _, chance in entry.top) <= 1.0
    assert all(not entry.top for entry in (await one.generate(call(logprobs=0))).logprobs)
    assert (await one.generate(call())).logprobs == ()
    assert not any(delta.logprobs for delta in (await parts_of(one.stream(call())))[1])


async def test_a_completion_of_a_text_counts_words_and_says_its_tokens():
    one = engine(answers=("one two three four",))
    joined, deltas, last = await parts_of(one.complete(text_call(sampling=Sampling(3), stream=True, logprobs=1)))
    assert (last.text, last.finish_reason) == ("one two three", "length")
    assert (last.tokens.prompt, last.tokens.completion, len(deltas)) == (2, 3, 3)
    assert (joined.text, joined.logprobs) == (last.text, last.logprobs)
    assert [entry.token_id for entry in last.logprobs] == list(last.token_ids)
    assert await one.detokenize(last.token_ids) == last.text
    _, deltas, again = await parts_of(one.complete(text_call(sampling=Sampling(3), logprobs=1)))
    assert (deltas, again.text, again.logprobs) == ([], last.text, last.logprobs)
    stopped = await last_of(one.complete(text_call(sampling=Sampling(stop=("three",)))))
    assert (stopped.text, stopped.finish_reason, stopped.logprobs) == ("one two ", "stop", ())


async def test_echo_scores_the_prompt_and_may_generate_nothing():
    one = engine()
    ids = await one.tokenize("the cat sat on it")
    said = await last_of(one.complete(text_call(tuple(ids), Sampling(0), echo=True, logprobs=2)))
    assert (said.text, said.token_ids, said.logprobs, said.tokens.completion) == ("", (), (), 0)
    assert said.finish_reason == "length"
    assert list(said.prompt_token_ids) == ids == [entry.token_id for entry in said.prompt_logprobs]
    assert said.prompt_logprobs[0].logprob is None
    assert all(entry.logprob < 0 and len(entry.top) == 2 for entry in said.prompt_logprobs[1:])
    assert len({entry.logprob for entry in said.prompt_logprobs}) == 5
    by_text = await last_of(one.complete(text_call("the cat sat on it", Sampling(0), echo=True, logprobs=2)))
    assert by_text.prompt_logprobs == said.prompt_logprobs
    assert (await last_of(one.complete(text_call(logprobs=2)))).prompt_logprobs == ()
    assert (await last_of(one.complete(text_call(echo=True)))).prompt_logprobs == ()


async def test_completions_fail_as_chats_do():
    with pytest.raises(CallError, match="scripted failure"):
        await last_of(engine(fail_rate=1.0).complete(text_call()))
    with pytest.raises(ContextExceeded):
        await last_of(engine(context=16).complete(text_call("word " * 20)))
    with pytest.raises(CallError, match="no token 99999") as caught:
        await last_of(engine().complete(text_call((99999,))))
    assert caught.value.reason == "bad_request"


@given(st.text())
def test_token_ids_are_the_text_again(text: str):
    vocabulary = Vocabulary()
    assert vocabulary.text(vocabulary.ids(text)) == text
    assert vocabulary.ids(text) == vocabulary.ids(text)


async def test_token_ids_of_conversations_and_bytes():
    one = engine()
    assert len(await one.tokenize(ASK)) == (await one.count_tokens([ASK]))[0]
    assert await one.detokenize([104, 105]) == "hi"
    with pytest.raises(CallError, match="no token -1"):
        await one.detokenize([-1])


@pytest.mark.parametrize("kind", ["stream", "complete"])
async def test_closing_the_iterator_ends_the_call_at_once(kind: str):
    one = engine(answers=("a b c d",), tokens_per_s=2.0)
    front = PassingEngine(one)
    stream: Any = front.stream(call(stream=True)) if kind == "stream" else front.complete(text_call(stream=True))
    await anext(stream)
    assert await front.count_running() == 1
    async with asyncio.timeout(1.0):
        await stream.aclose()
    assert await front.count_running() == 0
    assert one.aborted == 1


async def test_what_passes_on_passes_everything_on():
    front = PassingEngine(engine())
    assert await front.detokenize(await front.tokenize("a b")) == "a b"
    assert isinstance(await last_of(front.complete(text_call())), TextCompletion)
    assert isinstance((await parts_of(front.stream(call())))[2], Completion)
