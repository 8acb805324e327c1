"""What the journal holds of a call is the call's result, exactly."""

from __future__ import annotations

import math

import orjson
import pytest

from local_fusion.batch.records import call_record, dump, read_call
from local_fusion.errors import CallError, CallTimeout, ContextExceeded, EngineDied
from local_fusion.types import Completion, LabelRead, Timing, TokenLogprob, Tokens, ToolCall


@pytest.mark.parametrize(
    "outcome",
    [
        Completion("r/panel/a/0/x", "a", "text\n“é” 🦊", "stop", "thought", (ToolCall("1", "f", '{"a":1}'),)),
        Completion("r/panel/a/0/x", "a", None, "length", tokens=Tokens(1, 2, 3), logprob=-2.25),
        Completion("r", "a", "", "stop", timing=Timing(0.1, 0.2, 0.3, 0.4)),
        Completion(
            "r", "a", "é", "stop", logprobs=(TokenLogprob("\ufffd", 7, -0.5, (("x", -0.5), ("y", -math.inf)), b"\xc3"),)
        ),
        LabelRead("r/pick/a/0/x", "a", (-0.1, -math.inf, -3.0), Tokens(9, 8, 1), Timing(0.5)),
    ],
)
def test_results_come_back_equal(outcome):
    record = call_record(17, outcome.call_id, outcome)
    assert record.startswith(b'{"call":17,')
    assert record.endswith(b"\n")
    assert read_call(record) == (outcome.call_id, outcome)


def test_the_end_of_a_call_may_stand_beside_it():
    outcome = Completion("r/panel/a/0/x", "a", "text", "stop")
    record = call_record(17, outcome.call_id, outcome, 1234.56789)
    assert orjson.loads(record)["at"] == 1234.568
    assert read_call(record) == (outcome.call_id, outcome)


@pytest.mark.parametrize("kind", [CallError, ContextExceeded, CallTimeout, EngineDied])
def test_failures_come_back_with_class_reason_and_sentence(kind):
    call_id, outcome = read_call(call_record(1, "r/panel/a", kind("it took too long")))
    assert (call_id, type(outcome), outcome.message) == ("r/panel/a", kind, "it took too long")
    assert outcome.reason == kind.reason


def test_an_odd_reason_is_kept():
    _, outcome = read_call(call_record(1, "r", CallError("nothing but reasoning", "no_answer")))
    assert outcome.reason == "no_answer"


def test_text_that_is_no_unicode_is_still_written():
    record = call_record(1, "r", Completion("r", "a", "bad \ud800 char", "stop"))
    _, outcome = read_call(record)
    assert outcome.text == "bad ? char"
    assert dump({"a": "\udfff"}) == b'{"a": "?"}'


@pytest.mark.parametrize("raw", [b"", b"{", b'{"call":1}', b'{"call":1,"id":"a","completion":{"text":1}}', b"[]"])
def test_damage_is_a_value_error(raw):
    with pytest.raises(ValueError):  # noqa: PT011
        read_call(raw)
