"""Editing models.yaml: what is not of the fusion stays byte for byte, and what comes of it says what was wanted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import local_fusion
from local_fusion.calibrate.yaml_text import check_name, edited, without
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
    "lines": """fusions:
  f:
    panel: [  # the members
      # above a
      a,  # beside a
      {model: b, weight: 2.0},  # beside b

      # above c
      c  # beside c
    ]  # three
    judge: a
  g: {panel: [a]}
""",
    "twice": """fusions:
  f:
    # the panel
    panel:  # who
      # of the list

      # above a, cold
      - a  # beside a, cold
      - model: b
        weight: 2.0  # beside b
      # above a, warm
      - model: a  # beside a, warm
        sampling: {temperature: 1.0}  # inner a, warm
    writer: [b, c]
  g: {panel: [a]}
""",
    "windows": "fusions:\r\n  f:\r\n    panel:\r\n    - a # one\r\n    - b # two\r\n    judge: a\r\n  g: {panel: [a]}",
    "last": "fusions:\n  g: {panel: [a]}\n  f:\n    panel: [a, b, c]\n    judge: a",
}
CHANGES = [
    {"judge": "d", "mode": "best-of", "writer": ("b", "c"), "guard_margin": 0.5},
    {"panel": [{"model": "a"}, {"model": "c", "samples": 3, "weight": 1.25}, {"model": "d"}], "mode": "vote"},
    {"panel": [{"model": "d"}], "judge": None, "exit_confidence": 0.9, "kinds": "calibration/kinds-f-1.json"},
    {"quorum": 2, "criteria": ""},
    {},
]


OF_MEMBER = {"# the best": "a", "# the second": "b", "# the last": "c", "# one": "a", "# two": "b"}


def stays(comment: str, staying: set[str], changes: dict) -> bool:
    """Whether the comment's member or setting is still there, as it was."""
    if comment == "# the judge":
        return changes.get("judge", "a") is not None
    if comment in ("# beside a, warm", "# above a, warm", "# inner a, warm", "# beside b") and "panel" in changes:
        return False  # the second seat of a goes; b's weight too where b goes
    member = OF_MEMBER.get(comment) or next(
        (model for model in "abc" if model in comment.replace(",", "").split()), None
    )
    return member is None or member in staying


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
    staying = {seat.model for seat in wanted.panel}
    lost = {comment for comment in comments(text) if not stays(comment, staying, changes)}
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


def change(layout: str, *panel: dict | str, **more: object) -> str:
    text = MODELS + LAYOUTS[layout]
    settings = parse_config(text).fusions["f"].model_dump() | {"panel": panel} | more
    return edited(text, HERE, "f", FusionSettings.model_validate(settings))


def test_comments_in_a_list_over_lines_stay_with_their_members() -> None:
    assert """
    panel: [  # the members
      # above c
      c,  # beside c
      d,
      # above a
      a  # beside a
    ]  # three
""" in change("lines", "c", "d", "a")


def test_a_list_in_another_order_keeps_each_comment_at_its_member() -> None:
    assert """
        panel:
            - c  # the last
            - model: b   # the second
              weight: 3.5
            # the best
            - a
""" in change("list", "c", {"model": "b", "weight": 3.5}, "a")
    assert "            - model: b   # the second\n        judge: a\n" in change("list", "b")


def test_two_seats_of_one_model_keep_a_comment_each() -> None:
    warm = {"model": "a", "sampling": {"temperature": 1.0}}
    after = change("twice", warm | {"samples": 4}, "a")
    assert (
        """
      # of the list

      # above a, warm
      - model: a  # beside a, warm
        samples: 4
        sampling: {temperature: 1.0}  # inner a, warm
      # above a, cold
      - a  # beside a, cold
    writer"""
        in after
    )


def test_lines_of_another_system_keep_their_ends() -> None:
    after = change("windows", "b", {"model": "d", "samples": 2}, "a")
    assert "    panel:\r\n    - b # two\r\n    - {model: d, samples: 2}\r\n    - a # one\r\n" in after
    assert "\n" not in after.replace(MODELS, "").replace("\r\n", "")


@pytest.mark.parametrize(
    "panel",
    [
        "[a, b,  # two good ones\n      c]",
        "[\n      # two good ones\n      a, b, c]",
        "[a, {model: b,  # good\n      weight: 2.0}, c]",
    ],
)
def test_what_would_lose_a_comment_is_refused_with_what_to_write(panel: str) -> None:
    text = f"{MODELS}fusions:\n  f:\n    panel: {panel}\n"
    present = parse_config(text).fusions["f"]
    wanted = FusionSettings.model_validate(present.model_dump() | {"panel": ["b", "c"], "judge": "d"})
    with pytest.raises(
        InputError, match=r"without losing comments: .*; write it in by hand \(panel: \[b, c\]; judge: d\)"
    ):
        edited(text, HERE, "f", wanted)
    with pytest.raises(InputError, match="; give the new fusion a name of its own"):
        edited(text, HERE, "f", wanted.model_copy(update={"kinds": "calibration/kinds-f-1.json"}))
    named = edited(text, HERE, "better", wanted)
    assert text in named


SEATS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([{}, {"samples": 2}, {"weight": 0.5}])), min_size=1, max_size=5
)


@given(SEATS)
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("layout", ["list", "lines", "windows"])
def test_whatever_the_panel_becomes_comments_follow(layout: str, seats: list) -> None:
    after = change(layout, *({"model": model} | more for model, more in seats))
    where = {"list": "# the last", "lines": "# beside c", "windows": "# two"}[layout]
    model = {"list": "c", "lines": "c", "windows": "b"}[layout]
    lines = [line for line in after.splitlines() if where in line]
    if any(one == model for one, _ in seats):
        assert len(lines) == 1
        assert re.search(rf"\b{model}\b", lines[0].split("#")[0])
    else:
        assert not lines


def test_the_shipped_file_changes_in_one_line() -> None:
    text = (Path(local_fusion.__file__).parent / "models.yaml").read_text()
    wanted = parse_config(text).fusions["demo"].model_copy(update={"mode": "best-of"})
    after = edited(text, HERE, "demo", wanted)
    changed = [(one, two) for one, two in zip(text.splitlines(), after.splitlines(), strict=True) if one != two]
    assert changed == [("    mode: merge", "    mode: best-of")]


@pytest.mark.parametrize(
    ("written", "name"),
    [("on: {panel: [a, b]}", "True"), ("0x10:\n    panel: [a, b]", "16"), ("<<: {mine: {panel: [a, b]}}", "mine")],
)
def test_a_name_that_is_read_otherwise_than_it_is_written_is_a_sentence(written: str, name: str) -> None:
    text = f"{MODELS}fusions:\n  {written}\n  g: {{panel: [a]}}\n"
    wanted = parse_config(text).fusions[name].model_copy(update={"mode": "vote"})
    told = f"the lines of fusion '{name}' cannot be found in models.yaml"
    for edit in (lambda: edited(text, HERE, name, wanted), lambda: without(text, HERE, name)):
        with pytest.raises(InputError, match=told):
            edit()
    with pytest.raises(InputError, match=told):
        check_name(text, HERE, name)
    check_name(text, HERE, "g")
    check_name(text, HERE, "better")
    assert parse_config(edited(text, HERE, "better", wanted)).fusions["better"] == wanted


@pytest.mark.parametrize(
    "behind",
    [
        "    # judge: c   (tried in May, worse)\n",
        "    # judge: c\n\n    #   too slow\n  # end of f\n",
        "    # judge: c",
        "",
    ],
)
def test_a_new_fusion_stands_behind_the_comments_of_the_last(behind: str) -> None:
    for rest in ("\nruntime: {hosts: local}\n", "") if behind.endswith("\n") else ("",):
        text = f"{MODELS}fusions:\n  f:\n    panel: [a, b]   # P\n{behind}{rest}"
        after = edited(text, HERE, "better", parse_config(text).fusions["f"], "f, calibrated on s")
        head = text.removesuffix(rest)
        assert after.startswith(head.rstrip("\n") + "\n\n  # f, calibrated on s (local-fusion calibrate)\n  better:\n")
        assert after.endswith(rest)
        assert without(after, HERE, "better").strip() == text.strip()


def test_an_anchor_that_others_need_is_not_torn_out() -> None:
    text = MODELS + "fusions:\n  f:\n    panel: &p [a, b]\n  g:\n    panel: *p\n"
    wanted = parse_config(text).fusions["f"].model_copy(update={"panel": parse_config(text).fusions["f"].panel[:1]})
    with pytest.raises(InputError, match="cannot be edited"):
        edited(text, HERE, "f", wanted)
    alias = parse_config(text).fusions["g"].model_copy(update={"panel": wanted.panel})
    assert "panel: [a]\n" in edited(text, HERE, "g", alias)
