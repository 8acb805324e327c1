"""A change is written with its evidence beside, taken back byte for byte, and never made to the package's own file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from calib_fakes import CONFIG

import local_fusion
from local_fusion.calibrate.history import apply, changes, next_version, own_file, undo
from local_fusion.calibrate.sorting import by_given, table_of
from local_fusion.config import load_config
from local_fusion.errors import InputError

EVIDENCE = {"action": "calibrate", "why": "+3 points"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(CONFIG)
    path.chmod(0o644)
    return path


def change(source: Path, name: str = "trio", **settings: object) -> int:
    present = load_config(source).fusions["trio"]
    wanted = type(present).model_validate(present.model_dump() | settings)
    version, files = apply(source, name, wanted, EVIDENCE, "# page\n", None, "trio, calibrated on s")
    assert files[-1] == source
    assert all(path.is_file() for path in files)
    return version


def test_a_change_and_its_evidence(source: Path) -> None:
    assert change(source, judge="jed") == 1
    assert load_config(source).fusions["trio"].judge == "jed"
    assert os.stat(source).st_mode & 0o777 == 0o644
    folder = source.parent / "calibration"
    assert (folder / "trio-1.before.yaml").read_text() == CONFIG
    assert json.loads((folder / "trio-1.json").read_text())["why"] == "+3 points"
    assert (folder / "trio-1.md").read_text() == "# page\n"
    assert not list(source.parent.glob("*.new"))
    assert next_version(source, "trio") == 2


def test_changes_are_taken_back_one_after_the_other(source: Path) -> None:
    change(source, judge="jed")
    between = source.read_text()
    assert change(source, mode="vote") == 2
    assert "version 2" in undo(source, "trio")
    assert source.read_text() == between
    assert "byte for byte" in undo(source, "trio")
    assert source.read_text() == CONFIG
    with pytest.raises(InputError, match="no change of 'trio' stands"):
        undo(source, "trio")
    assert [one.version for one in changes(source)] == [1, 2]
    assert all(one.undone_at for one in changes(source))
    assert change(source, judge="jed") == 3


def test_what_was_edited_since_stays(source: Path) -> None:
    change(source, judge="jed")
    source.write_text(source.read_text().replace("other: {panel: [ann]}", "other: {panel: [bob]}  # mine"))
    assert "the rest as it is now" in undo(source, "trio")
    config = load_config(source)
    assert config.fusions["trio"].judge == "bob"
    assert config.fusions["other"].panel[0].model == "bob"
    assert "# mine" in source.read_text()


SAID = """models:
  ann: {engine: scripted}
  bob: {engine: scripted}
  cyd: {engine: scripted}
fusions:
  trio:
    panel:
      - ann    # good at numbers
      # bob costs little; agreed with Eve 3 May
      - bob
      - {model: cyd, weight: 2.5}  # tuned by hand
    judge: cyd   # see wiki/judges
    writer: [bob, ann]   # bob first, it knows our style
    mode: merge
    # no debate: too slow

  # the other
  other: {panel: [ann, bob]}  # short
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("turn", ["as they came", "the last first"])
def test_comments_come_back_whatever_else_was_calibrated(source: Path, newline: str, turn: str) -> None:
    before = SAID.replace("\n", newline).encode()
    source.write_bytes(before)
    change(source, panel=["ann", "cyd"], writer=[])
    assert b"Eve" not in source.read_bytes()
    other = load_config(source).fusions["other"].model_copy(update={"mode": "vote"})
    apply(source, "other", other, EVIDENCE, "", None, "")
    for name in ("trio", "other") if turn == "as they came" else ("other", "trio"):
        assert "come back" not in undo(source, name)
    assert source.read_bytes() == before


def test_two_changes_of_a_fusion_come_back_with_one_of_another_between(source: Path) -> None:
    source.write_text(SAID.rstrip("\n"))
    change(source, panel=["ann", "cyd"])
    other = load_config(source).fusions["other"].model_copy(update={"mode": "vote"})
    apply(source, "other", other, EVIDENCE, "", None, "")
    change(source, judge="ann", writer=[])
    source.write_text(source.read_text() + "\n# mine\n")
    for name in ("trio", "trio", "other"):
        undo(source, name)
    assert source.read_text() == SAID + "# mine\n"


def test_where_the_fusion_itself_was_edited_since_it_says_what_is_lost(source: Path) -> None:
    source.write_text(SAID)
    change(source, panel=["ann", "cyd"])
    source.write_text(source.read_text().replace("mode: merge", "mode: merge  # mine"))
    assert "comments that went out with the change do not come back" in undo(source, "trio")
    assert load_config(source).fusions["trio"].panel[1].model == "bob"
    assert "# mine" in source.read_text()


def test_lines_that_lean_on_what_has_changed_are_not_put_back(source: Path) -> None:
    """The alias means another panel now: the fusion comes back by its settings."""
    text = CONFIG.replace("  # the one", "  base: {panel: &p [ann, cyd, jed]}\n  # the one")
    source.write_text(text.replace("panel: [ann, cyd, jed]  #", "panel: *p  #"))
    change(source, panel=["ann"])
    source.write_text(source.read_text().replace("&p [ann, cyd, jed]", "&p [ann, cyd]"))
    undo(source, "trio")
    assert [seat.model for seat in load_config(source).fusions["trio"].panel] == ["ann", "cyd", "jed"]
    assert [seat.model for seat in load_config(source).fusions["base"].panel] == ["ann", "cyd"]


@pytest.mark.parametrize("key", ["at", "action", "why", "before_sha256"])
def test_what_is_no_evidence_of_a_change_is_a_sentence(source: Path, key: str) -> None:
    change(source, judge="jed")
    path = source.parent / "calibration" / "trio-1.json"
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != key}))
    with pytest.raises(InputError, match=r"trio-1.json is not the evidence of a change; move it out of calibration/"):
        changes(source)


def test_a_new_name_leaves_the_old_fusion_alone(source: Path) -> None:
    change(source, "better", judge="jed")
    assert load_config(source).fusions["trio"].judge == "bob"
    assert load_config(source).fusions["better"].judge == "jed"
    source.write_text(source.read_text() + "# more\n")
    undo(source, "better")
    assert source.read_text() == CONFIG + "# more\n"


def test_a_fusion_that_is_named_elsewhere_is_not_taken_out(source: Path) -> None:
    change(source, "better", judge="jed")
    source.write_text(source.read_text() + "default: better\n")
    with pytest.raises(InputError, match="names it"):
        undo(source, "better")
    assert "better" in load_config(source).fusions


def test_a_table_of_kinds_is_versioned_and_consulted(source: Path) -> None:
    present = load_config(source).fusions["trio"]
    kinds = by_given(["add one and two"] * 4 + ["count the letters"] * 4, ["sums"] * 4 + ["words"] * 4)
    table = table_of(kinds, {"sums": ({"mode": "vote"}, 4, "won")}, 9, {"mode": "best-of"})
    wanted = present.model_copy(update={"mode": "auto"})
    apply(source, "trio", wanted, EVIDENCE, "", table, "")
    from local_fusion.runtime import recipe_of

    recipe = recipe_of(load_config(source), "trio")
    assert recipe.kinds is not None
    assert recipe.kinds.version == 1
    assert {name: one.settings.mode for name, one in recipe.by_kind.items()} == {"sums": "vote", "": "best-of"}
    kept = source.parent / "calibration" / "kinds-trio-1.json"
    assert os.stat(kept).st_mode & 0o777 == 0o644
    assert os.stat(kept.with_name("trio-1.json")).st_mode & 0o777 == 0o600
    undo(source, "trio")
    assert source.read_text() == CONFIG


def test_a_changed_backup_is_not_restored(source: Path) -> None:
    change(source, judge="jed")
    (source.parent / "calibration" / "trio-1.before.yaml").write_text("models: {}\n")
    with pytest.raises(InputError, match="not the file as it was"):
        undo(source, "trio")


def test_the_file_in_the_package_is_refused_with_the_remedy(source: Path) -> None:
    with pytest.raises(InputError, match=r"copy it here \(cp .*models.yaml models.yaml\)"):
        own_file(Path(local_fusion.__file__).parent / "models.yaml")
    assert own_file(source) == source


def test_line_ends_are_taken_back_byte_for_byte(source: Path) -> None:
    before = CONFIG.replace("\n", "\r\n").encode()
    source.write_bytes(before)
    change(source, judge="jed")
    after = source.read_bytes()
    assert after.count(b"\n") == after.count(b"\r\n") == before.count(b"\n")
    assert (source.parent / "calibration" / "trio-1.before.yaml").read_bytes() == before
    assert "byte for byte" in undo(source, "trio")
    assert source.read_bytes() == before


def test_a_link_stays_a_link(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link = folder / "linked.yaml"
    link.symlink_to(source)
    present = load_config(link).fusions["trio"]
    _, files = apply(link, "trio", present.model_copy(update={"judge": "jed"}), EVIDENCE, "", None, "")
    assert link.is_symlink()
    assert load_config(source).fusions["trio"].judge == "jed"
    assert {path.parent for path in files} == {tmp_path, tmp_path / "calibration"}
    assert [one.version for one in changes(link)] == [one.version for one in changes(source)] == [1]
    undo(link, "trio")
    assert link.is_symlink()
    assert source.read_text() == CONFIG


def test_no_two_fusions_share_a_file(source: Path) -> None:
    present = load_config(source).fusions["trio"].model_copy(update={"judge": "jed", "mode": "auto"})
    kinds = by_given(["add one and two"] * 4 + ["count the letters"] * 4, ["sums"] * 4 + ["words"] * 4)
    table = table_of(kinds, {"sums": ({"mode": "vote"}, 4, "won")}, 1, None)
    written: list[Path] = []
    for name in ("x/y", "x_y", "kinds-x_y", "x%2Fy".replace("%2F", "-2F")):
        version, files = apply(source, name, present, EVIDENCE, "", table, "")
        assert version == 1
        written += files[:-1]
    assert len(set(written)) == len(written) == 16
    for name in ("kinds-x_y", "x/y", "x_y"):
        assert [one.name for one in changes(source, name)] == [name]
        undo(source, name)
        assert name not in load_config(source).fusions


def test_two_configurations_in_one_folder_do_not_share_versions(source: Path) -> None:
    other = source.with_name("other.yaml")
    other.write_text(CONFIG)
    assert change(source, judge="jed") == 1
    assert change(other, mode="vote") == 2
    undo(source, "trio")
    assert source.read_text() == CONFIG
    assert load_config(other).fusions["trio"].mode == "vote"
