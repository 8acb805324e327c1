"""Kill it anywhere: every row once, none lost, none twice, no journaled call repeated, and the same answers."""

from __future__ import annotations

import pytest
from batch_fakes import write_rows
from crash_run import check, crash, scripted_session, what_was_said

ROWS = 500


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_repeat_nothing(tmp_path):
    source = write_rows(tmp_path / "in.jsonl", ROWS)
    ids = [f"row-{n}" for n in range(ROWS)]
    folder, log = tmp_path / "out", tmp_path / "calls"
    history = crash(scripted_session, source, folder, log, "merge", kills=50, growth_bytes=70_000, seed=7)
    lines = check(history, folder, ids)
    assert history.kills == 50
    assert 0 < sum(line["response"]["status_code"] == 503 for line in lines.values()) < ROWS / 4
    calm = crash(scripted_session, source, tmp_path / "calm", tmp_path / "calm_calls", "merge", kills=0)
    calm_lines = check(calm, tmp_path / "calm", ids)
    assert {name: what_was_said(line) for name, line in lines.items()} == {
        name: what_was_said(line) for name, line in calm_lines.items()
    }
