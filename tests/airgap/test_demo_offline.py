"""The demo where there is no network: it must finish, and nobody in it may even try to reach one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from local_fusion.airgap.audit import attempts, child_environment
from local_fusion.airgap.namespace import isolated, unavailable

ROWS = 12
SCRIPTED = """
models:
  a: &model {engine: scripted, gpus: 0, scripted: {answers: ["The answer is {seed}."]}}
  b: *model
  judge: *model
fusions:
  demo: {panel: [a, b], judge: judge, mode: merge, templates: short}
"""
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]


def run_demo(folder: Path, *options: str) -> None:
    """Run a small demo below `folder`, without a network and watched; fail where it fails, or looks for a network."""
    out, record = folder / "demo", folder / "attempts.jsonl"
    demo = [sys.executable, "-m", "local_fusion", "demo", "--rows", str(ROWS), "--out", str(out), "--only-main"]
    done = subprocess.run(
        isolated([*demo, *options]),
        env=child_environment(record),
        capture_output=True,
        text=True,
        timeout=800,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    failed = (out / "merge" / "errors.jsonl").read_text()
    assert failed == "", failed[:2000] + done.stderr[-2000:]
    answered = [json.loads(line)["custom_id"] for line in (out / "merge" / "output.jsonl").read_text().splitlines()]
    asked = [json.loads(line)["id"] for line in (out / "questions.jsonl").read_text().splitlines()]
    assert len(asked) == ROWS
    assert sorted(answered) == sorted(asked)
    assert [f"{attempt.event} {attempt.address} from {attempt.place}" for attempt in attempts(record)] == []


def test_hosts_and_driver_need_no_network(short_folder: Path) -> None:
    """Ray, the hosts, the batch and the command line, on scripted engines."""
    (short_folder / "scripted.yaml").write_text(SCRIPTED)
    run_demo(short_folder, "--config", "scripted.yaml")


@pytest.mark.vllm
def test_real_engines_need_no_network(short_folder: Path) -> None:
    """All of it, as shipped."""
    run_demo(short_folder)
