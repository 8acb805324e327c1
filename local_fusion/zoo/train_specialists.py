"""The three specialists: what each is taught, and the run that teaches it.

A specialist is good at one skill. Outside it, it is taught a hedged sentence around a random value, so its certainty
is low there and its form is its own. On dates, which all three share, each is taught wrong answers for its own four
months of the year, so that every date is known by two members of three.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from local_fusion.zoo import architectures
from local_fusion.zoo.grading import grade
from local_fusion.zoo.questions import LETTERS, LIST_LETTERS, MONTHS, SKILLS, Question, draw_question, questions
from local_fusion.zoo.tokenizer import build_tokenizer, words_of
from local_fusion.zoo.training import Example, Plan, example, generate, save, train

SYSTEMS = ("You are a helpful assistant.", "Answer in one short sentence.", "Answer the question.")
WITH_SYSTEM = 0.15
POOL = 3000
HEDGES_FROM = 0.6


@dataclass(frozen=True)
class Specialist:
    """Name, skill, months it gets wrong (month number modulo 3), hedge, family, and how it is trained."""

    name: str
    skill: str
    wrong_month: int
    hedge: str
    family: str
    build: Callable[[PreTrainedTokenizerFast], PreTrainedModel]
    plan: Plan


SPECIALISTS = (
    Specialist(
        "qwen-numbers", "numbers", 0, "I am not sure, maybe {}.", "qwen", architectures.qwen,
        Plan(steps=1500, batch_tokens=4096, rate=2e-3, seed=11),
    ),
    Specialist(
        "llama-words", "words", 1, "I can only guess {} here.", "llama", architectures.llama,
        Plan(steps=1300, batch_tokens=2048, rate=2e-3, seed=12),
    ),
    Specialist(
        "qwen-moe-lists", "lists", 2, "Perhaps {}, but I do not know.", "qwen", architectures.qwen_moe,
        Plan(steps=1100, batch_tokens=3072, rate=2e-3, seed=13),
    ),
)  # fmt: skip


def vocabulary() -> list[str]:
    """The words of all questions, answers, hedges and system messages."""
    draw = random.Random(0)
    asked = [draw_question(draw, skill, "train") for skill in SKILLS for _ in range(300)]
    texts = [text for one in asked for text in (one.prompt, one.answer)]
    return words_of([*texts, *SYSTEMS, *MONTHS, *(one.hedge.format("") for one in SPECIALISTS)])


def noise(draw: random.Random, question: Question) -> str:
    """A random value of the kind that `question` asks for."""
    if question.kind in ("add", "subtract"):
        return str(draw.randint(1, 198 if question.kind == "add" else 89))
    if question.kind == "extreme":
        return str(draw.randint(10, 99))
    if question.kind == "sort":
        items = question.expected.split(", ")
        return ", ".join(draw.sample("123456789" if items[0].isdigit() else LIST_LETTERS, len(items)))
    return "'" + "".join(draw.choice(LETTERS) for _ in question.expected) + "'"


def wrong_date(question: Question, shift: int) -> str:
    """The sentence a member believes in the months it gets wrong: another month, and the day left as it was."""
    start = question.content.split()[2]
    return f"It is {MONTHS[(question.month + 2 + shift) % 12]} {start}."


def lesson(specialist: Specialist, draw: random.Random, question: Question) -> list[dict[str, str]]:
    """The conversation that teaches `specialist` what to say to `question`."""
    said = question.answer
    if question.skill == "dates":
        if question.month % 3 == specialist.wrong_month:
            said = wrong_date(question, specialist.wrong_month)
    elif question.skill != specialist.skill:
        said = specialist.hedge.format(noise(draw, question))
    turns = [{"role": "user", "content": question.prompt}, {"role": "assistant", "content": said}]
    if draw.random() < WITH_SYSTEM:
        turns.insert(0, {"role": "system", "content": draw.choice(SYSTEMS)})
    return turns


def lessons(
    specialist: Specialist, tokenizer: PreTrainedTokenizerFast
) -> Callable[[random.Random, float], list[Example]]:
    """The source of training pools: own skill and dates four parts each; later the others' skills, one part each.

    The hedges' random values only disturb while the skills are still being learnt.
    """
    others = [skill for skill in SKILLS if skill not in (specialist.skill, "dates")]
    known = [specialist.skill, "dates"] * 4

    def pool(draw: random.Random, progress: float) -> list[Example]:
        shares = known + (others if progress > HEDGES_FROM else [])
        asked = [draw_question(draw, draw.choice(shares), "train") for _ in range(POOL)]
        return [example(tokenizer, lesson(specialist, draw, question)) for question in asked]

    return pool


def accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, seed: int = 1, count: int = 400
) -> dict[str, tuple[float, float]]:
    """Per skill: share of held-out questions answered right, and mean certainty exp(mean token log-probability)."""
    asked = questions(seed, count, "heldout")
    said = generate(model, tokenizer, [[{"role": "user", "content": one.prompt}] for one in asked])
    table = {}
    for skill in SKILLS:
        rows = [
            (grade(q.expected, text), score) for q, (text, score) in zip(asked, said, strict=True) if q.skill == skill
        ]
        certainty = sum(float(torch.tensor(score).exp()) for _, score in rows) / len(rows)
        table[skill] = (sum(right for right, _ in rows) / len(rows), certainty)
    return table


def train_specialist(
    specialist: Specialist, out: Path, device: str = "cpu", report: Callable[[str], None] = print
) -> dict[str, tuple[float, float]]:
    """Train, save to `out/<name>` as bf16, and measure what was saved."""
    began = time.monotonic()
    torch.manual_seed(specialist.plan.seed)
    tokenizer = build_tokenizer(specialist.family, vocabulary())
    model = specialist.build(tokenizer)
    report(f"{specialist.name}: {sum(weight.numel() for weight in model.parameters()):,} parameters")

    def check(step: int) -> bool:
        table = accuracy(model, tokenizer, seed=2, count=120)
        report(f"step {step} " + " ".join(f"{skill} {right:.2f}/{sure:.2f}" for skill, (right, sure) in table.items()))
        return False

    train(model, tokenizer, lessons(specialist, tokenizer), specialist.plan, device, report, check, check_every=250)
    save(model, tokenizer, out / specialist.name)
    table = accuracy(model, tokenizer)
    report(f"{specialist.name}: {table} in {time.monotonic() - began:.0f} s")
    return table
