"""One training loop for all four models: fixed seeds, batches of like length, loss on the assistant's turns only."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """Token ids of one conversation and, per position, the id to be learnt there or `IGNORED`."""

    ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train."""

    steps: int
    batch_tokens: int
    rate: float
    seed: int
    warmup: int = 40
    muon_rate: float = 0.02
    weight_decay: float = 0.01


def example(
    tokenizer: PreTrainedTokenizerFast, turns: Sequence[dict[str, str]], unlearnt: Collection[int] = ()
) -> Example:
    """Encode a conversation; only the assistant's turns, each to its end token, are learnt, save those `unlearnt`."""
    ids: list[int] = []
    labels: list[int] = []
    rendered = ""
    for index, turn in enumerate(turns):
        if turn["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(list(turns[:index]), tokenize=False, add_generation_prompt=True)
        spoken = turn["content"] + str(tokenizer.eos_token)
        for text, learnt in ((before[len(rendered) :], False), (spoken, index not in unlearnt)):
            piece = tokenizer.encode(text, add_special_tokens=False)
            ids += piece
            labels += piece if learnt else [IGNORED] * len(piece)
        rendered = before + spoken
    return Example(ids, labels)


def batches(examples: list[Example], batch_tokens: int, draw: random.Random) -> list[list[Example]]:
    """Examples of like length together, at most `batch_tokens` padded tokens each, in random order."""
    ordered = sorted(examples, key=lambda one: (len(one.ids), draw.random()))
    made: list[list[Example]] = [[]]
    for one in ordered:
        if made[-1] and (len(made[-1]) + 1) * len(one.ids) > batch_tokens:
            made.append([])
        made[-1].append(one)
    draw.shuffle(made)
    return made


def batch_loss(model: PreTrainedModel, batch: list[Example], pad: int, device: str) -> torch.Tensor:
    """Mean cross-entropy over the learnt positions; right padding needs no mask under causal attention."""
    length = max(len(one.ids) for one in batch)
    ids = torch.tensor([one.ids + [pad] * (length - len(one.ids)) for one in batch], device=device)
    labels = torch.tensor([one.labels + [IGNORED] * (length - len(one.labels)) for one in batch], device=device)
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    learnt = labels[:, 1:] != IGNORED
    logits = model.lm_head(hidden[learnt])
    return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][learnt])


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    lessons: Callable[[random.Random, float], list[Example]],
    plan: Plan,
    device: str = "cpu",
    report: Callable[[str], None] = print,
    check: Callable[[int], bool] | None = None,
    check_every: int = 200,
) -> None:
    """Train in place. `lessons(draw, progress)` gives the next pool of examples; `check(step)` True ends early."""
    draw = random.Random(plan.seed)
    torch.manual_seed(plan.seed)
    model.to(device).train()
    # Sequences are short here, and the backward pass of fused attention is slow on a CPU.
    model.set_attn_implementation("eager")
    optimizers = _optimizers(model, plan)
    began = time.monotonic()
    queue: list[list[Example]] = []
    recent = 0.0
    for step in range(1, plan.steps + 1):
        if not queue:
            queue = batches(lessons(draw, step / plan.steps), plan.batch_tokens, draw)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, plan)
        with torch.autocast(device, torch.bfloat16):
            loss = batch_loss(model, queue.pop(), int(tokenizer.pad_token_id), device)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        recent += loss.item()
        if step % 50 == 0:
            report(f"step {step}/{plan.steps} loss {recent / 50:.4f} {time.monotonic() - began:.0f} s")
            recent = 0.0
        if check is not None and step % check_every == 0 and check(step):
            break
    model.set_attn_implementation("sdpa")


def _optimizers(model: PreTrainedModel, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices (it needs far fewer steps here), AdamW for embeddings and norms."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        hidden = weight.dim() == 2 and "embed" not in name and "lm_head" not in name
        (matrices if hidden else others).append(weight)
    return [
        torch.optim.Muon(
            [{"params": matrices, "peak": plan.muon_rate}], lr=plan.muon_rate, weight_decay=plan.weight_decay
        ),
        torch.optim.AdamW([{"params": others, "peak": plan.rate}], lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _schedule(step: int, plan: Plan) -> float:
    """Linear warm-up, flat, then linear decay over the last third to a twentieth."""
    decay_from = plan.steps * 2 / 3
    if step > decay_from:
        return max(0.05, (plan.steps - step) / (plan.steps - decay_from))
    return min(1.0, step / plan.warmup)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[dict[str, str]]],
    temperature: float = 0.0,
    max_new_tokens: int = 32,
    batch: int = 256,
) -> list[tuple[str, float]]:
    """Each conversation's next turn with its mean token log-probability, in the order given."""
    texts = [
        tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
        for turns in conversations
    ]
    encoded = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    by_length = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    results: list[tuple[str, float]] = [("", 0.0)] * len(encoded)
    model.eval()
    for start in range(0, len(by_length), batch):
        chosen = by_length[start : start + batch]
        with torch.inference_mode():
            said = _generate_batch(model, tokenizer, [encoded[i] for i in chosen], temperature, max_new_tokens)
        for index, result in zip(chosen, said, strict=True):
            results[index] = result
    model.train()
    return results


def _generate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[list[int]],
    temperature: float,
    max_new_tokens: int,
) -> list[tuple[str, float]]:
    width = max(map(len, prompts))
    pad, end = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    device = model.device
    ids = torch.tensor([[pad] * (width - len(one)) + one for one in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=device)
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        **({"temperature": temperature, "top_k": 0} if temperature > 0 else {}),
        eos_token_id=end,
        pad_token_id=pad,
        return_dict_in_generate=True,
        output_logits=True,
    )
    spoken = out.sequences[:, width:]
    logprobs = torch.log_softmax(torch.stack(out.logits, dim=1).float(), -1).gather(-1, spoken[:, :, None])[:, :, 0]
    results = []
    for tokens, scores in zip(spoken.tolist(), logprobs.tolist(), strict=True):
        count = tokens.index(end) + 1 if end in tokens else len(tokens)
        text = tokenizer.decode(tokens[:count], skip_special_tokens=True).strip()
        results.append((text, sum(scores[:count]) / max(1, count)))
    return results


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model folder for vLLM and transformers: bf16 safetensors, tokenizer, template, generation config."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    model.to("cpu", torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
