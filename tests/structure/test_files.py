"""Rules for every file of the repository: small, described, whole, and free of this or that machine's paths."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from rooms import PACKAGE, ROOT, modules

LINES_AT_MOST = 400
UNFINISHED = re.compile("|".join((r"\bTO" + "DO\\b", r"\bFIX" + "ME\\b", r"\bXX" + "X\\b")))
MACHINE_PATHS = re.compile("|".join((r"/ro" + "ot/", r"/ho" + r"me/\w", r"/op" + r"t/\w", r"/wo" + r"rk/\w")))
TEXT = {".py", ".sh", ".md", ".yaml", ".toml", ".in", ".json", ""}


def files(*suffixes: str) -> list[Path]:
    """The repository's own files with one of these suffixes: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.splitlines() if listed.returncode == 0 else _walk()
    return [ROOT / name for name in names if Path(name).suffix in suffixes and (ROOT / name).is_file()]


def _walk() -> list[str]:
    """For a copy without git."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(path) for path in found if not any(part.startswith(".") and part != ".ci" for part in path.parts)]


def test_no_source_file_is_long() -> None:
    long = {
        str(path): count
        for path in files(".py", ".sh")
        if (count := len(path.read_text().splitlines())) > LINES_AT_MOST
    }
    assert long == {}


def test_every_module_says_what_it_does() -> None:
    silent = [str(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_nothing_is_left_unfinished() -> None:
    assert _matches(UNFINISHED) == []


def test_no_path_of_one_machine_is_written_down() -> None:
    assert _matches(MACHINE_PATHS) == []


def _matches(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in files(*TEXT):
        if path.stat().st_size < 500_000 and "weights" not in path.parts:
            for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
                if pattern.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    return found


@pytest.mark.parametrize("path", [str(path.relative_to(ROOT)) for path in files(".yaml", ".yml")])
def test_every_yaml_file_loads(path: str) -> None:
    assert yaml.safe_load((ROOT / path).read_text("utf-8"))


def test_the_map_names_every_module_and_only_those_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    stems = {path.stem for path in modules()} - {"__init__", "__main__"}
    rooms = {path.parent.name for path in modules() if path.parent != PACKAGE}
    unnamed = sorted(name for name in stems | rooms if not re.search(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])", text))
    assert unnamed == []
    known = {path.name for path in files(".py")}
    assert [name for name in re.findall(r"\b(\w+\.py)\b", text) if name not in known] == []


def test_the_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
