"""A stream that is sent again goes on where it was, tool calls and log-probabilities too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_fusion.cluster.given import Departed, Given
from local_fusion.engine import join_deltas
from local_fusion.types import Delta, TokenLogprob, ToolDelta

WORDS = ("one ", "two ", "three ", "four")
FIRST, SECOND = '{"a": [1, 2, 3]}', '{"b": "x y z"}'


def stream(cuts: list[int]) -> Iterator[Delta]:
    """The same stream, cut into pieces of different sizes."""
    for number, word in enumerate(WORDS):
        yield Delta(word, "r" * number, logprobs=(TokenLogprob(word, number, -0.5),))
    for index, (name, arguments) in enumerate((("f", FIRST), ("g", SECOND))):
        yield Delta(tools=(ToolDelta(index, f"id{index}", name),))
        place = 0
        for cut in [*cuts, 100]:
            if place < len(arguments):
                yield Delta(tools=(ToolDelta(index, arguments=arguments[place : place + cut]),))
            place += cut


def joined(pieces: list[Delta]) -> Delta:
    return reduce(join_deltas, pieces, Delta())


CUTS = st.lists(st.integers(1, 9), max_size=6)


@given(CUTS, CUTS, CUTS, st.integers(0, 20), st.integers(0, 20))
def test_attempts_join_to_one_stream(one: list[int], two: list[int], three: list[int], first: int, second: int) -> None:
    seen, heard = Given(), []
    for cuts, end in ((one, first), (two, second), (three, None)):
        seen.rewind()
        heard += [fresh for piece in list(stream(cuts))[:end] if (fresh := seen.fresh(piece)) is not None]
    assert joined(heard) == joined(list(stream([])))


@pytest.mark.parametrize(
    "other",
    [
        Delta("two "),
        Delta(reasoning="other"),
        Delta(tools=(ToolDelta(0, "id9", "f"),)),
        Delta(tools=(ToolDelta(0, "id0", "h"),)),
        Delta(tools=(ToolDelta(0, "id0", "f", "[]"),)),
    ],
)
def test_another_stream_is_refused(other: Delta) -> None:
    seen = Given()
    for piece in stream([3]):
        seen.fresh(piece)
    seen.rewind()
    with pytest.raises(Departed):
        seen.fresh(other)
