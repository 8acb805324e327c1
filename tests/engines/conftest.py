"""A tiny model with random weights, made on the spot, and one real engine for the whole session."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\\nTools: ' + tools|tojson + '<|im_end|>\\n' }}{%- endif %}"
    "{%- if reasoning_effort %}{{- '<|im_start|>system\\nEffort: ' + reasoning_effort + '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'unknown' %}{{- raise_exception('no such role') }}{%- endif %}"
    "{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- if opened %}{{- '<think>\\n' }}{%- endif %}"
    "{%- endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>")
SETTINGS: dict[str, Any] = {
    "max_num_seqs": 256,
    "max_num_batched_tokens": 4096,
    "kv_cache_memory_bytes": 64 * 2**20,
    "max_model_len": 1024,
}


def byte_tokenizer() -> Any:
    """One token a byte, and `SPECIAL`."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special="think" not in token) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def save_qwen(folder: Path) -> None:
    """A Qwen3 of two layers with random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    tokenizer = byte_tokenizer()
    config = Qwen3Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_deepseek(folder: Path) -> None:
    """A DeepSeek-V3 (multi-head latent attention, experts) of two layers with random weights."""
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    torch.manual_seed(2)
    tokenizer = byte_tokenizer()
    config = DeepseekV3Config(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        moe_intermediate_size=64,
        num_hidden_layers=2,
        first_k_dense_replace=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        q_lora_rank=None,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
        topk_method="noaux_tc",
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    DeepseekV3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny Qwen3."""
    folder = tmp_path_factory.mktemp("tiny-qwen")
    save_qwen(folder)
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_folder: Path) -> AsyncIterator[Any]:
    """One real engine, shared; it thinks only where a call says `enable_thinking`."""
    from local_fusion.config import ModelSettings
    from local_fusion.engines.build import build_engine

    settings = ModelSettings(
        path=str(tiny_folder),
        vllm=SETTINGS,
        reasoning_parser="qwen3",
        tool_parser="hermes",
        sampling={"chat_template_kwargs": {"enable_thinking": False}},  # type: ignore[arg-type]
    )
    before = set(engine_processes())
    started = await build_engine("tiny", settings, tiny_folder)
    own = set(engine_processes()) - before
    assert own
    yield started
    await started.close()
    assert not own & set(engine_processes())


def engine_processes() -> list[int]:
    """Children of this process that run, but for Python's own resource tracker."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields["PPid"]) == os.getpid() and "resource_tracker" not in command and "Z" not in fields["State"]:
            found.append(int(fields["Pid"]))
    return found
