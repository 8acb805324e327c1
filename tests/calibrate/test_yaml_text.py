"""Editing models.yaml: what is not of the fusion stays byte for byte, and what comes of it says what was wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

import local_fusion
from local_fusion.calibrate.yaml_text import edited, without
from local_fusion.config import FusionSettings, parse_config
from local_fusion.errors import InputError

HERE = Path("models.yaml")
MODELS = "models: {a: {engine: scripted}, b: {engine: scripted}, c: {engine: scripted}, d: {engine: scripted}}\n"
LAYOUTS = {
    "block": """# top
fusions:
  # over f
  f:
    panel: [a, b, c]  # three
    judge: a  # the judge
    criteria: "be short"

  # over g
  g:
    panel: [a]
# end
""",
    "list": """fusions:
    f:
        panel:
            # the best
            - a
            - model: b   # the second
              weight: 2.0
            - c  # the last
        judge: a
        # of g
    g: {panel: [a]}
""",
    "flow": "fusions:\n  f: {panel: [a, b, c], judge: a}  # tail\n\n  # g\n  g: {panel: [a]}\n",
    "one line": "fusions: {f: {panel: [a, b, c], judge: a}, g: {panel: [a]}}",
    "anchored": """fusions:
  g: &base
    panel: [a, b, c]  # inherited
    judge: a
  f:
    <<: *base
    # own
    criteria: x
""",
    "last": "fusions:\n  g: {panel: [a]}\n  f:\n    panel: [a, b, c]\n    judge: a",
}
CHANGES = [
    {"judge": "d", "mode": "best-of", "writer": ("b", "c"), "guard_margin": 0.5},
    {"panel": [{"model": "a"}, {"model": "c", "samples": 3, "weight": 1.25}, {"model": "d"}], "mode": "vote"},
    {"panel": [{"model": "d"}], "judge": None, "exit_confidence": 0.9, "kinds": "calibration/kinds-f-1.json"},
    {"quorum": 2, "criteria": ""},
    {},
]


def comments(text: str) -> list[str]:
    return [line[line.index("#") :].strip() for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: ",".join(changes) or "nothing")
def test_only_the_fusion_changes(layout: str, changes: dict) -> None:
    text = MODELS + LAYOUTS[layout]
    before = parse_config(text)
    wanted = FusionSettings.model_validate(before.fusions["f"].model_dump() | changes)
    after = edited(text, HERE, "f", wanted)
    config = parse_config(after)
    assert config.fusions == {"f": wanted, "g": before.fusions["g"]}
    lost = {"# the second", "# the last", "# the best"} if "panel" in changes else set()
    lost |= {"# the judge"} if changes.get("judge", "a") is None else set()  # its line goes
    assert set(comments(text)) - set(comments(after)) <= lost
    assert list(config.fusions) == list(before.fusions)
    if wanted == before.fusions["f"]:
        assert after == text
    back = edited(after, HERE, "f", before.fusions["f"])
    assert parse_config(back).fusions == before.fusions


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_new_fusion_is_added_and_taken_away(layout: str) -> None:
    text = MODELS + LAYOUTS[layout]
    wanted = parse_config(text).fusions["f"].model_copy(update={"judge": "d", "mode": "vote"})
    after = edited(text, HERE, "new", wanted, "f, calibrated on s")
    assert parse_config(after).fusions["new"] == wanted
    assert set(comments(text)) <= set(comments(after))
    back = without(after, HERE, "new")
    assert back.strip() == text.strip()


def test_comments_of_members_that_stay_are_kept() -> None:
    text = MODELS + LAYOUTS["list"]
    present = parse_config(text).fusions["f"]
    panel = (present.panel[0], present.panel[2], present.panel[0].model_copy(update={"model": "d"}))
    after = edited(text, HERE, "f", present.model_copy(update={"panel": panel}))
    assert "            # the best\n            - a\n            - c  # the last\n            - d\n" in after


def test_the_shipped_file_changes_in_one_line() -> None:
    text = (Path(local_fusion.__file__).parent / "models.yaml").read_text()
    wanted = parse_config(text).fusions["demo"].model_copy(update={"mode": "best-of"})
    after = edited(text, HERE, "demo", wanted)
    changed = [(one, two) for one, two in zip(text.splitlines(), after.splitlines(), strict=True) if one != two]
    assert changed == [("    mode: merge", "    mode: best-of")]


def test_an_anchor_that_others_need_is_not_torn_out() -> None:
    text = MODELS + "fusions:\n  f:\n    panel: &p [a, b]\n  g:\n    panel: *p\n"
    wanted = parse_config(text).fusions["f"].model_copy(update={"panel": parse_config(text).fusions["f"].panel[:1]})
    with pytest.raises(InputError, match="cannot be edited"):
        edited(text, HERE, "f", wanted)
    alias = parse_config(text).fusions["g"].model_copy(update={"panel": wanted.panel})
    assert "panel: [a]\n" in edited(text, HERE, "g", alias)
