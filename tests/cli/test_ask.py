"""`local-fusion ask` as a user runs it."""

import json
from pathlib import Path

from tests.cli.conftest import Run

EVIL = """
models: {a: {engine: scripted, scripted: {answers: ["\\e[2Jhello\\a"]}}}
fusions: {f: {panel: [a], mode: best-of}}
runtime: {hosts: local}
"""


def test_only_the_answer_is_on_stdout(run: Run) -> None:
    done = run("ask", "What is 2 + 2?")
    assert done.returncode == 0, done.stderr
    assert "4" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_the_question_may_come_from_stdin(run: Run) -> None:
    assert run("ask", stdin="What is 2 + 2?").stdout == run("ask", "-", stdin="What is 2 + 2?").stdout != ""


def test_show_adds_sections(run: Run) -> None:
    shown = run("ask", "What is 2 + 2?", "--show", "panel,analysis,receipt").stdout
    for piece in ("a\nThe sum is 4.", "b\nIt is 4.", "demo merge", "guard", "panel    c"):
        assert piece in shown


def test_mode_and_fusion_are_chosen(run: Run) -> None:
    answer = json.loads(run("ask", "What is 2 + 2?", "--mode", "vote", "--json").stdout)
    assert answer["receipt"]["mode"] == "vote"
    assert "4" in answer["text"]
    partial = json.loads(run("ask", "x", "--fusion", "partial", "--json").stdout)
    assert [failure["model"] for failure in partial["receipt"]["failures"]] == ["broken"]


def test_mistakes_are_sentences_with_exit_code_2(run: Run) -> None:
    for arguments, words in (
        (("ask", "x", "--mode", "vots"), "did you mean 'vote'"),
        (("ask", "x", "--fusion", "dema"), "did you mean 'demo'"),
        (("ask", "x", "--show", "pannel"), "unknown section"),
        (("ask", "  "), "empty"),
        (("ask", "x", "--config", "gone.yaml"), "cannot read"),
        (("ask", "x", "--fusion", "missing"), "no model in"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_no_answer_at_all_is_exit_code_1(run: Run) -> None:
    done = run("ask", "x", "--fusion", "hopeless")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_terminal_codes_of_a_model_are_not_shown(run: Run, tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text(EVIL)
    shown = run("ask", "x", "--config", "evil.yaml", "--show", "panel").stdout
    assert "hello" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown
