"""vLLM's log-probabilities as `TokenLogprob`, and which tokens of a stream stand behind the text that is shown.

Log-probabilities are the model's own, before temperature and penalties, and never below -9999 (JSON has no infinity).
A token that is no whole text of its own, a part of a character, is shown as `bytes:\\xe2\\x82`: tokens stay distinct.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.sampling_params import SamplingParams

from local_fusion.engines import vllm_compat
from local_fusion.types import TokenLogprob

_LEAST = -9999.0


class TokenReader:
    """Reads vLLM's log-probabilities for one tokenizer; `load` once before."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._bytes: Sequence[bytes] | None = None

    async def load(self) -> None:
        """Find the bytes of every token; a thread's work of up to a second, the first time only."""
        if self._bytes is None:
            self._bytes = await asyncio.to_thread(vllm_compat.token_bytes, self.tokenizer)

    def raw(self, token_id: int) -> bytes:
        """The bytes a token stands for; none for an id that is only padding of the vocabulary."""
        known = self._bytes or ()
        return known[token_id] if token_id < len(known) else b""

    def token(self, token_id: int) -> str:
        """The token's text, or its bytes in words where they are no text."""
        raw = self.raw(token_id)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    def read(self, token_id: int, chances: Mapping[int, Any] | None, top: int) -> TokenLogprob:
        """One token and the `top` likeliest beside it; `chances`: vLLM's of this place, None where it has none."""
        token, raw = self.token(token_id), self.raw(token_id)
        if not chances or token_id not in chances:
            return TokenLogprob(token, token_id, None, raw=raw)
        ranked = sorted((one.rank or 0, other, one.logprob) for other, one in chances.items())
        likeliest = tuple((self.token(other), max(logprob, _LEAST)) for _, other, logprob in ranked[:top])
        return TokenLogprob(token, token_id, max(chances[token_id].logprob, _LEAST), likeliest, raw)

    def read_all(self, token_ids: Sequence[int], chances: Any, top: int) -> tuple[TokenLogprob, ...]:
        """One for each token; `chances`: vLLM's, a mapping (or None) a token."""
        return tuple(self.read(token, one, top) for token, one in zip(token_ids, chances or (), strict=False))


class ShownTokens:
    """Picks, out of all tokens of a stream, those whose text is shown: not reasoning, markup or what ends the text.

    Invariant: every token that a shown character comes from is given once, with the first piece it touches.
    """

    def __init__(self, reader: TokenReader, prompt_ids: list[int], params: SamplingParams, top: int) -> None:
        self._reader = reader
        self._top = top
        self._detokenizer = vllm_compat.detokenizer(reader.tokenizer, prompt_ids, params)
        self._pending: list[tuple[str, int, Any]] = []
        self._ahead = ""  # text of the last token given that is not shown yet

    def feed(self, token_ids: Sequence[int], chances: Any) -> None:
        """The next tokens of the stream."""
        for token, one in zip(token_ids, chances or (), strict=False):
            self._detokenizer.update([token], False)
            self._pending.append((self._detokenizer.get_next_output_text(False, True), token, one))

    def hide(self) -> None:
        """What came up to now belongs to no shown text."""
        self._pending.clear()
        self._ahead = ""

    def show(self, text: str) -> tuple[TokenLogprob, ...]:
        """The tokens behind the next shown text."""
        known = min(len(text), len(self._ahead))
        matches = text[:known] == self._ahead[:known]
        text, self._ahead = (text[known:], self._ahead[known:]) if matches else (text, "")
        if not text:
            return ()
        whole = "".join(entry[0] for entry in self._pending)
        begin = 0 if whole.startswith(text) else whole.rfind(text)
        begin, end = (begin, begin + len(text)) if begin >= 0 else (0, len(whole) + 1)
        place, taken, kept = 0, [], []
        for entry in self._pending:
            if place >= end:
                kept.append(entry)
            elif place + len(entry[0]) > begin or (place == begin and not entry[0]):
                taken.append(entry)
            place += len(entry[0])
            if taken and taken[-1] is entry:
                self._ahead = entry[0][len(entry[0]) - (place - end) :] if place > end else ""
        self._pending = kept
        return tuple(self._reader.read(token, chances, self._top) for _, token, chances in taken)
