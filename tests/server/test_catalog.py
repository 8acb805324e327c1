"""What a request may change of a fusion with kinds: its table is found beside its file and read once."""

from __future__ import annotations

import json

import pytest

from local_fusion.config import parse_config
from local_fusion.config.kinds import vector_of
from local_fusion.errors import RequestError
from local_fusion.server.catalog import Catalog

RARITY = {"add": 1.0, "translate": 1.5}
CONFIG = """
models:
  a: {engine: scripted}
  b: {engine: scripted}
fusions:
  kinded: {panel: [a, b], judge: b, mode: auto, kinds: kinds.json, templates: mine.yaml}
  plain: {panel: [a, b], judge: b, mode: vote, kinds: kinds.json}
"""


def catalog_in(folder, **recipe):
    changes = recipe or {"mode": "vote", "rotations": 2}
    kind = {"name": "sums", "words": vector_of("add", RARITY), "recipe": changes, "prompts": 9, "why": "won"}
    table = {"version": 1, "rarity": RARITY, "least": 0.2, "kinds": [kind], "otherwise": {"mode": "best-of"}}
    (folder / "kinds.json").write_text(json.dumps(table))
    (folder / "mine.yaml").write_text("pick: Choose a letter.\n")
    return Catalog(parse_config(CONFIG, folder / "models.yaml"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The server works in another folder than that of its configuration."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.usefixtures("elsewhere")
def test_an_override_of_a_fusion_with_kinds_finds_its_table_and_templates(tmp_path):
    catalog = catalog_in(tmp_path)
    changed = catalog.changed(catalog.recipes["kinded"], {"criteria": "be brief", "quorum": 2})
    assert (changed.settings.quorum, changed.settings.criteria) == (2, "be brief")
    assert changed.kinds == catalog.recipes["kinded"].kinds is not None
    for one in changed.by_kind.values():
        assert (one.settings.quorum, one.settings.criteria) == (2, "be brief")
        assert one.prompts is changed.prompts is catalog.recipes["kinded"].prompts
    assert {name: one.settings.mode for name, one in changed.by_kind.items()} == {"sums": "vote", "": "best-of"}


@pytest.mark.usefixtures("elsewhere")
def test_the_table_is_not_read_again_for_each_request(tmp_path):
    catalog = catalog_in(tmp_path)
    first = catalog.changed(catalog.recipes["plain"], {"mode": "auto"})
    (tmp_path / "kinds.json").unlink()
    (tmp_path / "mine.yaml").unlink()
    again = catalog.changed(catalog.recipes["plain"], {"mode": "auto"})
    assert first.kinds == again.kinds is not None
    assert catalog.changed(catalog.recipes["kinded"], {"criteria": "x"}).kinds is not None


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("content", [None, "{"])
def test_a_table_that_is_gone_is_a_refusal_and_no_server_error(tmp_path, content):
    catalog = catalog_in(tmp_path)
    catalog = Catalog(catalog.config, ("plain",))
    (tmp_path / "kinds.json").unlink()
    if content is not None:
        (tmp_path / "kinds.json").write_text(content)
    with pytest.raises(RequestError, match="table of kinds"):
        catalog.changed(catalog.recipes["plain"], {"mode": "auto"})


def test_a_mode_of_the_request_s_own_needs_no_table(tmp_path):
    catalog = catalog_in(tmp_path)
    changed = catalog.changed(catalog.recipes["kinded"], {"mode": "best-of"})
    assert (changed.settings.mode, changed.kinds, changed.by_kind) == ("best-of", None, {})
