"""A file of keys that YAML itself stumbles over is a mistake of its writer: one sentence, never another exception."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_fusion.config.keys import load_keys
from local_fusion.errors import ConfigError


@pytest.mark.parametrize(
    "text", ["keys: {ann: {created: 2024-13-45}}", "keys: {ann: {created: !!int x}}", "[" * 5000, "? {a: b}\n: c"]
)
def test_what_yaml_cannot_make_into_a_value_is_told_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="the file of keys"):
        load_keys(path)
