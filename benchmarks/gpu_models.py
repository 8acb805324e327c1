"""Model folders made on the spot: the shape of a published model, without its weights or with random ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_fusion
from benchmarks.gpu_report import Skipped
from benchmarks.gpu_tokenizer import widen

JUDGE = Path(local_fusion.__file__).parent / "zoo" / "weights" / "qwen-judge"
QWEN3_8B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 12288,
    "max_position_embeddings": 40960,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "vocab_size": 151_936,
}
"""The published configuration of Qwen3-8B; its token ids come from the tokenizer used here."""
QWEN3_SMALL = QWEN3_8B | {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "vocab_size": 8192,
}
_BLOCK_ELEMENTS = 2**26
_SHARD_LAYERS = 9


def write_model(folder: Path, shape: dict[str, Any], weights: bool = False) -> Path:
    """Make a model folder of `shape`, for `load_format: dummy`, or with random `weights`. Raises Skipped."""
    if not (JUDGE / "tokenizer.json").is_file():
        raise Skipped(f"{JUDGE} holds no tokenizer; train the shipped models first")
    folder.mkdir(parents=True)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(JUDGE / name, folder / name)
    (folder / "tokenizer.json").write_text(widen(JUDGE / "tokenizer.json", shape["vocab_size"]), "utf-8")
    judge = json.loads((JUDGE / "config.json").read_text())
    ids = {name: judge.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "config.json").write_text(json.dumps(shape | ids, indent=1))
    if weights:
        _write_weights(folder, shape)
    return folder


def parameters(shape: dict[str, Any]) -> int:
    """How many numbers a model of `shape` has."""
    total = 0
    for _, size in _tensors(shape):
        count = 1
        for length in size:
            count *= length
        total += count
    return total


def _tensors(shape: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and sizes of every tensor of a Qwen3."""
    hidden, inner, head = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (shape["vocab_size"], hidden)
    for layer in range(shape["num_hidden_layers"]):
        start = f"model.layers.{layer}."
        yield start + "self_attn.q_proj.weight", (queries, hidden)
        yield start + "self_attn.k_proj.weight", (keys, hidden)
        yield start + "self_attn.v_proj.weight", (keys, hidden)
        yield start + "self_attn.o_proj.weight", (hidden, queries)
        yield start + "self_attn.q_norm.weight", (head,)
        yield start + "self_attn.k_norm.weight", (head,)
        yield start + "mlp.gate_proj.weight", (inner, hidden)
        yield start + "mlp.up_proj.weight", (inner, hidden)
        yield start + "mlp.down_proj.weight", (hidden, inner)
        yield start + "input_layernorm.weight", (hidden,)
        yield start + "post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (shape["vocab_size"], hidden)


def _write_weights(folder: Path, shape: dict[str, Any]) -> None:
    """Random numbers in shards; drawn once and used again at other places, for drawing billions takes minutes."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    block = (torch.randn(_BLOCK_ELEMENTS) * 0.02).to(torch.bfloat16)
    names = list(_tensors(shape))
    size = _SHARD_LAYERS * 11
    shards = [names[start : start + size] for start in range(0, len(names), size)]
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        made = {name: _filled(torch, block, index, lengths) for index, (name, lengths) in enumerate(shard)}
        save_file(made, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(made, file)
    index_text = json.dumps({"metadata": {"total_size": 2 * parameters(shape)}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index_text)


def _filled(torch: Any, block: Any, index: int, lengths: tuple[int, ...]) -> Any:
    if len(lengths) == 1:
        return torch.ones(lengths, dtype=torch.bfloat16)
    count = lengths[0] * lengths[1]
    shifted = block.roll(7919 * (index + 1))
    return shifted.repeat(-(-count // len(block)))[:count].reshape(lengths).clone()
