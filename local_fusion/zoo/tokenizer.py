"""Byte-level BPE tokenizers whose merges are written down, not learnt from a corpus.

Every fixed word of the questions, answers and prompts is one token *with its leading space* (a chain of prefix
merges); capitalised words are tokens without one. A quoted word ('planet') has no leading space, so it stays single
letters; digits never merge. All 256 bytes are covered: any text can be encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_WORD = re.compile(r"[A-Za-z]+")

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
LLAMA3 = (
    "{{- '<|begin_of_text|>' }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "qwen": (CHATML, "<|im_end|>", ()),
    "llama": (
        LLAMA3,
        "<|eot_id|>",
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
}
"""Per family: chat template, end-of-turn token, special tokens beyond `SPECIAL_TOKENS`."""

ROLES = ("system", "user", "assistant")


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of `texts` that are worth a token: letters only, outside single quotes, sorted."""
    words: set[str] = set()
    for text in texts:
        words.update(_WORD.findall(re.sub(r"'[a-z]+'", " ", text)))
    return sorted(words)


def build_tokenizer(
    family: str,
    words: Iterable[str],
    pieces: Iterable[str] = (),
    chains: Iterable[str] = (),
    model_max_length: int = 4096,
) -> PreTrainedTokenizerFast:
    """A tokenizer with `words` as tokens behind a space, the template of `family`, `pieces` as whole plain tokens
    wherever they stand alone, and `chains` as tokens built by merges."""
    template, end_of_turn, extra = FAMILIES[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(alphabet)}
    merges: list[tuple[str, str]] = []
    words = sorted(set(words))
    spelled = [chain.replace(" ", "Ġ") for chain in chains]
    spelled += [word if word[0].isupper() else "Ġ" + word for word in words]
    spelled += ["Ġ'", *("Ġ" + letter for letter in "abcdefghijklmnopqrstuvwxyz")]
    for chain in sorted(set(spelled)):
        for end in range(2, len(chain) + 1):
            if chain[:end] not in vocabulary:
                vocabulary[chain[:end]] = len(vocabulary)
                merges.append((chain[: end - 1], chain[end - 1]))
    core = Tokenizer(BPE(vocab=vocabulary, merges=merges, fuse_unk=False, byte_fallback=False))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_tokens([AddedToken(role, normalized=False, single_word=True) for role in ROLES])
    core.add_tokens([AddedToken(piece, normalized=False, single_word=True) for piece in pieces])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*SPECIAL_TOKENS, *extra)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=end_of_turn,
        pad_token=SPECIAL_TOKENS[0],
        clean_up_tokenization_spaces=False,
        model_max_length=model_max_length,
    )
    tokenizer.chat_template = template
    return tokenizer
