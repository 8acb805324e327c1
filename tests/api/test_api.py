"""The Python door, plain and async, on scripted engines."""

import asyncio
from typing import Any

import pytest

from local_fusion import LocalFusion
from local_fusion.api import as_messages
from local_fusion.config import parse_config
from local_fusion.errors import ConfigError, FusionError, InputError, UserError
from local_fusion.fusion.events import Event, Listener, MemberDone
from local_fusion.types import Message, Request, Sampling

CONFIG = """
models:
  a: {engine: scripted, scripted: {answers: ["It is 4."]}}
  b: {engine: scripted, scripted: {answers: ["It is 4."]}}
  broken: {engine: scripted, scripted: {fail_rate: 1.0}}
fusions:
  pair: {panel: [a, b], mode: vote}
  hopeless: {panel: [broken], mode: best-of}
runtime: {hosts: local}
"""


def test_run_keeps_the_order_of_the_prompts() -> None:
    with LocalFusion(parse_config(CONFIG)) as fusion:
        answers = fusion.run(["one", [{"role": "user", "content": "two"}], [Message("user", "three")]])
    assert [answer.text for answer in answers] == ["It is 4."] * 3
    assert all(answer.receipt.mode == "vote" for answer in answers)


def test_ask_tells_its_listener() -> None:
    heard: list[Event] = []
    with LocalFusion(parse_config(CONFIG), mode="merge") as fusion:
        fused = fusion.ask("What is 2 + 2?", listener=Listener(heard.append))
    assert fused.receipt.mode == "merge"
    assert sum(isinstance(event, MemberDone) for event in heard) == 2


async def test_the_async_form() -> None:
    async with LocalFusion(parse_config(CONFIG)) as fusion:
        answers = await fusion.run_async(["x", "y"])
        single = await fusion.fuse(Request("mine", (Message("user", "z"),), sampling=Sampling(temperature=0.0)))
    assert [answer.text for answer in answers] == ["It is 4."] * 2
    assert single.request_id == "mine"


def test_a_prompt_without_any_answer() -> None:
    with LocalFusion(parse_config(CONFIG), "hopeless") as fusion:
        with pytest.raises(FusionError):
            fusion.run(["x"])
        results = fusion.run(["x", "y"], return_errors=True)
    assert [result.code for result in results if isinstance(result, FusionError)] == ["all_panels_failed"] * 2


def test_wrong_use_is_refused() -> None:
    fusion = LocalFusion(parse_config(CONFIG))
    with pytest.raises(UserError, match="with"):
        fusion.run(["x"])
    with pytest.raises(ConfigError, match="did you mean 'pair'"):
        LocalFusion(parse_config(CONFIG), "pairs")
    with pytest.raises(ConfigError, match="unknown key 'mod'"):
        LocalFusion(parse_config(CONFIG), mod="vote")
    with LocalFusion(parse_config(CONFIG)) as started, pytest.raises(InputError, match="message 0"):
        started.ask([{"role": "robot", "content": "x"}])


async def test_a_wrong_prompt_among_others_starts_none_of_them() -> None:
    async with LocalFusion(parse_config(CONFIG)) as fusion:
        with pytest.raises(InputError, match="message 0"):
            await fusion.run_async(["x", [{"role": "nobody", "content": "y"}]])
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("turn", "told"),
    [
        ("hello", "message 0: give a mapping"),
        (
            {"role": "user", "content": "x", "tool_calls": [{"id": "call_1"}]},
            "message 0: 'tool_calls' is not taken here",
        ),
    ],
)
def test_a_turn_that_would_be_read_in_part_is_refused(turn: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        as_messages([turn])


def test_a_turn_of_a_tool_keeps_whose_result_it_is() -> None:
    turns = as_messages([{"role": "tool", "content": "4", "tool_call_id": "call_1"}])
    assert turns == (Message("tool", "4", tool_call_id="call_1"),)


def test_a_block_entered_twice_is_refused_and_the_first_goes_on() -> None:
    with LocalFusion(parse_config(CONFIG)) as fusion:
        with pytest.raises(UserError, match="already started"), fusion:
            pass
        assert fusion.ask("x").text == "It is 4."
