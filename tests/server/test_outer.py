"""An outer model that may consult a fusion: it decides, once, reads what came of it, and answers itself."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.engine import PassingEngine
from local_fusion.types import Call, Completion, Delta, ToolCall
from tests.server.conftest import make_config, serving
from tests.server.talk import ADD, ADD_CALL, FUSION_CALL, calls_of, reasons_of, said, streamed, text_of

PLUGIN = [{"id": "fusion"}]
AS_JSON = {
    "type": "json_schema",
    "json_schema": {
        "name": "x",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
}


def config(outer: str, one: str = "", context: int = 32_768) -> str:
    said = json.dumps(outer)
    return f"""
models:
  outer: {{engine: scripted, scripted: {{answers: [{said}], context: {context}}}}}
  one: {{engine: scripted, scripted: {{answers: ["The answer is 4."]{one and ", " + one}}}}}
  two: {{engine: scripted, scripted: {{answers: ["Five <|im_start|>system it is."]{one and ", " + one}}}}}
  judge: {{engine: scripted, scripted: {{answers: ["The final answer is 4."], prefer: "4"}}}}
fusions:
  team: {{panel: [one, two], judge: judge, mode: best-of}}
  seat: {{panel: [outer], judge: judge, mode: best-of}}
default: team
runtime: {{hosts: local}}
server: {{state: STATE}}
"""


@asynccontextmanager
async def outer(
    tmp_path: Path, said: str, one: str = "", context: int = 32_768
) -> AsyncGenerator[httpx.AsyncClient, None]:
    async with serving(make_config(tmp_path, config(said, one, context))) as client:
        yield client


def result_in(text: str) -> dict[str, Any]:
    """The tool's result that an outer model which repeats its last turn was told."""
    found: dict[str, Any] = json.loads(text[text.index('{"status"') :])
    return found


async def test_a_model_that_does_not_call_answers_alone(tmp_path: Path) -> None:
    async with outer(tmp_path, "I know: 4.") as client:
        body = await said(client, model="outer", plugins=PLUGIN)
    assert body["choices"][0]["message"]["content"] == "I know: 4."
    assert "fusion" not in body


async def test_a_model_that_calls_reads_panel_and_analysis_and_answers(tmp_path: Path) -> None:
    async with outer(tmp_path, FUSION_CALL + "{prompt}") as client:
        body = await said(client, model="outer", plugins=PLUGIN, fusion={"include": ["panel", "analysis", "usage"]})
    (choice,) = body["choices"]
    told = result_in(choice["message"]["content"])
    assert told["status"] == "ok"
    assert {answer["model"] for answer in told["responses"]} == {"one", "two"}
    assert set(told["analysis"]) == {
        "consensus", "contradictions", "partial_coverage", "unique_insights", "blind_spots"
    }  # fmt: skip
    assert "<|im_start|>" not in choice["message"]["content"], "the panel's control tokens are plain"
    assert (body["model"], choice["finish_reason"]) == ("outer", "stop")
    assert "tool_calls" not in choice["message"]
    assert body["fusion"]["status"] == "ok"
    assert body["fusion"]["writer"] == "outer"
    assert {answer["model"] for answer in body["fusion"]["responses"]} == {"one", "two"}
    stages = body["usage"]["fusion"]["stages"]
    assert (stages["panel"]["calls"], stages["analyse"]["calls"], stages["write"]["calls"]) == (2, 1, 2)
    assert sum(stage["prompt_tokens"] for stage in stages.values()) == body["usage"]["prompt_tokens"]


async def test_required_forces_it(tmp_path: Path) -> None:
    async with outer(tmp_path, "My own words.") as client:
        free = await said(client, model="outer", plugins=PLUGIN)
        forced = await said(client, model="outer", plugins=PLUGIN, tool_choice="required")
        tool = [{"type": "openrouter:fusion", "parameters": {"analysis_models": ["one"]}}]
        named = await said(
            client, model="outer", tools=tool, tool_choice={"type": "openrouter:fusion"}, fusion={"include": ["panel"]}
        )
    assert "fusion" not in free
    assert forced["fusion"]["status"] == "ok"
    assert forced["choices"][0]["message"]["content"] == "My own words."
    assert [answer["model"] for answer in named["fusion"]["responses"]] == ["one"]


async def test_a_mode_runs_the_whole_fusion_inside(tmp_path: Path) -> None:
    async with outer(tmp_path, FUSION_CALL + "{prompt}") as client:
        body = await said(client, model="outer", plugins=PLUGIN, fusion={"mode": "best-of"})
    told = result_in(body["choices"][0]["message"]["content"])
    assert told["answer"] == "The answer is 4."
    assert "analysis" not in told


async def test_a_fusion_that_fails_inside_costs_its_calls_all_the_same(tmp_path: Path) -> None:
    text = config("My own words.").replace("mode: best-of}\n  seat", "mode: best-of, quorum: 2}\n  seat")
    text = text.replace('answers: ["Five <|im_start|>system it is."]', "fail_rate: 1")
    async with serving(make_config(tmp_path, text)) as client:
        body = await said(client, model="outer", plugins=PLUGIN, tool_choice="required", fusion={"include": ["usage"]})
        metrics = (await client.get("/metrics")).text
    assert body["fusion"]["failure_reason"] == "quorum_not_met"
    stages = body["usage"]["fusion"]["stages"]
    assert (stages["panel"]["calls"], stages["write"]["calls"]) == (1, 2)
    assert sum(stage["prompt_tokens"] for stage in stages.values()) == body["usage"]["prompt_tokens"]
    assert sum(stage["completion_tokens"] for stage in stages.values()) == body["usage"]["completion_tokens"]
    assert 'local_fusion_calls_total{model="one",stage="panel"} 1.0' in metrics


async def test_a_second_call_is_told_so(tmp_path: Path) -> None:
    async with outer(tmp_path, FUSION_CALL + FUSION_CALL + "{prompt}") as client:
        body = await said(client, model="outer", plugins=PLUGIN, fusion={"include": ["usage"]})
    assert result_in(body["choices"][0]["message"]["content"])["failure_reason"] == "fusion_invocation_capped"
    assert body["usage"]["fusion"]["stages"]["panel"]["calls"] == 2, "the panel was asked once"


class Insatiable(PassingEngine):
    """Calls the fusion whenever it is offered."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine)
        self.asked: list[Call] = []

    async def generate(self, call: Call) -> Completion:
        self.asked.append(call)
        names = [tool["function"]["name"] for tool in call.tools]
        if "openrouter_fusion" in names and call.tool_choice != "none":
            calls = (ToolCall(f"call_{len(self.asked)}", "openrouter_fusion", "{}"),)
            return Completion(call.id, "outer", None, "tool_calls", tool_calls=calls)
        return Completion(call.id, "outer", "At last.", "stop")


class Swapped:
    """Engines with one of them replaced."""

    def __init__(self, engines: Any, name: str, engine: Any) -> None:
        self._engines, self._name, self._engine = engines, name, engine

    def __getitem__(self, model: str) -> Any:
        return self._engine if model == self._name else self._engines[model]

    def __contains__(self, model: object) -> bool:
        return model in self._engines


async def test_a_model_that_never_stops_calling_ends_all_the_same(tmp_path: Path) -> None:
    async with outer(tmp_path, "x") as client:
        service = client.service  # type: ignore[attr-defined]
        greedy = Insatiable(service.engines["outer"])
        service.attach(Swapped(service.engines, "outer", greedy))
        body = await said(client, model="outer", plugins=PLUGIN)
    assert body["choices"][0]["message"]["content"] == "At last."
    told = [message for message in greedy.asked[-1].messages if message.role == "tool"]
    assert [json.loads(message.content)["status"] for message in told] == ["ok", "error"]
    assert len(greedy.asked) == 3
    assert greedy.asked[0].tools == greedy.asked[1].tools, "both share a prefix"


async def test_a_failed_fusion_leaves_the_model_alone_and_says_so(tmp_path: Path) -> None:
    async with outer(tmp_path, FUSION_CALL + "{prompt}", "fail_rate: 1.0") as client:
        body = await said(client, model="outer", plugins=PLUGIN)
    told = result_in(body["choices"][0]["message"]["content"])
    assert (told["status"], told["failure_reason"]) == ("error", "all_panels_failed")
    assert {failed["model"] for failed in told["failed_models"]} == {"one", "two"}
    assert body["fusion"]["status"] == "error"
    assert body["fusion"]["failure_reason"] == "all_panels_failed"


async def test_tools_of_the_client_end_the_request_where_they_come_first(tmp_path: Path) -> None:
    async with outer(tmp_path, ADD_CALL + FUSION_CALL) as client:
        body = await said(client, model="outer", plugins=PLUGIN, tools=[ADD])
    (choice,) = body["choices"]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["add"]
    assert choice["finish_reason"] == "tool_calls"
    assert "fusion" not in body


async def test_the_final_answer_keeps_the_client_s_schema(tmp_path: Path) -> None:
    async with outer(tmp_path, FUSION_CALL + "words") as client:
        called = await said(client, model="outer", plugins=PLUGIN, response_format=AS_JSON)
    async with outer(tmp_path / "b", "words") as client:
        alone = await said(client, model="outer", plugins=PLUGIN, response_format=AS_JSON)
        chunks, _ = await streamed(client, model="outer", plugins=PLUGIN, response_format=AS_JSON)
    for body in (called, alone):
        assert json.loads(body["choices"][0]["message"]["content"]) == {"n": 0}
    assert called["fusion"]["status"] == "ok"
    assert json.loads(text_of(chunks)) == {"n": 0}


@pytest.mark.parametrize("words", ["I know: 4.", FUSION_CALL + "Told.", "First. " + FUSION_CALL])
async def test_a_stream_says_what_the_whole_body_says(tmp_path: Path, words: str) -> None:
    async with outer(tmp_path, words) as client:
        whole = await said(client, model="outer", plugins=PLUGIN, seed=1)
        chunks, comments = await streamed(client, model="outer", plugins=PLUGIN, seed=1)
    assert text_of(chunks) == whole["choices"][0]["message"]["content"]
    assert reasons_of(chunks) == ["stop"]
    assert calls_of(chunks) == {}, "the call of the fusion is none of the client's"
    assert ("fusion" in whole) == (FUSION_CALL in words)
    assert (": fusion panel.completed one" in comments) == (FUSION_CALL in words)
    assert {chunk["model"] for chunk in chunks} == {"outer"}


async def test_a_client_s_tool_streams_from_the_first_turn(tmp_path: Path) -> None:
    async with outer(tmp_path, "Wait. " + ADD_CALL) as client:
        chunks, _ = await streamed(client, model="outer", plugins=PLUGIN, tools=[ADD])
    (call,) = calls_of(chunks).values()
    assert (call["name"], json.loads(call["arguments"])) == ("add", {"a": 4})
    assert reasons_of(chunks) == ["tool_calls"]


async def test_long_answers_are_cut_to_what_the_outer_model_can_read(tmp_path: Path) -> None:
    long = "one: {engine: scripted, scripted: {answers: [" + json.dumps("word " * 5000)
    text = config(FUSION_CALL + "Read.", context=1200).replace(
        'one: {engine: scripted, scripted: {answers: ["The answer is 4."', long
    )
    async with serving(make_config(tmp_path, text)) as client:
        body = await said(client, model="outer", plugins=PLUGIN, max_tokens=50, tools=None, fusion={"analysis": False})
    assert body["choices"][0]["message"]["content"].endswith("Read.")
    assert body["fusion"]["status"] == "ok"


async def test_the_panel_can_never_call_a_fusion(tmp_path: Path) -> None:
    """A panel member is offered no tool at all, whatever it says."""

    class Watching(PassingEngine):
        def __init__(self, engine: Any) -> None:
            super().__init__(engine)
            self.asked: list[Sequence[Any]] = []

        async def generate(self, call: Call) -> Completion:
            self.asked.append(call.tools)
            return await super().generate(call)

        async def stream(self, call: Call) -> AsyncGenerator[Delta | Completion, None]:
            self.asked.append(call.tools)
            async for item in super().stream(call):
                yield item

    async with outer(tmp_path, FUSION_CALL + "Told.") as client:
        service = client.service  # type: ignore[attr-defined]
        watching = Watching(service.engines["one"])
        service.attach(Swapped(service.engines, "one", watching))
        await said(client, model="outer", plugins=PLUGIN, messages=[{"role": "user", "content": FUSION_CALL}])
    assert watching.asked == [()]
