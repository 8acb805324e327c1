"""The four models' shapes: real architectures, a thousand times smaller."""

from __future__ import annotations

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)


def qwen(tokenizer: PreTrainedTokenizerFast, layers: int = 3, width: int = 128, context: int = 4096) -> PreTrainedModel:
    """Qwen3 (grouped-query attention with normalised queries and keys), tied embeddings."""
    heads = width // 32
    config = Qwen3Config(
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=32,
        tie_word_embeddings=True,
        **_shared(tokenizer, context),
    )
    return Qwen3ForCausalLM(config)


def qwen_judge(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """The judge: a deeper Qwen3 with a longer context."""
    return qwen(tokenizer, layers=4, context=8192)


def llama(tokenizer: PreTrainedTokenizerFast, layers: int = 3, width: int = 128) -> PreTrainedModel:
    """Llama, every head with its own keys and values, tied embeddings."""
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,
        tie_word_embeddings=True,
        **_shared(tokenizer, 4096),
    )
    return LlamaForCausalLM(config)


def qwen_moe(tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Qwen3 with a mixture of four experts, two of them active for each token."""
    config = Qwen3MoeConfig(
        hidden_size=128,
        intermediate_size=384,
        moe_intermediate_size=192,
        num_experts=4,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        decoder_sparse_step=1,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        tie_word_embeddings=True,
        **_shared(tokenizer, 4096),
    )
    return Qwen3MoeForCausalLM(config)


def _shared(tokenizer: PreTrainedTokenizerFast, context: int) -> dict[str, object]:
    return {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "max_position_embeddings": context,
        "rms_norm_eps": 1e-6,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.05,
        "attention_dropout": 0.0,
    }
