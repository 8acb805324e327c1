"""What the trained specialists really say: the raw material of the judge's lessons and of its measurement."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from local_fusion.zoo.grading import grade
from local_fusion.zoo.questions import SKILLS, Question, draw_question
from local_fusion.zoo.train_specialists import SPECIALISTS, lesson
from local_fusion.zoo.training import generate


@dataclass(frozen=True)
class Said:
    """One member's answer, whether it is right, and its certainty exp(mean token log-probability)."""

    member: str
    text: str
    right: bool
    certainty: float


@dataclass(frozen=True)
class Panel:
    """A question with every answer collected for it."""

    question: Question
    said: tuple[Said, ...]


def imagine(draw: random.Random) -> Panel:
    """A panel that answers exactly as the specialists are taught to: the judge's rehearsal needs no models."""
    question = draw_question(draw, draw.choice(SKILLS), "train")
    said = []
    for specialist in SPECIALISTS:
        text = lesson(specialist, draw, question)[-1]["content"]
        said.append(Said(specialist.name, text, grade(question.expected, text), 1.0))
    return Panel(question, tuple(said))


def load(folder: Path, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A saved model in float32 (its weights are the bf16 ones) with its tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.to(device), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def collect(
    folders: Sequence[Path],
    asked: Sequence[Question],
    temperatures: Sequence[float],
    device: str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> list[Panel]:
    """Ask every member every question once per temperature."""
    heard: list[list[Said]] = [[] for _ in asked]
    for folder in folders:
        model, tokenizer = load(folder, device)
        prompts = [[{"role": "user", "content": question.prompt}] for question in asked]
        for temperature in temperatures:
            torch.manual_seed(int(temperature * 100))
            for index, (text, score) in enumerate(generate(model, tokenizer, prompts, temperature)):
                right = grade(asked[index].expected, text)
                heard[index].append(Said(folder.name, text, right, float(torch.tensor(score).exp())))
        report(f"{folder.name} answered {len(asked)} questions {len(temperatures)} times")
    return [Panel(question, tuple(said)) for question, said in zip(asked, heard, strict=True)]
