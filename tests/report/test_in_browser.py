"""The report in a real browser: hostile text stays text, nothing is loaded, search, filters and keys work."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from run_maker import HOSTILE, make_run

from local_fusion.report.page import visible
from local_fusion.report.run_page import write_report

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / ".venv-clients" / "bin" / "python"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def look(page: Path, *arguments: str) -> dict[str, Any]:
    """What happened when the page was opened."""
    if BROWSER is None:
        pytest.skip("no browser: install Debian's chromium")
    if not CLIENT.exists():
        pytest.skip("no .venv-clients with playwright in it: run `make clients`")
    program = Path(__file__).with_name("look.py")
    done = subprocess.run(
        [str(CLIENT), str(program), str(page), "--browser", BROWSER, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


async def test_hostile_text_is_shown_and_does_nothing(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 40)
    page = write_report(tmp_path / "run")
    seen = look(page, "--search", "asked the 17. time?")
    assert seen["dialogs"] == []
    assert seen["console"] == []
    assert seen["violations"] == []
    assert seen["images"] == 0
    assert seen["scripts"] == 2
    assert seen["requests"] == [page.as_uri()]
    assert not seen["overflows"]
    assert seen["title"] == "trio: 40 rows"
    assert (seen["listed"], seen["found"]) == (40, 1)
    assert seen["count"] == "1 of 40 rows listed"
    assert seen["first"].startswith("row-17")
    assert "</script><b>bold</b>" in seen["first"]
    assert seen["marks"] >= 4


async def test_hostile_answers_are_read_as_they_are(tmp_path: Path) -> None:
    await make_run(tmp_path / "run", 40)
    seen = look(write_report(tmp_path / "run"), "--search", "onerror=alert(2) U+202E", "--width", "390", "--dark")
    assert 0 < seen["found"] < 40
    assert visible(HOSTILE) in seen["first"]
    assert seen["second"] != seen["first"]
    assert (seen["dialogs"], seen["console"], seen["violations"], seen["overflows"]) == ([], [], [], False)


async def test_filters_take_the_rows_of_a_kind(tmp_path: Path) -> None:
    summary = await make_run(tmp_path / "run", 40)
    seen = look(write_report(tmp_path / "run"), "--chip", "member failed")
    assert seen["found"] == summary.marks["degraded"] > 0
    assert "scripted failure" in seen["first"]
