"""The ledger: one entry per finished call, and their sum. What failed or was aborted has no count and no entry."""

from __future__ import annotations

from local_fusion.types import Completion, LabelRead, Stage, StageUsage, Tokens


class Ledger:
    """Collects what each call of one request used."""

    def __init__(self) -> None:
        self._calls: list[StageUsage] = []

    def enter(
        self,
        stage: Stage,
        sample: int,
        result: Completion | LabelRead,
        seed: int | None = None,
        ended_s: float | None = None,
    ) -> None:
        self._calls.append(
            StageUsage(stage, result.model, sample, result.tokens, result.timing, result.call_id, seed, ended_s)
        )

    @property
    def calls(self) -> tuple[StageUsage, ...]:
        """In the order in which the calls ended."""
        return tuple(self._calls)

    @property
    def tokens(self) -> Tokens:
        prompt = cached = completion = 0
        for call in self._calls:
            prompt += call.tokens.prompt
            cached += call.tokens.cached
            completion += call.tokens.completion
        return Tokens(prompt, cached, completion)
