"""What the checks on a GPU stand on, as far as it can be tested without one."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu_machine import Family
from benchmarks.gpu_models import JUDGE, QWEN3_8B, QWEN3_SMALL, parameters, write_model
from benchmarks.gpu_report import Facts, Missed, Report, Skipped

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print("up", flush=True)
time.sleep(60)
"""


async def test_every_result_is_in_the_files_at_once(tmp_path: Path):
    report = Report(tmp_path)

    async def good() -> Facts:
        return {"seconds": 1.5}

    async def poor() -> Facts:
        raise Missed("too slow", {"ratio": 0.5})

    async def broken() -> Facts:
        raise ValueError("no such thing")

    async def endless() -> Facts:
        await asyncio.sleep(60)
        return {}

    async def impossible() -> Facts:
        raise Skipped("no weights")

    assert await report.attempt("good", good, 5)
    for name, check in (("poor", poor), ("broken", broken), ("impossible", impossible)):
        assert not await report.attempt(f"good-{name}", check, 5)
    assert not await report.attempt("endless", endless, 0.05)
    found = json.loads((tmp_path / "report.json").read_text())
    assert {name: result["status"] for name, result in found.items()} == {
        "good": "passed",
        "good-poor": "missed",
        "good-broken": "failed",
        "good-impossible": "skipped",
        "endless": "failed",
    }
    assert found["good-poor"]["facts"] == {"ratio": 0.5}
    assert "no such thing" in (tmp_path / "failures.log").read_text()
    assert "| good-poor | missed |" in (tmp_path / "report.md").read_text()
    report.forget("good")
    assert list(report.results) == ["endless"]


def test_a_family_is_found_when_its_head_is_dead():
    head = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE)
    assert head.stdout is not None
    head.stdout.readline()
    family = Family(head.pid, "no-such-token")
    assert len(family.alive()) == 2
    head.kill()
    head.wait()
    head.stdout.close()
    assert len(family.alive()) == 1
    assert family.end() == 1
    assert family.alive() == []


def test_the_published_shape_has_eight_billion_parameters():
    assert parameters(QWEN3_8B) == 8_190_735_360


def test_every_token_of_the_wide_tokenizer_is_said_and_read_as_itself(tmp_path: Path):
    from tokenizers import Tokenizer

    folder = write_model(tmp_path / "wide", QWEN3_8B)
    wide, small = (Tokenizer.from_file(str(place / "tokenizer.json")) for place in (folder, JUDGE))
    assert wide.get_vocab_size() == QWEN3_8B["vocab_size"]
    assert all(wide.token_to_id(word) == number for word, number in small.get_vocab().items())
    draw = random.Random(1)
    said = [draw.randrange(small.get_vocab_size() + 1300, QWEN3_8B["vocab_size"]) for _ in range(500)]
    assert all(wide.decode([token]).strip() for token in said)
    spaced = [token for token in said if wide.id_to_token(token).startswith("Ġ")]
    assert wide.encode(wide.decode(spaced), add_special_tokens=False).ids == spaced
    sentence = "Read the answers. Which one is right?"
    assert wide.encode(sentence).ids == small.encode(sentence).ids


def test_random_weights_pass_as_a_whole_model(tmp_path: Path):
    from local_fusion.engines.model_files import check_folder

    shape = QWEN3_SMALL | {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 10}
    folder = write_model(tmp_path / "model", shape, weights=True)
    check_folder(folder)
    assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) > 2 * parameters(shape)
