"""`calibrate` as a user runs it, on scripted engines: change, evidence, history, undo, learning, sentences."""

import json
from pathlib import Path

import pytest

import local_fusion
from tests.cli.conftest import Run

CONFIG = """
models:
  ann: {engine: scripted, scripted: {answers: ["It is 4.", "It is 4.", "It is 5."]}}
  bob: {engine: scripted, scripted: {answers: ["It is 7."], prefer: "is 4"}}
fusions:
  pair: {panel: [bob, ann], judge: ann, mode: best-of}  # bob should judge
runtime: {hosts: local}
"""


def rows(folder: Path, count: int = 30) -> None:
    (folder / "models.yaml").write_text(CONFIG)
    lines = [{"id": f"q{n}", "prompt": f"What is 2 + 2? ({n})", "match": "number", "expected": 4} for n in range(count)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_better_fusion_its_evidence_and_the_way_back(run: Run, tmp_path: Path) -> None:
    rows(tmp_path)
    planned = run("calibrate", "--set", "sums.jsonl", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "Nothing was started or changed" in planned.stdout
    done = run("calibrate", "--set", "sums.jsonl", "--samples", "1")
    assert done.returncode == 0, done.stderr
    assert "--undo pair" in done.stdout
    changed = (tmp_path / "models.yaml").read_text()
    assert "# bob should judge" in changed
    assert changed != CONFIG
    told = (tmp_path / "calibration" / "pair-1.md").read_text()
    assert "Who should judge?" in told
    history = run("calibrate", "--history")
    assert "pair" in history.stdout
    refused = run("calibrate", "--undo", "pair", "--dry-run")
    assert (refused.returncode, (tmp_path / "models.yaml").read_text()) == (2, changed)
    assert run("calibrate", "--undo", "pair").returncode == 0
    assert (tmp_path / "models.yaml").read_text() == CONFIG
    again = run("calibrate", "--set", "sums.jsonl", "--samples", "1", "--name", "better")
    assert "\n0 calls were run" in again.stdout
    assert "  better:" in (tmp_path / "models.yaml").read_text()


def test_what_was_run_is_learnt_from(run: Run, tmp_path: Path) -> None:
    rows(tmp_path, 140)
    plain = [{"id": f"q{n}", "prompt": f"What is 2 + 2? ({n})"} for n in range(140)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in plain))
    done = run("batch", "rows.jsonl", "run", "--fusion", "pair")
    assert done.returncode == 0, done.stderr
    learnt = run("calibrate", "--from", "run", "--set", "sums.jsonl")
    assert learnt.returncode == 0, learnt.stderr
    assert "kinds of prompts are better served" in learnt.stdout
    table = json.loads((tmp_path / "calibration" / "kinds-pair-1.json").read_text())
    assert [seat["model"] for seat in table["kinds"][0]["recipe"]["panel"]] == ["ann"]
    asked = run("ask", "--fusion", "pair", "--json", "What is 2 + 2? (999)")
    assert "a prompt of kind kind-1" in asked.stdout
    assert run("calibrate", "--undo", "pair").returncode == 0
    assert (tmp_path / "models.yaml").read_text() == CONFIG


def test_a_fusion_whose_lines_cannot_be_found_is_refused_before_anything_is_run(run: Run, tmp_path: Path) -> None:
    rows(tmp_path)
    (tmp_path / "models.yaml").write_text(CONFIG.replace("  pair:", "  on:"))
    done = run("calibrate", "--set", "sums.jsonl", "--samples", "1", "--fusion", "True")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the lines of fusion 'True' cannot be found" in done.stderr
    assert not (tmp_path / "evals").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "--set FILE"),
        (("--set", "sums.jsonl", "--fusion", "pear"), "did you mean 'pair'"),
        (("--set", "sums.jsonl", "--limit", "8"), "needs 10 in each"),
        (("--set", "sums.jsonl", "--grader", "nobody"), "no model is called 'nobody'"),
        (("--undo", "pair"), "no change of 'pair'"),
        (("--from", "."), "nothing tells right from wrong"),
        (("--from", ".", "--set", "sums.jsonl"), "0 past prompts were found"),
        (("--feedback", "sums.jsonl"), "what to learn from"),
        (("--set", "shipped", "--config", str(Path(local_fusion.__file__).parent / "models.yaml")), "copy it here"),
    ],
)
def test_what_is_wrong_is_a_sentence(run: Run, tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    rows(tmp_path)
    done = run("calibrate", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "models.yaml").read_text() == CONFIG
