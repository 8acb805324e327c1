"""The judge: trained on the runtime's prompts around what the trained specialists said, and measured stage by stage."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from local_fusion.types import Message
from local_fusion.zoo.architectures import qwen_judge
from local_fusion.zoo.grading import grade
from local_fusion.zoo.judge_lessons import FIELDS, LISTS, PROMPTS, JudgeLessons, analysis_of, brief_of, turns_of
from local_fusion.zoo.panels import Panel, Said, collect, imagine
from local_fusion.zoo.questions import questions
from local_fusion.zoo.tokenizer import build_tokenizer, words_of
from local_fusion.zoo.train_specialists import SPECIALISTS, vocabulary
from local_fusion.zoo.training import Plan, generate, save, train

NAME = "qwen-judge"
REHEARSAL = Plan(steps=1200, batch_tokens=4096, rate=2e-3, seed=21, muon_rate=0.01)
PLAN = Plan(steps=1500, batch_tokens=4096, rate=1e-3, seed=22, muon_rate=0.01)
COPYING = 0.2
IMAGINED = 20000
QUESTIONS = 4000
TEMPERATURES = (0.0, 0.7)
JSON_PIECES = ('{"', '":', ' "', ' ["', " [],", " []}", ' [{"', '",', '"],', '"}],', '"}]}', '"]}')


def judge_tokenizer() -> PreTrainedTokenizerFast:
    """The specialists' words, those of every judge prompt, and the JSON's keys and punctuation."""
    request = [Message("system", ""), Message("user", "")]
    panel = Panel(questions(0, 4, "train")[0], (Said("a", "", True, 1.0), Said("b", "", True, 1.0)))
    brief = brief_of(panel, panel.said, 0, system="x")
    shown = [
        *PROMPTS.pick(brief), *PROMPTS.pair(brief, "A", "B"), *PROMPTS.repair(brief, "", ""),
        *PROMPTS.guard(brief, "", "", "A", True), *PROMPTS.guard(brief, "", "", "A", False), *request,
    ]  # fmt: skip
    words = [*vocabulary(), *words_of([message.content for message in shown])]
    pieces = [*LISTS, *FIELDS]
    return build_tokenizer("qwen", words, pieces, chains=JSON_PIECES, model_max_length=8192)


def train_judge(out: Path, device: str = "cpu", report: Callable[[str], None] = print) -> dict[str, float]:
    """Ask the specialists in `out`, train on their answers, save `out/qwen-judge`, measure on held-out questions."""
    began = time.monotonic()
    folders = [out / specialist.name for specialist in SPECIALISTS]
    panels = collect(folders, questions(3, QUESTIONS, "train"), TEMPERATURES, device, report)
    unseen = collect(folders, questions(4, 200, "heldout"), TEMPERATURES[:1], device)
    report(f"panels collected in {time.monotonic() - began:.0f} s")
    model, tokenizer = rehearse(REHEARSAL, device, report)
    return finish(model, tokenizer, panels, unseen, out, device, report)


def rehearse(plan: Plan, device: str, report: Callable[[str], None]) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A judge trained on imagined panels only: plain copying first, then every stage."""
    torch.manual_seed(plan.seed)
    tokenizer = judge_tokenizer()
    model = qwen_judge(tokenizer)
    report(f"{NAME}: {sum(weight.numel() for weight in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    draw = random.Random(plan.seed)
    panels = [imagine(draw) for _ in range(IMAGINED)]
    unseen = [imagine(draw) for _ in range(60)]

    def check(step: int) -> bool:
        report(f"step {step} " + json.dumps(measure(model, tokenizer, unseen)))
        return False

    train(model, tokenizer, JudgeLessons(tokenizer, panels, COPYING), plan, device, report, check, check_every=400)
    return model, tokenizer


def finish(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    panels: Sequence[Panel],
    unseen: Sequence[Panel],
    out: Path,
    device: str = "cpu",
    report: Callable[[str], None] = print,
) -> dict[str, float]:
    """Go on with what the members really said, save, and measure the saved weights on `unseen` (held-out, greedy)."""
    began = time.monotonic()
    report(f"rehearsed: {json.dumps(measure(model, tokenizer, unseen))}")
    train(model, tokenizer, JudgeLessons(tokenizer, panels), PLAN, device, report)
    save(model, tokenizer, out / NAME)
    table = measure(model.float(), tokenizer, unseen)
    report(f"{NAME}: {json.dumps(table)} in {time.monotonic() - began:.0f} s")
    return table


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, panels: Sequence[Panel]) -> dict[str, float]:
    """Per stage, the share done right: pick, JSON, merge by its own analysis, guard in both orders."""
    briefs = [brief_of(panel, panel.said, seed) for seed, panel in enumerate(panels)]
    expected = [panel.question.expected for panel in panels]
    labels = [read_label(model, tokenizer, turns_of(PROMPTS.pick(brief)), brief.labels) for brief in briefs]
    picked = [panel.said[brief.index_of(label)] for panel, brief, label in zip(panels, briefs, labels, strict=True)]
    analyses = [text for text, _ in generate(model, tokenizer, [turns_of(PROMPTS.analyse(b)) for b in briefs], 0.0, 96)]
    wanted = [analysis_of(panel, panel.said, brief) for panel, brief in zip(panels, briefs, strict=True)]
    writing = [turns_of(PROMPTS.write(brief, text)) for brief, text in zip(briefs, analyses, strict=True)]
    written = [text for text, _ in generate(model, tokenizer, writing, 0.0, 32)]
    guarded = []
    for panel, brief in zip(panels, briefs, strict=True):
        right = [c for c in brief.candidates if panel.said[c.index].right]
        wrong = [c for c in brief.candidates if not panel.said[c.index].right]
        if not right or not wrong:
            continue
        analysis = analysis_of(panel, panel.said, brief)
        for draft, against, good in ((right[0], wrong[-1], True), (wrong[-1], right[0], False)):
            for swapped in (False, True):
                turns = turns_of(PROMPTS.guard(brief, analysis, draft.text, against.label, swapped))
                guarded.append(read_label(model, tokenizer, turns, ("1", "2")) == "12"[good == swapped])
    return {
        "pick": _mean([one.right for one in picked]),
        "analysis": _mean([text == want for text, want in zip(analyses, wanted, strict=True)]),
        "merge": _mean([grade(want, text) for want, text in zip(expected, written, strict=True)]),
        "guard": _mean(guarded),
        "possible": _mean([any(one.right for one in panel.said) for panel in panels]),
    }


def read_label(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, turns: list[dict[str, str]], labels: Sequence[str]
) -> str:
    """The likeliest of `labels` as the next token."""
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)], device=model.device)
    with torch.inference_mode():
        scores = model(input_ids=ids, logits_to_keep=1).logits[0, -1]
    return max(labels, key=lambda label: float(scores[tokenizer.convert_tokens_to_ids(label)]))


def _mean(values: Sequence[bool]) -> float:
    return round(sum(values) / max(1, len(values)), 3)
