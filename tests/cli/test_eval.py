"""`eval` as a user runs it, on scripted engines: a table, a folder that goes on, sentences for what is wrong."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def rows(folder: Path, count: int = 12) -> None:
    lines = [{"id": f"q{n}", "prompt": f"What is 2 + 2? ({n})", "expected": 4} for n in range(count)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_table_figures_and_a_page(run: Run, tmp_path: Path) -> None:
    rows(tmp_path)
    done = run("eval", "--set", "sums.jsonl", "--fusion", "demo", "--gpu-hour-price", "2")
    assert done.returncode == 0, done.stderr
    for word in ("merge", "self-best-of", "oracle", "100.0", "12 items", "no GPU time"):
        assert word in done.stdout
    folder = tmp_path / "evals" / "sums-demo"
    figures = json.loads((folder / "results.json").read_text())
    assert figures["fusion"] == "demo"
    assert figures["gpu_hour_price"] == 2
    assert (folder / "report.html").is_file()
    again = run("eval", "--set", "sums.jsonl", "--fusion", "demo")
    assert "no call was run" in again.stdout
    other = run("eval", "--set", "sums.jsonl", "--fusion", "demo", "--criteria", "Be brief.", "--arms", "best-of,vote")
    assert other.returncode == 0, other.stderr
    assert "self-best-of" not in other.stdout
    calls = [json.loads(line)["id"] for line in (folder / "calls.jsonl").read_text().splitlines()]
    assert sum("/panel/a/0/" in call for call in calls) == 12


def test_a_name_in_a_folder_of_sets(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    rows(tmp_path / "sets", 4)
    done = run("eval", "--set", "sums", "--sets", "sets", "--fusion", "demo", "--arms", "vote", "--out", "here")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "results.json").is_file()


def test_a_signal_stops_it_and_the_same_command_goes_on(run: Run, tmp_path: Path) -> None:
    rows(tmp_path, 60)
    slow = (tmp_path / "models.yaml").read_text().replace("delay_s: 0.01", "delay_s: 0.2")
    (tmp_path / "models.yaml").write_text(slow)
    command = ["eval", "--set", "sums.jsonl", "--fusion", "demo", "--arms", "vote,merge", "--in-flight", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "local_fusion", *command], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    calls = tmp_path / "evals" / "sums-demo" / "calls.jsonl"
    for _ in range(600):
        if calls.exists() and calls.stat().st_size > 3000:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 75, told
    assert b"run the same command again" in told
    assert b"Traceback" not in told
    before = calls.read_bytes()
    done = run("eval", "--set", "sums.jsonl", "--fusion", "demo", "--arms", "vote,merge")
    assert done.returncode == 0, done.stderr
    assert calls.read_bytes().startswith(before)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "nowhere"), "there is no file nowhere"),
        (("--set", "sums.jsonl", "--arms", "bestof"), "best-of"),
        (("--set", "sums.jsonl", "--grader", "nobody"), "no model is called 'nobody'"),
        (("--set", "models.yaml"), "not JSON"),
        (("--set", "sums.jsonl", "--fusion", "missing"), "away"),
        (("--set", "shipped", "--limit", "4000"), "there are not 4000 different heldout questions"),
        (("--set", "shipped", "--baseline", "sums.jsonl"), "--baseline: the shipped questions have right answers"),
    ],
)
def test_what_is_wrong_is_a_sentence(run: Run, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    rows(tmp_path, 2)
    fusion = () if "--fusion" in arguments else ("--fusion", "demo")
    done = run("eval", *arguments, *fusion)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "evals" / "sums-demo" / "results.json").exists()
