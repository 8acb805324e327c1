"""The output item `openrouter:fusion` and its events: what panel and analyst do, the moment it happens.

Names: a member is called by its model; where the panel asks a model several times, by `model#0`, `model#1`, …, as the
analysis calls it. A later round (debate, layered) begins with `panel.added` for the same name again, `round` in it.
A member stopped because its answer could change nothing any more is told as `panel.failed` with `reason` not_needed;
it is no failed model. Beyond the schema, panel events carry `round` and failures our typed `reason`.
Source: OpenRouter's Fusion, August 2026.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from local_fusion.openai_api.reply import analysis_body, failed_models
from local_fusion.openai_api.responses_items import EventLog, Item
from local_fusion.types import Analysis, Answer, Failure

_CALL = "response.fusion_call"
_NOT_NEEDED = "was stopped: its answer could not have changed the result any more"
_CLIENT_CLOSED = 499


class FusionItem(Item):
    """One run of a fusion. `numbered`: models asked for several samples."""

    type = "openrouter:fusion"

    def __init__(self, item_id: str, index: int, log: EventLog, numbered: Collection[str] = ()) -> None:
        super().__init__(item_id, index, log)
        self._numbered = frozenset(numbered)
        self._asked: list[tuple[str, int]] = []
        self._busy: dict[tuple[str, int], int] = {}
        self._answers: dict[tuple[str, int], Answer] = {}
        self._failures: list[Failure] = []
        self._analysis: Analysis | None = None
        self._error: tuple[str, str] | None = None

    def name(self, model: str, sample: int) -> str:
        """What this member is called in every event."""
        return f"{model}#{sample}" if model in self._numbered else model

    def added(self, model: str, sample: int, round_: int = 0) -> None:
        """A member was asked."""
        if self._busy.get((model, sample)) == round_:
            return
        self._busy[model, sample] = round_
        if (model, sample) not in self._asked:
            self._asked.append((model, sample))
        self._panel("added", model, sample, round_)

    def delta(self, model: str, sample: int, text: str, reasoning: str, round_: int = 0) -> None:
        """A member says or thinks something."""
        self.added(model, sample, round_)
        if reasoning:
            self._panel("reasoning.delta", model, sample, round_, delta=reasoning)
        if text:
            self._panel("delta", model, sample, round_, delta=text)

    def completed(self, answer: Answer) -> None:
        """A member has answered."""
        self.added(answer.model, answer.sample, answer.round)
        del self._busy[answer.model, answer.sample]
        self._answers[answer.model, answer.sample] = answer
        self._panel("completed", answer.model, answer.sample, answer.round, content=answer.text)

    def failed(self, failure: Failure) -> None:
        """A member gave nothing usable."""
        round_ = self._busy.get((failure.model, failure.sample))
        if round_ is None:
            round_ = 0
            self.added(failure.model, failure.sample)
        self._busy.pop((failure.model, failure.sample), None)
        self._failures.append(failure)
        told = failed_models([failure])[0]
        about = {"error": told["error"], "status_code": told["status_code"], "reason": told["reason"]}
        self._panel("failed", failure.model, failure.sample, round_, **about)

    def not_needed(self) -> None:
        """Whoever is still busy was stopped, because the result stands."""
        for (model, sample), round_ in self._busy.items():
            error = f"{model} {_NOT_NEEDED}"
            self._panel("failed", model, sample, round_, error=error, status_code=_CLIENT_CLOSED, reason="not_needed")
        self._busy.clear()

    def analysis_started(self, model: str) -> None:
        """The analyst was asked."""
        self.say(f"{_CALL}.analysis.in_progress", analyst_model=model, judge_model=model)

    def analysis_done(self, analysis: Analysis | None) -> None:
        """None: it failed, and nothing is said of it, as in OpenRouter's Fusion."""
        self._analysis = analysis
        if analysis is not None:
            self.say(f"{_CALL}.analysis.completed", analysis=analysis_body(analysis))

    def broken(self, error: str, code: str) -> None:
        """The fusion came to nothing: it ends incomplete, saying why."""
        if self.open:
            self._error = (error, code)
            self.end("incomplete")

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if self._analysis is not None:
            fields["analysis"] = analysis_body(self._analysis)
        if self._answers or not self.open:
            fields["responses"] = [self._response(self._answers[one]) for one in self._asked if one in self._answers]
            fields["failed_models"] = [
                told | {"model": self.name(failure.model, failure.sample)}
                for failure, told in zip(self._failures, failed_models(self._failures), strict=True)
            ]
        if self._error is not None:
            fields["error"], fields["failure_reason"] = self._error
        return fields

    def _response(self, answer: Answer) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.name(answer.model, answer.sample), "content": answer.text}
        return body | {"round": answer.round} if answer.round else body

    def _panel(self, what: str, model: str, sample: int, round_: int, **fields: Any) -> None:
        self.say(f"{_CALL}.panel.{what}", model=self.name(model, sample), round=round_, **fields)

    def _begun(self) -> None:
        self.say(f"{_CALL}.in_progress")

    def _ending(self) -> None:
        self.not_needed()

    def _ended(self) -> None:
        if self.status == "completed":
            self.say(f"{_CALL}.completed")
