"""Packing keeps values whole."""

from local_fusion.cluster.wire import pack, unpack
from local_fusion.errors import CallTimeout
from local_fusion.types import (
    Call,
    Completion,
    Delta,
    LabelCall,
    LabelRead,
    Message,
    Sampling,
    Timing,
    Tokens,
    ToolCall,
)


def test_calls_come_back_equal():
    calls = [
        (
            1,
            Call(
                id="a",
                messages=(Message("user", "naïve \x00 text", tool_calls=(ToolCall("1", "f", "{}"),)),),
                sampling=Sampling(stop=("x",), chat_template_kwargs={"enable_thinking": False}),
                seed=7,
                json_schema={"type": "object"},
                tools=({"type": "function"},),
            ),
        ),
        (2, LabelCall(id="b", messages=(Message("user", "?"),), labels=("A", "B"))),
    ]
    assert unpack(pack(calls)) == calls


def test_events_come_back_equal_and_errors_keep_their_reason():
    events = [
        (1, Completion("a", "m", "text", "stop", tokens=Tokens(1, 2, 3), timing=Timing(0.5), logprob=-1.5)),
        (2, LabelRead("b", "m", (-0.1, -2.0))),
        (3, Delta("x", "y")),
    ]
    assert unpack(pack(events)) == events
    ((_, error),) = unpack(pack([(4, CallTimeout("m: too late"))]))
    assert isinstance(error, CallTimeout)
    assert (error.message, error.reason) == ("m: too late", "timeout")
