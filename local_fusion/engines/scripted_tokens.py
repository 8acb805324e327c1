"""Tokens of the scripted engine: words with the space before them, their ids and their log-probabilities.

Invariant: the text of a text's ids is that text. Ids 0 to 255 are single bytes; words get theirs as they are met, so
they differ between processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from local_fusion.engines.scripted_text import liking, pieces
from local_fusion.errors import CallError
from local_fusion.types import TokenLogprob

_BYTES = 256
_OTHERS = (" the", " a", " of", " and", " to", " in", " is", " that", " it", " for", " as", " with", " was", " on")


class Vocabulary:
    """Ids of the words met so far."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def ids(self, text: str) -> list[int]:
        """One id a word; of a text that is only white space one."""
        return [self.id_of(word) for word in pieces(text)]

    def id_of(self, word: str) -> int:
        """The id of a word, new where it was never met."""
        known = self._ids.get(word)
        if known is None:
            known = self._ids[word] = _BYTES + len(self._words)
            self._words.append(word)
        return known

    def raw(self, token: int) -> bytes:
        """The bytes of a token. Raises CallError (bad_request) for an id that is none."""
        if 0 <= token < _BYTES:
            return bytes((token,))
        if _BYTES <= token < _BYTES + len(self._words):
            return self._words[token - _BYTES].encode("utf-8", "surrogatepass")
        raise CallError(f"there is no token {token}; ids are those that tokenize gave, or bytes", "bad_request")

    def text(self, tokens: Sequence[int]) -> str:
        """The text of token ids. Raises CallError (bad_request) for an id that is none."""
        raw = b"".join(map(self.raw, tokens))
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")


def token_logprob(vocabulary: Vocabulary, token: int, chance: float, top: int) -> TokenLogprob:
    """A token that had this chance, and the `top` likeliest beside it: itself and words that share the rest."""
    raw = vocabulary.raw(token)
    text = raw.decode("utf-8", "replace")
    others = [word for word in _OTHERS if word != text]
    chances = [(text, chance), *((word, max((1.0 - chance) / 2.0 ** (n + 1), 1e-9)) for n, word in enumerate(others))]
    likeliest = sorted(chances, key=lambda one: -one[1])[:top]
    return TokenLogprob(text, token, math.log(chance), tuple((word, math.log(one)) for word, one in likeliest), raw)


def prompt_logprobs(
    vocabulary: Vocabulary, name: str, tokens: Sequence[int], top: int | None
) -> tuple[TokenLogprob, ...]:
    """Of each token of a prompt, by the engine's liking of it; the first has none."""
    found = []
    for place, token in enumerate(tokens):
        raw = vocabulary.raw(token)
        text = raw.decode("utf-8", "replace")
        if place == 0:
            found.append(TokenLogprob(text, token, None, raw=raw))
        else:
            found.append(token_logprob(vocabulary, token, 0.02 + 0.96 * liking(name, text), top or 0))
    return tuple(found)
