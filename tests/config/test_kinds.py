"""A table of kinds: the nearest centre decides, strangers have no kind, and the recipe must fit the fusion."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local_fusion.config import parse_config
from local_fusion.config.kinds import KindTable, kind_of, load_kinds, terms, vector_of
from local_fusion.errors import ConfigError
from local_fusion.runtime import recipe_of

RARITY = {"add": 1.0, "<number>": 0.5, "translate": 1.5, "into": 1.0, "french": 2.0, "add <number>": 1.0}
CONFIG = """
models:
  a: {engine: scripted, scripted: {answers: ["4"]}}
  b: {engine: scripted, scripted: {answers: ["5"]}}
  c: {engine: scripted}
fusions:
  f: {panel: [a, b], judge: b, mode: auto, kinds: kinds.json}
"""


def table(**recipe) -> dict:
    def kind(name, text, changes):
        return {"name": name, "words": vector_of(text, RARITY), "recipe": changes, "prompts": 9, "why": "won 9 of 9"}

    sums = kind("sums", "add 1 2", recipe or {"mode": "vote", "panel": ["a"]})
    tongues = kind("tongues", "translate into french", {"mode": "best-of"})
    return {"version": 1, "rarity": RARITY, "least": 0.2, "kinds": [sums, tongues]}


def config_with(folder: Path, content: dict):
    (folder / "kinds.json").write_text(json.dumps(content))
    return parse_config(CONFIG, folder / "models.yaml")


def test_numbers_count_by_their_shape():
    assert terms("Add 47, 1.5!") == [
        "add",
        "<number>",
        ",",
        "<number>",
        "!",
        "add <number>",
        "<number> ,",
        ", <number>",
        "<number> !",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Please add 3 and 99", "sums"), ("translate this into french", "tongues"), ("who are you", None), ("", None)],
)
def test_the_nearest_kind_is_found(text: str, expected: str | None):
    found = kind_of(KindTable.model_validate(table()), text)
    assert (found.kind.name if found else None) == expected


async def test_auto_consults_the_table_and_says_so(tmp_path: Path):
    from local_fusion.engines.local import LocalEngines
    from local_fusion.fusion.fuse import fuse
    from local_fusion.types import Message, Request

    config = config_with(tmp_path, table())
    engines = await LocalEngines.start(config, ["a", "b"])
    try:
        fused = await fuse(Request("1", (Message("user", "add 2 2"),)), recipe_of(config, "f"), engines)
        assert fused.receipt.why.startswith("auto: a prompt of kind sums (won 9 of 9; table 1): ")
        assert [answer.model for answer in fused.receipt.answers] == ["a"]
        strange = await fuse(Request("2", (Message("user", "who are you"),)), recipe_of(config, "f"), engines)
        assert "kind" not in strange.receipt.why
        assert len(strange.receipt.answers) == 2
    finally:
        await engines.close()


async def test_prompts_of_no_kind_are_answered_as_the_table_says(tmp_path: Path):
    from local_fusion.engines.local import LocalEngines
    from local_fusion.fusion.fuse import fuse
    from local_fusion.types import Message, Request

    config = config_with(tmp_path, table() | {"otherwise": {"mode": "best-of", "panel": ["b"]}})
    engines = await LocalEngines.start(config, ["a", "b"])
    try:
        fused = await fuse(Request("1", (Message("user", "who are you"),)), recipe_of(config, "f"), engines)
    finally:
        await engines.close()
    assert fused.receipt.why.startswith("auto: a prompt of no known kind (table 1): ")
    assert [answer.model for answer in fused.receipt.answers] == ["b"]
    with pytest.raises(ConfigError, match="prompts of no kind"):
        recipe_of(config_with(tmp_path, table() | {"otherwise": {"panel": ["c"]}}), "f")


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"mode": "vote", "panel": ["c"]}, "names c, which is not of this fusion"),
        ({"mode": "guess"}, "calibrate again"),
    ],
)
def test_a_recipe_that_does_not_fit_is_a_sentence(tmp_path: Path, recipe: dict, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        recipe_of(config_with(tmp_path, table(**recipe)), "f")


def test_a_missing_or_broken_table_is_a_sentence(tmp_path: Path):
    with pytest.raises(ConfigError, match="run `local-fusion calibrate` again"):
        load_kinds(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="is not a table of kinds"):
        load_kinds(tmp_path / "broken.json")


def test_what_is_asked_for_holds_against_the_table(tmp_path: Path):
    config = config_with(tmp_path, table(mode="vote", panel=["a"]))
    assert recipe_of(config).kinds is not None
    assert recipe_of(config, mode="merge").kinds is None
    assert recipe_of(config, mode="auto", max_panel_tokens=9).by_kind["sums"].seats[0].sampling.max_tokens == 9
    asked = recipe_of(config, panel=["b", "a"])
    assert (asked.kinds, [seat.model for seat in asked.seats]) == (None, ["b", "a"])
    assert recipe_of(config, judge="a").by_kind["sums"].judge == "a"
    assert recipe_of(config_with(tmp_path, table(judge="b")), judge="a").kinds is None
