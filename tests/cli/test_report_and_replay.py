"""`report`, `replay` and `--trace` as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

ROWS = "".join(json.dumps({"id": f"row-{n}", "prompt": f"What is 2 + 2? ({n})"}) + "\n" for n in range(6))


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    (tmp_path / "in.jsonl").write_text(ROWS)
    done = run("batch", "in.jsonl", "out", "--trace", "spans.jsonl", "--serial")
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_batch_writes_a_trace_per_row(folder: Path) -> None:
    lines = (folder / "spans.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert not [line for line in lines if "2 + 2" in line or "is 4" in line]


def test_report_names_the_page_it_wrote(folder: Path, run: Run) -> None:
    done = run("report", "out")
    assert (done.returncode, done.stdout.strip()) == (0, "out/report.html")
    assert "row-5" in (folder / "out" / "report.html").read_text()
    assert run("report", "out", "--out", "other.html").stdout.strip() == "other.html"
    wrong = run("report", ".")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "run.json" in wrong.stderr


def test_replay_prints_the_answer_and_checks_it(folder: Path, run: Run) -> None:
    recorded = json.loads((folder / "out" / "output.jsonl").read_text().splitlines()[0])
    done = run("replay", "out", "--row", recorded["custom_id"], "--check", "--serial")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == recorded["response"]["body"]["choices"][0]["message"]["content"].strip()
    assert "equal" in done.stderr
    unknown = run("replay", "out", "--row", "nobody")
    assert (unknown.returncode, unknown.stdout) == (2, "")


def test_replay_names_what_differs(folder: Path, run: Run) -> None:
    config = folder / "models.yaml"
    config.write_text(config.read_text().replace("It is 7.", "It is 8."))
    done = run("replay", "out", "--row", "row-3", "--check")
    assert done.returncode == 1
    assert "the panel call of c sample 0: text differs from byte 6 on (8 bytes recorded, 8 now)" in done.stderr
    assert "likely cause: the engine settings of model c in models.yaml are others" in done.stderr
    assert "It is" not in done.stderr


def test_ask_traces_to_a_file_and_refuses_to_trace_elsewhere(run: Run, tmp_path: Path) -> None:
    done = run("ask", "What is 2 + 2?", "--trace", "spans.jsonl")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "spans.jsonl").read_text().splitlines()) == 1
    refused = run("ask", "What is 2 + 2?", "--trace", "http://collector.example.org:4318")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--trace-remote" in refused.stderr
