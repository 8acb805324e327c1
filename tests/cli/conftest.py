"""A configuration on scripted engines in this process, and a way to run the command as a user would."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CONFIG = """
models:
  a: {engine: scripted, scripted: {answers: ["The sum is 4."], delay_s: 0.01, prefer: "is 4"}}
  b: {engine: scripted, scripted: {answers: ["It is 4."]}}
  c: {engine: scripted, scripted: {answers: ["It is 7."]}}
  broken: {engine: scripted, scripted: {fail_rate: 1.0}}
  away: {path: nowhere, gpus: 0}
fusions:
  demo: {panel: [a, b, c], mode: merge}
  partial: {panel: [a, broken], mode: best-of}
  hopeless: {panel: [broken], mode: best-of}
  missing: {panel: [away]}
runtime: {hosts: local}
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `local-fusion` with arguments in a folder that holds the configuration; `stdin` is what it reads."""
    (tmp_path / "models.yaml").write_text(CONFIG)

    def command(*arguments: str, stdin: str = "", timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "local_fusion", *arguments],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            check=False,
        )

    return command
