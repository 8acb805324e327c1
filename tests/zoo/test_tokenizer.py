"""The hand-written tokenizers: every byte, digits and letters alone, fixed words whole, templates of many turns."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from local_fusion.zoo.tokenizer import FAMILIES, SPECIAL_TOKENS, build_tokenizer, words_of

WORDS = words_of(["What is the first letter of 'planet'?", "The sum is 4."])


@pytest.mark.parametrize("family", FAMILIES)
def test_any_text_survives(family: str) -> None:
    tokenizer = build_tokenizer(family, WORDS)
    for text in ("What is 47 + 38?", "naïve 漢字 🙂\t\n\n x", "'planet' and \x00\x7f"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_what_is_one_token_and_what_is_not() -> None:
    tokenizer = build_tokenizer("qwen", WORDS)

    def pieces(text: str) -> list[str]:
        return [tokenizer.decode([one]) for one in tokenizer.encode(text, add_special_tokens=False)]

    assert pieces("What is the letter of 'the'?") == ["What", " is", " the", " letter", " of", " '", *"the'?"]
    assert pieces("472") == ["4", "7", "2"]
    for label in "ABCDEFGH12":
        assert pieces(label) == [label]
    assert "planet" not in WORDS
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == sorted(
        tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_longer_conversation_begins_with_the_shorter_one(family: str) -> None:
    tokenizer = build_tokenizer(family, WORDS)
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 4?"},
        {"role": "assistant", "content": "The sum is 4."},
        {"role": "user", "content": "What is 5?"},
    ]
    short = tokenizer.apply_chat_template(turns[:2], tokenize=False, add_generation_prompt=True)
    full = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert full.startswith(short + "The sum is 4." + tokenizer.eos_token)
    ids = tokenizer.encode(full, add_special_tokens=False)
    assert ids[: len(tokenizer.encode(short, add_special_tokens=False))] == tokenizer.encode(
        short, add_special_tokens=False
    )
