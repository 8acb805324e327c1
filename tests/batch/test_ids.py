"""The compact sets agree with Python's own."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from local_fusion.batch.ids import IdSet, LineSet


@settings(deadline=None)
@given(st.lists(st.text(max_size=4)))
def test_ids_are_new_once(texts):
    ids, known = IdSet(), set()
    for text in texts:
        assert ids.add(text) == (text not in known)
        known.add(text)
    assert len(ids) == len(known)


def test_ids_stay_known_while_the_table_grows():
    ids = IdSet()
    assert all(ids.add(f"row-{n}") for n in range(20_000))
    assert not any(ids.add(f"row-{n}") for n in range(20_000))


def test_lines_are_a_set():
    lines, known, draw = LineSet(), set(), random.Random(3)
    for _ in range(2_000):
        line = draw.randrange(3_000)
        lines.add(line)
        known.add(line)
    assert len(lines) == len(known)
    assert all((line in lines) == (line in known) for line in range(3_100))
