"""Replicas on two nodes of a cluster that is not ours; what ran on a node that is lost is answered by the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_fusion.cluster.environment import ray_environment

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PROGRAM = Path(__file__).with_name("two_nodes_program.py")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lf"))  # Ray's sockets lie below
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def offline(folder: Path) -> dict[str, str]:
    """Ray's own processes stay as silent as those of a private session."""
    home, token = folder / "home", folder / "token"
    home.mkdir()
    (home / "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
    token.write_text("0123456789abcdef" * 4)
    return {**os.environ, **ray_environment(home, token, folder)}


@pytest.mark.parametrize("direct", ["true", "false"], ids=["sockets", "ray"])
def test_a_node_is_lost_under_load_and_no_call_with_it(short_folder: Path, direct: str):
    command = [sys.executable, str(PROGRAM), str(short_folder), direct]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=offline(short_folder))
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(set(told["nodes"])) == 2
    assert told["whole"] == [f"w{number}" for number in range(300)]
    assert told["busy"] == [100, 100]
    assert told["survived"] == [f"k{number}" for number in range(600)]
    assert sorted(told["states"]) == ["ready", "restarting"]
