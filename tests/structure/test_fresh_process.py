"""What a new process does before it is asked for an engine: little, quickly, and in silence."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "vllm", "ray", "transformers", "fastapi", "numpy")
RUN = f"""
import json, runpy, sys
code = 0
sys.argv = ["local-fusion", *sys.argv[1:]]
try:
    runpy.run_module("local_fusion", run_name="__main__")
except SystemExit as end:
    code = end.code or 0
print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]), file=sys.stderr)
"""


def command(*arguments: str, cwd: Path) -> tuple[str, int, list[str]]:
    """What a command prints, its exit code, and which heavy packages it imported."""
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)
    code, heavy = json.loads(done.stderr.strip().splitlines()[-1])
    return done.stdout, code, heavy


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("ask", "--help"),
        ("batch", "--help"),
        ("calibrate", "--help"),
        ("demo", "--help"),
        ("eval", "--help"),
        ("models", "--help"),
        ("replay", "--help"),
        ("report", "--help"),
        ("models",),
        ("schema",),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_by(arguments: tuple[str, ...], tmp_path: Path) -> None:
    printed, code, heavy = command(*arguments, cwd=tmp_path)
    assert printed
    assert (code, heavy) == (0, [])


def test_nothing_heavy_is_imported_by_a_dry_run(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "prompt": "What is 2 + 2?"}\n')
    _, code, heavy = command("batch", "rows.jsonl", "out", "--fusion", "demo", "--dry-run", cwd=tmp_path)
    assert (code, heavy) == (0, [])
    assert not (tmp_path / "out").exists()


def test_help_takes_less_than_a_second_of_computing(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "local_fusion", "--help"], cwd=tmp_path, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_importing_the_package_prints_nothing_and_makes_nothing(tmp_path: Path) -> None:
    code = "import local_fusion, sys; sys.exit(any(name.startswith('local_fusion.') for name in sys.modules))"
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, env=dict(os.environ) | places, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []
