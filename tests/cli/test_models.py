"""`local-fusion models`, `schema` and the help texts."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_models_says_what_is_missing(run: Run) -> None:
    data = json.loads(run("models", "--json").stdout)
    states = {row["model"]: row["missing"] for row in data["models"]}
    assert states["a"] is None
    assert "no model in" in states["away"]
    lacking = {row["fusion"]: row["lacking"] for row in data["fusions"]}
    assert lacking["missing"] == ["away"]
    table = run("models").stdout
    assert "away: no model in" in table
    assert "demo (default)" in table


def test_schema_is_json(run: Run) -> None:
    assert json.loads(run("schema").stdout)["title"] == "local-fusion models.yaml"


@pytest.mark.parametrize("command", [[], ["ask"], ["batch"], ["models"], ["demo"], ["schema"]])
def test_every_command_has_help(run: Run, command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_text_of_the_configuration_is_no_markup(run: Run, tmp_path: Path) -> None:
    plain = (tmp_path / "models.yaml").read_text()
    (tmp_path / "models.yaml").write_text(plain.replace("  a: {", '  a: {licence: "Own [/x]", ', 1))
    done = run("models")
    assert done.returncode == 0, done.stderr
    assert "[/x]" in done.stdout


def test_a_demo_does_not_go_into_a_file(run: Run, tmp_path: Path) -> None:
    done = run("demo", "--out", "models.yaml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
