"""The table of rooms holds, and the check of it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from rooms import NEIGHBOURS, PACKAGE, ROWS, modules, problems


@pytest.mark.parametrize("path", [str(path.relative_to(PACKAGE)) for path in modules()])
def test_a_file_imports_only_what_its_room_may(path: str) -> None:
    assert problems(Path(path), (PACKAGE / path).read_text("utf-8")) == []


def test_every_room_is_in_the_table() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()}
    assert rooms - set(ROWS) == {"__init__"}


def test_neighbours_stand_in_one_row_and_know_each_other_one_way() -> None:
    for one, other in NEIGHBOURS:
        assert ROWS[one] == ROWS[other]
        assert (other, one) not in NEIGHBOURS


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("fusion/merge.py", "from local_fusion.cluster.fleet import Fleet"),
        ("fusion/merge.py", "def later():\n    from local_fusion.batch import run"),
        ("fusion/merge.py", "import os"),
        ("fusion/merge.py", "open('journal')"),
        ("fusion/merge.py", "path.read_text()"),
        ("answers/number.py", "from local_fusion.fusion.fuse import fuse"),
        ("engines/scripted.py", "import vllm"),
        ("cluster/fleet.py", "from vllm import AsyncLLM"),
        ("batch/run.py", "import ray"),
        ("batch/run.py", "from local_fusion import cli"),
        ("batch/run.py", "from . import files"),
        ("batch/journal.py", "import pickle"),
        ("cli/ask.py", "import torch"),
        ("cluster/fleet.py", "from fastapi import FastAPI"),
        ("types.py", "from local_fusion.errors import CallError"),
        ("config/load.py", "eval('1')"),
        ("zoo/training.py", "torch.load('weights.pt')"),
        ("kitchen/oven.py", "from local_fusion.types import Call"),
    ],
)
def test_a_broken_rule_is_found(path: str, source: str) -> None:
    assert problems(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("engines/vllm_calls.py", "import vllm"),
        ("cluster/fleet.py", "import ray"),
        ("fusion/merge.py", "from local_fusion.answers.number import read"),
        ("errors.py", "from local_fusion.types import Failure"),
        ("cli/ask.py", "from local_fusion.runtime import open_engines"),
    ],
)
def test_what_is_allowed_is_not_flagged(path: str, source: str) -> None:
    assert problems(Path(path), source) == []
