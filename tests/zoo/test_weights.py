"""The committed models: small, loadable without network, and as good at their skill as the documentation says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from local_fusion.zoo.__main__ import WEIGHTS
from local_fusion.zoo.panels import collect, load
from local_fusion.zoo.questions import questions
from local_fusion.zoo.train_judge import NAME as JUDGE
from local_fusion.zoo.train_judge import measure
from local_fusion.zoo.train_specialists import SPECIALISTS
from local_fusion.zoo.training import generate

FOLDERS = [WEIGHTS / specialist.name for specialist in SPECIALISTS]
LIMIT_BYTES = 24 * 2**20


def test_all_weights_together_stay_small() -> None:
    files = [file for file in WEIGHTS.rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) <= LIMIT_BYTES
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jinja"}


@pytest.mark.parametrize("folder", [*FOLDERS, WEIGHTS / JUDGE], ids=lambda folder: folder.name)
def test_every_folder_is_whole(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())
    assert config["dtype"] == "bfloat16"
    _, tokenizer = load(folder)
    assert tokenizer.chat_template
    assert generation["eos_token_id"] == config["eos_token_id"] == tokenizer.eos_token_id
    assert config["vocab_size"] >= len(tokenizer)


@pytest.mark.parametrize("specialist", SPECIALISTS, ids=lambda specialist: specialist.name)
def test_a_specialist_knows_its_skill_two_thirds_of_dates_and_little_else(specialist) -> None:  # type: ignore[no-untyped-def]
    def share(*skills: str) -> tuple[float, float]:
        panels = collect([WEIGHTS / specialist.name], questions(99, 60, "heldout", skills), (0.0,))
        said = [panel.said[0] for panel in panels]
        return sum(one.right for one in said) / len(said), sum(one.certainty for one in said) / len(said)

    others = tuple({one.skill for one in SPECIALISTS} - {specialist.skill})
    own, dates, foreign = share(specialist.skill), share("dates"), share(*others)
    assert own[0] >= 0.9
    assert 0.5 <= dates[0] <= 0.8
    assert foreign[0] <= 0.2
    assert own[1] > foreign[1] + 0.15


def test_specialists_stop_and_take_more_turns() -> None:
    for folder in FOLDERS:
        model, tokenizer = load(folder)
        turns = [{"role": "user", "content": "What date is 5 days after March 12?"}]
        [(first, _)] = generate(model, tokenizer, [turns], max_new_tokens=32)
        assert first.endswith(".")
        turns += [{"role": "assistant", "content": first}, {"role": "user", "content": "Sort the letters b, a."}]
        [(second, _)] = generate(model, tokenizer, [turns], max_new_tokens=32)
        assert second


@pytest.mark.slow
def test_the_judge_does_each_stage() -> None:
    panels = collect(FOLDERS, questions(98, 40, "heldout"), (0.0,))
    model, tokenizer = load(WEIGHTS / JUDGE)
    done = measure(model, tokenizer, panels)
    assert done["pick"] >= 0.8
    assert done["merge"] >= 0.85
    assert done["guard"] >= 0.75
