"""The pure builder: what is heard becomes events of the right form and order, and one response object."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from local_fusion.openai_api.responses_events import ResponseEvents, usage_of
from local_fusion.types import Analysis, Answer, Failure, Insight, TokenLogprob, Tokens, ToolCall, ToolDelta
from tests.server.responses_check import check_stream, kinds

HEAD = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "team", "parallel_tool_calls": True,
    "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None, "usage": None,
}  # fmt: skip
ANALYSIS = Analysis(consensus=("4",), unique_insights=(Insight("one", "even"),))
USAGE = usage_of(Tokens(10, 2, 5), 1)


def ids() -> Callable[[str], str]:
    numbers = count()
    return lambda prefix: f"{prefix}{next(numbers)}"


class Heard(ResponseEvents):
    """A builder that remembers all it has told."""

    def __init__(self, first: int = 0) -> None:
        super().__init__(HEAD, ids(), first)
        self.told: list[dict[str, Any]] = []

    def all(self) -> list[dict[str, Any]]:
        self.told += self.take()
        return self.told


def begun(first: int = 0) -> Heard:
    events = Heard(first)
    events.begun()
    return events


def panel(events: Heard) -> Any:
    assert events.fusion is not None
    return events.fusion


def finished(events: Heard, text: str, **more: Any) -> dict[str, Any]:
    """End it, check all that was told, and that the last event is the response itself."""
    finish = more.pop("finish", "stop")
    events.finished("judge", text, finish, USAGE, **more)
    body = check_stream(events.all(), more.get("first", 0))
    assert body == events.body()
    return body


def test_a_member_s_answer_streams_in_openai_s_order() -> None:
    events = begun()
    events.piece("It ")
    events.piece("is 4.")
    body = finished(events, "It is 4.")
    assert kinds(events.told) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert body["status"] == "completed"
    assert body["model"] == "judge"
    assert body["output"][0]["content"] == [
        {"type": "output_text", "text": "It is 4.", "annotations": [], "logprobs": []}
    ]
    assert body["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 15,
    }


def test_a_fusion_comes_first_with_all_that_happens_in_it() -> None:
    events = begun()
    events.fusion_began({"two"})
    fusion = panel(events)
    for model, sample in (("one", 0), ("two", 0), ("two", 1)):
        fusion.added(model, sample)
    fusion.delta("one", 0, "4", "")
    fusion.delta("two", 1, "", "hm")
    fusion.completed(Answer("two", 1, "four"))
    fusion.failed(Failure("two", "timeout", "two took too long", sample=0))
    fusion.completed(Answer("one", 0, "4"))
    fusion.analysis_started("judge")
    fusion.analysis_done(ANALYSIS)
    events.fusion_ended()
    events.piece("4")
    body = finished(events, "4")
    assert kinds(events.told)[2:] == [
        "output_item.added", "fusion_call.in_progress", "fusion_call.panel.added", "fusion_call.panel.added",
        "fusion_call.panel.added", "fusion_call.panel.delta", "fusion_call.panel.reasoning.delta",
        "fusion_call.panel.completed", "fusion_call.panel.failed", "fusion_call.panel.completed",
        "fusion_call.analysis.in_progress", "fusion_call.analysis.completed", "fusion_call.completed",
        "output_item.done", "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    item, message = body["output"]
    assert item["status"] == "completed"
    assert item["responses"] == [{"model": "one", "content": "4"}, {"model": "two#1", "content": "four"}]
    assert [(one["model"], one["status_code"]) for one in item["failed_models"]] == [("two#0", 504)]
    assert item["analysis"]["unique_insights"] == [{"model": "one", "insight": "even"}]
    assert message["type"] == "message"
    asked = [event for event in events.told if event["type"].endswith("analysis.in_progress")]
    assert asked[0]["analyst_model"] == asked[0]["judge_model"] == "judge"


def test_a_failed_analysis_is_left_out() -> None:
    events = begun()
    events.fusion_began()
    panel(events).completed(Answer("one", 0, "4"))
    panel(events).analysis_started("judge")
    panel(events).analysis_done(None)
    body = finished(events, "4")
    assert "fusion_call.analysis.completed" not in kinds(events.told)
    assert "analysis" not in body["output"][0]


def test_members_stopped_early_are_told_but_have_not_failed() -> None:
    events = begun()
    events.fusion_began()
    panel(events).added("slow", 0)
    panel(events).completed(Answer("one", 0, "4"))
    panel(events).not_needed()
    body = finished(events, "4")
    (told,) = [event for event in events.told if event["type"].endswith("panel.failed")]
    assert (told["model"], told["status_code"], told["reason"]) == ("slow", 499, "not_needed")
    assert body["output"][0]["failed_models"] == []


def test_a_later_round_is_told_under_the_same_name_and_the_last_word_counts() -> None:
    events = begun()
    events.fusion_began()
    panel(events).added("one", 0)
    panel(events).completed(Answer("one", 0, "5"))
    panel(events).added("one", 0, 1)
    panel(events).completed(Answer("one", 0, "4", round=1))
    body = finished(events, "4")
    added = [event for event in events.told if event["type"].endswith("panel.added")]
    assert [(event["model"], event["round"]) for event in added] == [("one", 0), ("one", 1)]
    assert body["output"][0]["responses"] == [{"model": "one", "content": "4", "round": 1}]


def test_all_failed_is_a_failed_response_with_the_reason_in_the_item() -> None:
    events = begun()
    events.fusion_began()
    panel(events).failed(Failure("one", "engine_error", "one: scripted failure"))
    events.fusion_ended("no member gave an answer", "all_panels_failed")
    events.failed("no member gave an answer", "all_panels_failed")
    body = check_stream(events.all())
    assert kinds(events.told)[-3:] == ["output_item.done", "error", "failed"]
    assert "fusion_call.completed" not in kinds(events.told)
    assert body["status"] == "failed"
    assert body["error"] == {"code": "all_panels_failed", "message": "no member gave an answer"}
    assert body["output"][0]["status"] == "incomplete"
    assert body["output"][0]["failure_reason"] == "all_panels_failed"
    assert body == events.body()


def test_an_outer_model_speaks_calls_the_fusion_and_speaks_again() -> None:
    events = begun()
    events.piece("Let me ask.", "Hard.")
    events.fusion_began()
    panel(events).completed(Answer("one", 0, "4"))
    events.fusion_ended()
    events.piece("\n\nIt is 4.")
    body = finished(events, "Let me ask.\n\nIt is 4.", reasoning="Hard.")
    assert [item["type"] for item in body["output"]] == ["reasoning", "message", "openrouter:fusion", "message"]
    assert [event["output_index"] for event in events.told if event["type"].endswith("item.added")] == [0, 1, 2, 3]


def test_tool_calls_stream_piece_by_piece_each_an_item() -> None:
    events = begun()
    events.piece(reasoning="I need both.")
    events.piece(tools=(ToolDelta(0, "call_a", "add", ""), ToolDelta(0, arguments='{"x":')))
    events.piece(tools=(ToolDelta(0, arguments="1}"), ToolDelta(1, "call_b", "now", "{}")))
    calls = (ToolCall("call_a", "add", '{"x":1}'), ToolCall("call_b", "now", "{}"))
    body = finished(events, "", finish="tool_calls", reasoning="I need both.", tool_calls=calls)
    assert kinds(events.told)[8:] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [item["type"] for item in body["output"]] == ["reasoning", "function_call", "function_call"]
    assert [(item["call_id"], item["arguments"]) for item in body["output"][1:]] == [
        ("call_a", '{"x":1}'),
        ("call_b", "{}"),
    ]


@pytest.mark.parametrize("heard", [True, False])
def test_what_streamed_and_what_did_not_give_the_same_items(heard: bool) -> None:
    events = begun()
    calls = (ToolCall("call_a", "add", "{}"),)
    if heard:
        events.piece("Wait.", "Hm.")
        events.piece(tools=(ToolDelta(0, "call_a", "add", "{}"),))
    body = finished(events, "Wait.", finish="tool_calls", reasoning="Hm.", tool_calls=calls)
    assert [item["type"] for item in body["output"]] == ["reasoning", "message", "function_call"]
    assert body["output"][1]["content"][0]["text"] == "Wait."


def test_text_that_streamed_too_early_is_replaced_in_the_same_item() -> None:
    events = begun()
    events.piece("It is 5.", "Five?")
    body = finished(events, "It is 4.")
    assert [item["type"] for item in body["output"]] == ["message"]
    assert body["output"][0]["content"][0]["text"] == "It is 4."
    (done,) = [event for event in events.told if event["type"] == "response.output_text.done"]
    assert done["text"] == "It is 4."


def test_a_tool_call_that_came_to_nothing_is_withdrawn() -> None:
    events = begun()
    events.piece(tools=(ToolDelta(0, "call_a", "add", '{"x'),))
    body = finished(events, "I cannot.")
    assert [item["type"] for item in body["output"]] == ["message"]


def test_an_answer_cut_by_the_token_limit_is_incomplete() -> None:
    events = begun()
    events.piece("One two")
    body = finished(events, "One two", finish="length")
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert body["output"][0]["status"] == "incomplete"
    assert events.told[-1]["type"] == "response.incomplete"


def test_a_cancelled_response_ends_its_items_and_says_so() -> None:
    events = Heard()
    events.queued()
    events.begun()
    events.fusion_began()
    panel(events).added("one", 0)
    events.cancelled()
    body = check_stream(events.all())
    assert kinds(events.told)[:3] == ["created", "queued", "in_progress"]
    assert body["status"] == "cancelled"
    assert body["output"][0]["status"] == "incomplete"


def test_log_probabilities_stand_in_deltas_and_in_the_finished_text() -> None:
    events = begun()
    token = TokenLogprob("4", 7, -0.1, (("4", -0.1), ("5", -2.0)), b"4")
    events.piece("4", logprobs=(token,))
    body = finished(events, "4", logprobs=(token,))
    (delta,) = [event for event in events.told if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"][0]["top_logprobs"][1] == {"token": "5", "logprob": -2.0}
    assert body["output"][0]["content"][0]["logprobs"][0]["bytes"] == [52]


def test_a_run_begun_again_numbers_its_events_from_where_it_is_told() -> None:
    events = begun(1000)
    events.finished("judge", "4", "stop", USAGE)
    check_stream(events.all(), 1000)
