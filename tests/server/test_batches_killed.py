"""`/v1/batches`: servers killed with SIGKILL while a batch runs, and what the next one makes of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.slow
def test_killed_servers_run_no_finished_row_again(tmp_path: Path) -> None:
    """Three kills: every row once, and no call is started again that a journal held when its server was killed."""
    total, journaled, begun, kills = 40, set[str](), 0, 0
    while not (tmp_path / "done.json").exists():
        server = subprocess.Popen([sys.executable, PROGRAM, tmp_path, str(total)])
        with server:
            try:
                journal = grown(server, tmp_path, kills)
            finally:
                server.kill()
        kills += bool(journal)
        started = (tmp_path / "calls").read_text().splitlines()
        assert journaled.isdisjoint(json.loads(call) for call in started[begun:])
        begun = len(started)
        journaled = {json.loads(text)["id"] for text in journal.splitlines() if text.startswith('{"call":')}
    assert kills == 3
    assert journaled == set()
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": total, "completed": total, "failed": 0}
    assert sorted(row["custom_id"] for row in done["rows"]) == sorted(f"r{n}" for n in range(total))


PROGRAM = Path(__file__).with_name("batch_program.py")


def grown(server: subprocess.Popen[bytes], place: Path, kills: int) -> str:
    """The journal once it is worth a kill; nothing where the server has ended by itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            return ""
        for path in place.glob("state/batches/*/run/journal.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                text = path.read_text()
                if kills < 3 and text.count('{"end":') >= 8 * (kills + 1):
                    return text[: text.rindex("\n") + 1]
        time.sleep(0.02)
    raise AssertionError("the server does not end")
