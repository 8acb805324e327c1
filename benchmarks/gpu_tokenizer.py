"""A small tokenizer made as wide as a large model's vocabulary, so that any token a random model says is a word.

Each word added is four syllables, "BaGeLaQa", alone or behind a space, and is one token both ways: each syllable's
consonants belong to one place in the word, so the merges can meet in one way only. Words of the small tokenizer keep
their tokens, since no capital stands inside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

_VOWELS = "aeiou"
_CONSONANTS = ("BCDF", "GHJK", "LMNP", "QRSTVWZ")
_SPACE = "Ġ"


def widen(tokenizer: Path, size: int) -> str:
    """The text of a tokenizer.json with `size` ids, made of the byte-level BPE one at `tokenizer`."""
    whole = json.loads(tokenizer.read_text("utf-8"))
    vocabulary: dict[str, int] = whole["model"]["vocab"]
    vocabulary |= {token["content"]: token["id"] for token in whole["added_tokens"]}  # else they would get new ids
    free = 1 + max(vocabulary.values())
    merges: list[list[str]] = []
    for left, right in _merges():
        if free == size:
            break
        if left + right in vocabulary:
            continue
        vocabulary[left + right] = free
        merges.append([left, right])
        free += 1
    if free != size:
        raise ValueError(f"only {free} tokens can be made, not {size}")
    whole["model"]["merges"] = merges + [_pair(merge) for merge in whole["model"]["merges"]]
    return json.dumps(whole, ensure_ascii=False)


def _merges() -> Iterator[tuple[str, str]]:
    places = [[consonant + vowel for consonant in group for vowel in _VOWELS] for group in _CONSONANTS]
    for place in places:
        yield from ((syllable[0], syllable[1]) for syllable in place)
    for first, second in (places[0:2], places[2:4]):
        yield from product(first, second)
    heads = ["".join(pair) for pair in product(*places[0:2])]
    tails = ["".join(pair) for pair in product(*places[2:4])]
    for head, tail in product(heads, tails):
        yield head, tail
        yield _SPACE, head + tail


def _pair(merge: Any) -> list[str]:
    return merge.split(" ") if isinstance(merge, str) else list(merge)
