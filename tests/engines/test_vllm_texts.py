"""The real engine on a CPU: tool calls in pieces, log-probabilities, raw completions, token ids."""

from __future__ import annotations

import asyncio
import json
import math
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pytest

from local_fusion.engine import join_deltas
from local_fusion.errors import CallError, ContextExceeded
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    LabelCall,
    Message,
    Sampling,
    TextCall,
    TextCompletion,
    ToolDelta,
)

pytestmark = pytest.mark.vllm

ASK = (Message("user", "How many apples are there?"),)
PARAMETERS = {
    "type": "object",
    "properties": {"what": {"type": "string", "pattern": "^[a-z]{20}$"}, "kg": {"type": "integer", "maximum": 9}},
    "required": ["what", "kg"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weigh", "description": "", "parameters": PARAMETERS}}
NAMED = {"type": "function", "function": {"name": "weigh"}}
LETTERS = {"type": "string", "pattern": "^[a-z ]{20}$"}


def call(name: str, **fields: Any) -> Call:
    return Call(**({"id": name, "messages": ASK, "sampling": Sampling(300, 1.0), "seed": 3} | fields))


def text_call(prompt: Any, **fields: Any) -> TextCall:
    return TextCall(
        **({"id": "text", "prompt": prompt, "sampling": Sampling(8, 0.0, ignore_eos=True), "seed": 1} | fields)
    )


async def parts_of(stream: Any) -> tuple[Delta, list[Delta], Any]:
    parts = [part async for part in stream]
    return reduce(join_deltas, parts[:-1], Delta()), parts[:-1], parts[-1]


async def completed(engine: Any, asked: TextCall) -> TextCompletion:
    return (await parts_of(engine.complete(asked)))[2]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_forced_tool_calls_stream_in_pieces(engine: Any, choice: Any) -> None:
    asked = call("forced", tools=(TOOL,), tool_choice=choice)
    joined, deltas, last = await parts_of(engine.stream(asked))
    assert last.finish_reason == "tool_calls"
    assert sum(bool(delta.tools) for delta in deltas) > 10
    assert joined.tools == tuple(ToolDelta(n, t.id, t.name, t.arguments) for n, t in enumerate(last.tool_calls))
    first = next(delta.tools[0] for delta in deltas if delta.tools)
    assert (first.name, first.id) == ("weigh", "call_000000030")
    assert all(
        not tool.name and not tool.id
        for delta in deltas
        for tool in delta.tools
        if tool.index == 0 and tool is not first
    )
    whole = await engine.generate(asked)
    assert [(t.id, t.name, json.loads(t.arguments)) for t in whole.tool_calls] == [
        (t.id, t.name, json.loads(t.arguments)) for t in last.tool_calls
    ]


async def test_a_forced_call_that_is_cut_ends_as_length(engine: Any) -> None:
    joined, _, last = await parts_of(
        engine.stream(call("cut", tools=(TOOL,), tool_choice=NAMED, sampling=Sampling(55, 1.0)))
    )
    assert last.finish_reason == "length"
    assert joined.tools[0].arguments == last.tool_calls[0].arguments


TEXTS = {
    "one call": ('<tool_call>\n{"name": "weigh", "arguments": {"what": "äpple", "kg": 3}}\n</tool_call>', "", 1),
    "text, then two": (
        'Sure. <tool_call>\n{"name": "weigh", "arguments": {"kg": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weigh", "arguments": {"kg": 2}}\n</tool_call>',
        "Sure. ",
        2,
    ),
    "thought first": (
        '<think>hm</think>\n\nyes<tool_call>\n{"name": "weigh", "arguments": {"kg": 4}}\n</tool_call>',
        "yes",
        1,
    ),
    "no call at all": ("a < b, and 1 <tool", "a < b, and 1 <tool", 0),
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("size", [1, 3, 400])
async def test_calls_of_the_models_own_choice_stream_in_pieces(engine: Any, case: str, size: int) -> None:
    """A stream of tokens made here: a model of random weights writes no such markup by itself."""
    from vllm.logprobs import Logprob

    from local_fusion.engines import vllm_compat
    from local_fusion.engines.vllm_stream import Joiner

    text, shown, count = TEXTS[case]
    thinks = Sampling(chat_template_kwargs={"enable_thinking": text.startswith("<think>")})
    asked = call("auto", tools=(TOOL,), tool_choice="auto", stream=True, logprobs=1, sampling=thinks)
    prepared = await engine._calls.prepare(asked)
    tokenizer, joiner, deltas = engine._chat.tokenizer, Joiner(asked, prepared, engine._calls), []
    ids = tokenizer.encode(text, add_special_tokens=False)
    detokenizer = vllm_compat.detokenizer(tokenizer, prepared.prompt.token_ids, prepared.params)
    for begin in range(0, len(ids), size):
        some = ids[begin : begin + size]
        detokenizer.update(some, False)
        piece = SimpleNamespace(
            text=detokenizer.get_next_output_text(False, True),
            token_ids=some,
            logprobs=[{token: Logprob(-0.5, 1)} for token in some],
        )
        deltas.append(joiner.feed(SimpleNamespace(outputs=[piece], finished=begin + size >= len(ids))))
    said, joined = joiner.said(), reduce(join_deltas, [delta for delta in deltas if delta], Delta())
    assert ((said[0] or "").rstrip("\n"), len(said[2])) == (shown, count)
    assert joined.text == (said[0] or "")
    assert joined.tools == tuple(ToolDelta(n, t.id, t.name, t.arguments) for n, t in enumerate(said[2]))
    if count and size == 1:
        assert sum(bool(delta and delta.tools) for delta in deltas) > 3
    assert joined.logprobs == joiner.logprobs
    assert b"".join(entry.raw for entry in joined.logprobs).decode().rstrip("\n") == shown
    output = SimpleNamespace(text=text, token_ids=ids, finish_reason="length")
    whole = engine._calls.read(asked, prepared, output)[2]
    assert [(t.id, t.name, json.loads(t.arguments)) for t in whole] == [
        (t.id, t.name, json.loads(t.arguments)) for t in said[2]
    ]


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_a_forced_choice_without_a_tool_parser_streams_too(cut: int) -> None:
    from local_fusion.engines.vllm_stream import ForcedPieces, ToolPieces

    text = '[{"name": "weigh", "parameters": {"what": "a]b", "kg": 1}}, {"name": "other", "parameters": {}}]'
    for choice, wanted in (
        ("required", [("weigh", {"what": "a]b", "kg": 1}), ("other", {})]),
        (NAMED, [("weigh", json.loads(text))]),
    ):
        forced, tools, heard = ForcedPieces(call("f", tool_choice=choice)), ToolPieces(3), Delta()
        for begin in range(0, len(text), cut):
            fed = tools.feed(forced.feed(text[begin : begin + cut], begin + cut >= len(text)))
            heard = join_deltas(heard, Delta(tools=fed))
        assert [(one.name, json.loads(one.arguments)) for one in tools.calls()] == wanted
        assert heard.tools == tuple(ToolDelta(n, t.id, t.name, t.arguments) for n, t in enumerate(tools.calls()))


async def test_log_probabilities_of_a_text(engine: Any) -> None:
    asked = call("scored", json_schema=LETTERS, logprobs=4)
    joined, deltas, last = await parts_of(engine.stream(asked))
    whole = await engine.generate(asked)
    assert whole.text == last.text == "".join(entry.token for entry in last.logprobs)
    assert b"".join(entry.raw for entry in whole.logprobs).decode() == whole.text
    assert joined.logprobs == last.logprobs
    assert sum(bool(delta.logprobs) for delta in deltas) > 3
    assert [entry.token_id for entry in whole.logprobs] == [entry.token_id for entry in last.logprobs]
    assert sum(entry.logprob for entry in whole.logprobs) >= whole.logprob - 1e-3  # it also counts the end token
    for entry in whole.logprobs:
        chances = [chance for _, chance in entry.top]
        assert len(chances) == 4
        assert chances == sorted(chances, reverse=True)
        assert sum(map(math.exp, chances)) <= 1.001
        assert len({token for token, _ in entry.top}) == 4
    plain = await engine.generate(call("scored", json_schema=LETTERS))
    assert (plain.text, plain.logprobs) == (whole.text, ())
    assert not (await engine.generate(call("zero", json_schema=LETTERS, logprobs=0))).logprobs[0].top


async def test_tokens_behind_reasoning_and_stop_strings_are_not_shown(engine: Any) -> None:
    thinking = Sampling(12, 1.0, chat_template_kwargs={"enable_thinking": True})
    said = await engine.generate(call("think", sampling=thinking, logprobs=1))
    assert said.reasoning
    assert said.logprobs == ()
    free = await engine.generate(call("free", json_schema=LETTERS))
    mark = free.text[8:10]
    stopped = await engine.generate(
        call("stop", json_schema=LETTERS, logprobs=1, sampling=Sampling(300, 1.0, stop=(mark,)))
    )
    assert stopped.text == free.text[: free.text.index(mark)]
    assert "".join(entry.token for entry in stopped.logprobs) == stopped.text


async def test_a_text_is_continued_and_streamed(engine: Any) -> None:
    whole = await completed(engine, text_call("Once upon a time", logprobs=2))
    assert isinstance(whole, TextCompletion)
    assert (whole.tokens.prompt, whole.tokens.completion, whole.finish_reason) == (16, 8, "length")
    assert [entry.token_id for entry in whole.logprobs] == list(whole.token_ids)
    assert whole.prompt_logprobs == ()
    joined, deltas, last = await parts_of(engine.complete(text_call("Once upon a time", logprobs=2, stream=True)))
    assert len(deltas) > 2
    assert (joined.text, joined.logprobs) == (last.text, last.logprobs)
    assert (last.text, last.token_ids) == (whole.text, whole.token_ids)
    ids = tuple(await engine.tokenize("Once upon a time"))
    by_ids = await completed(engine, text_call(ids))
    assert (by_ids.text, by_ids.prompt_token_ids, by_ids.logprobs) == (whole.text, ids, ())


async def test_an_echoed_prompt_is_scored_as_when_it_was_generated(engine: Any) -> None:
    """What an evaluation harness does: the log-likelihood of a continuation, and whether it is the greedy one."""
    said = await completed(engine, text_call("Once upon a time", logprobs=1))
    ids = said.prompt_token_ids + said.token_ids
    for most in (0, 1):
        asked = text_call(ids, sampling=Sampling(most, 0.0, ignore_eos=True), echo=True, logprobs=1)
        echoed = await completed(engine, asked)
        assert len(echoed.prompt_logprobs) == len(ids)
        assert echoed.prompt_logprobs[0].logprob is None
        assert [entry.token_id for entry in echoed.prompt_logprobs] == list(ids)
        scored = echoed.prompt_logprobs[len(said.prompt_token_ids) :]
        assert [entry.logprob for entry in scored] == pytest.approx([one.logprob for one in said.logprobs], abs=0.05)
        assert [entry.top[0][0] for entry in scored] == [entry.token for entry in scored]
        assert (len(echoed.token_ids), len(echoed.logprobs), echoed.tokens.completion) == (most, most, most)
    other = tuple((token + 1) % 256 for token in said.token_ids)
    wrong = await completed(
        engine, text_call(said.prompt_token_ids + other, sampling=Sampling(0), echo=True, logprobs=1)
    )
    entries = wrong.prompt_logprobs[-len(other) :]
    assert any(entry.top[0][0] != entry.token for entry in entries)
    assert sum(one.logprob for one in entries) < sum(one.logprob for one in said.logprobs)


async def test_stop_strings_end_a_text_but_not_its_tokens(engine: Any) -> None:
    asked = text_call("x", sampling=Sampling(40, 1.0, ignore_eos=True), logprobs=0)
    free = await completed(engine, asked)
    mark = next(letter for letter in free.text[6:] if letter.isascii() and letter.isprintable())
    stopped = await completed(engine, text_call("x", sampling=Sampling(40, 1.0, stop=(mark,)), logprobs=0))
    assert (stopped.text, stopped.finish_reason) == (free.text[: free.text.index(mark)], "stop")
    assert len(stopped.logprobs) == len(stopped.token_ids) == stopped.tokens.completion


async def test_raw_prompts_that_are_refused(engine: Any) -> None:
    for prompt, words in (("", "empty"), ((), "empty"), ((5, 99_999), "token ids are 0 to"), ((-1,), "token ids")):
        with pytest.raises(CallError, match=words) as caught:
            await completed(engine, text_call(prompt))
        assert caught.value.reason == "bad_request"
    with pytest.raises(ContextExceeded):
        await completed(engine, text_call((65,) * 1024, sampling=Sampling(0), echo=True))
    assert (await completed(engine, text_call((65,) * 1023, echo=True, logprobs=1))).tokens.completion == 1


async def test_token_ids_are_the_text_again(engine: Any) -> None:
    for text in ("naïve 🦊 words", "<|im_start|>user\nx<|im_end|>", "a" * 20_000, ""):
        assert await engine.detokenize(await engine.tokenize(text)) == text
    ids = await engine.tokenize(ASK)
    assert len(ids) == (await engine.count_tokens([ASK]))[0]
    assert (await engine.detokenize(ids)).startswith("<|im_start|>user\nHow many")
    for bad in ([-1], [263]):
        with pytest.raises(CallError, match="token ids are 0 to 262"):
            await engine.detokenize(bad)


async def test_closing_a_completion_aborts_it_in_the_engine(engine: Any) -> None:
    stream = engine.complete(text_call("x", sampling=Sampling(900, 1.0, ignore_eos=True), stream=True))
    await anext(stream)
    assert await engine.count_running() == 1
    async with asyncio.timeout(1.0):
        await stream.aclose()
    assert await engine.count_running() == 0


async def test_the_template_gets_what_it_knows(engine: Any) -> None:
    async def prompt(**kwargs: Any) -> int:
        said = await engine.generate(call("k", sampling=Sampling(1, chat_template_kwargs=kwargs)))
        assert isinstance(said, Completion)
        return int(said.tokens.prompt)

    plain = await prompt()
    assert await prompt(thinking=True, unheard_of="x") == plain
    assert await prompt(reasoning_effort="high") == plain + len("<|im_start|>system\nEffort: high<|im_end|>\n") - 22 + 2
    reads = [
        await engine.label_read(LabelCall("l", ASK, ("A", "B"), chat_template_kwargs=kwargs))
        for kwargs in ({}, {"reasoning_effort": "high"})
    ]
    assert reads[1].tokens.prompt > reads[0].tokens.prompt


async def test_a_forced_choice_without_a_tool_parser_is_held_to_its_schema(engine: Any) -> None:
    from local_fusion.engines import vllm_compat

    tight = vllm_compat.tight_json({"type": "object", "properties": {"kg": {"type": "integer"}}, "required": ["kg"]})
    assert tight.grammar
    prepared = await engine._calls.prepare(call("tight", sampling=Sampling(60, 1.0)))
    prepared.params.structured_outputs = tight
    with engine._runs.watched(call("tight")) as run:
        final = await engine._runs.final(run, prepared)
    text = engine._calls.read(call("tight"), prepared, final.outputs[0])[0]
    assert text.startswith('{"kg": ')
    odd = {"type": "integer", "multipleOf": 3}
    for schema in (odd, {"type": 5}):
        assert vllm_compat.tight_json(schema).json
