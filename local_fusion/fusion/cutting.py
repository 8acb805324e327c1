"""Cuts a case to the readers' context: equal shares for the answers, and for the turns of a long conversation.

Sizes are tokens by the readers' own tokenizers, the greatest count where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from local_fusion.fusion.case import Case
from local_fusion.fusion.session import Session
from local_fusion.fusion.sizes import equal_share
from local_fusion.prompts import shorten
from local_fusion.types import Message

MIN_SHARE_TOKENS = 48
TRIES = 4  # rounds of measuring and cutting further, for characters and tokens are not proportional
SAFETY = 0.95

Frame = Callable[[Session, Case], tuple[Message, ...]]
"""The conversation around a case that must fit."""


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads a case. `limit`: tokens of prompt that the smallest of them takes beside what is generated, or None
    where none would say. `specials`: control tokens of all of them."""

    models: tuple[str, ...]
    limit: int | None
    specials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TooMany:
    """The answers do not fit together; `window` of them do (under 2: not even two)."""

    window: int


async def cut_to_fit(session: Session, readers: Readers, case: Case, frame: Frame) -> Case | TooMany:
    """Measure, cut, measure again. Raises CallError where no reader can count."""
    cutter = _Cutter(session, readers, frame)
    fit = await cutter.run(case)
    if isinstance(fit, Case):
        for note in cutter.notes:
            session.note(note)
    return fit


class _Cutter:
    """One attempt; `notes` tell what it cut."""

    def __init__(self, session: Session, readers: Readers, frame: Frame) -> None:
        self._session = session
        self._readers = readers
        self._frame = frame
        self._most = session.settings.max_candidate_tokens
        self.notes: list[str] = []

    async def run(self, case: Case) -> Case | TooMany:
        turns = await self._sizes([turn.content for turn in case.request])
        answers = await self._sizes([answer.text for answer in case.answers])
        limit = self._readers.limit
        if limit is None:
            return await self._capped(case, answers, self._most or max(answers))
        free = limit - await self._bare_frame(case)
        if turns and sum(turns) > free // 2 and sum(turns) + sum(answers) > free:
            case, turns = await self._shorter_history(case, turns, max(free // 2, free - sum(answers)))
            free = limit - await self._bare_frame(case)
        return await self._shared(case, answers, limit, free - sum(turns))

    async def _shared(self, case: Case, answers: Sequence[int], limit: int, free: int) -> Case | TooMany:
        """Equal shares of `free` tokens, smaller ones until the whole conversation is within `limit`."""
        largest = max(answers)
        for _ in range(TRIES):
            share = min(equal_share(answers, free), largest if self._most is None else self._most)
            if share < min(MIN_SHARE_TOKENS, largest, self._most or MIN_SHARE_TOKENS):
                return TooMany(max(0, free) // MIN_SHARE_TOKENS)
            capped = await self._capped(case, answers, share)
            (tokens,) = await self._count([self._frame(self._session, capped)])
            if tokens <= limit:
                return capped
            free -= tokens - limit + len(answers)
        return TooMany(len(answers) // 2)

    async def _capped(self, case: Case, sizes: Sequence[int], share: int) -> Case:
        """No answer is shown with more than `share` tokens."""
        caps = await self._caps([answer.text for answer in case.answers], sizes, share)
        cut = sum(cap is not None for cap in caps)
        if not cut:
            return case
        self.notes = [note for note in self.notes if "answers were" not in note]
        readers = " and ".join(self._readers.models)
        self.notes.append(f"{cut} of {len(caps)} answers were shortened to {share} tokens for {readers}")
        return replace(case, caps=caps)

    async def _shorter_history(self, case: Case, sizes: Sequence[int], budget: int) -> tuple[Case, list[int]]:
        """Oldest turns go first; of the others, each gets the same share. System turns and the last one stay."""
        keep = max(2, budget // MIN_SHARE_TOKENS)
        last = len(sizes) - 1
        fixed = {place for place, turn in enumerate(case.request) if turn.role in ("system", "developer")} | {last}
        recent = [place for place in range(last, -1, -1) if place not in fixed][: max(0, keep - len(fixed))]
        kept = sorted(fixed | set(recent))
        turns, whole = [case.request[place] for place in kept], [sizes[place] for place in kept]
        caps = await self._caps([turn.content for turn in turns], whole, equal_share(whole, budget))
        shown = tuple(
            replace(turn, content=shorten(turn.content, cap)[0]) for turn, cap in zip(turns, caps, strict=True)
        )
        self.notes.append("the conversation was too long for the judge's context; older or longer turns were shortened")
        return replace(case, request=shown), await self._sizes([turn.content for turn in shown])

    async def _caps(self, texts: Sequence[str], sizes: Sequence[int], share: int) -> tuple[int | None, ...]:
        """Characters to keep of each text, so that none has more than `share` tokens; None: all."""
        caps: list[int | None] = [None] * len(texts)
        over = {place: size for place, size in enumerate(sizes) if size > share}
        for _ in range(TRIES):
            for place, size in over.items():
                caps[place] = max(1, int((caps[place] or len(texts[place])) * share / size * SAFETY))
            counts = await self._sizes([shorten(texts[place], caps[place])[0] for place in over])
            over = {place: count for place, count in zip(over, counts, strict=True) if count > share}
        return tuple(caps)

    async def _bare_frame(self, case: Case) -> int:
        """Tokens of the conversation around the texts."""
        request = tuple(replace(turn, content="") for turn in case.request)
        answers = tuple(replace(answer, text="") for answer in case.answers)
        bare = replace(case, request=request, answers=answers, caps=None)
        return (await self._count([self._frame(self._session, bare)]))[0]

    async def _sizes(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone, without what the chat template adds."""
        if not texts:
            return []
        nothing, *counts = await self._count([(Message("user", text),) for text in ("", *texts)])
        return [max(0, count - nothing) for count in counts]

    async def _count(self, conversations: Sequence[Sequence[Message]]) -> list[int]:
        """By the reader that needs most."""
        counts = [await self._session.count_tokens(model, conversations) for model in self._readers.models]
        return [max(column) for column in zip(*counts, strict=True)]
