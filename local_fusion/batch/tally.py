"""Counts over the rows of a run. Each row's share stands in its end record, so that sums survive a resume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from local_fusion.batch.progress import MemberTally, Status, Summary
from local_fusion.types import Fused, Tokens


class Tally:
    """Sums over ended rows. `failures`: rows by error code; `member_failures`: calls by reason; `marks`: rows in which
    the guard kept an answer, a vote ended early, …"""

    def __init__(self) -> None:
        self.succeeded = 0
        self.failed = 0
        self.failures: dict[str, int] = {}
        self.member_failures: dict[str, int] = {}
        self.modes: dict[str, int] = {}
        self.marks: dict[str, int] = {}
        self._tokens = [0, 0, 0]
        self._members: dict[str, list[Any]] = {}

    @property
    def done(self) -> int:
        """Rows that ended, either way."""
        return self.succeeded + self.failed

    @property
    def tokens(self) -> Tokens:
        """Tokens of all rows that succeeded."""
        return Tokens(*self._tokens)

    @property
    def members(self) -> dict[str, MemberTally]:
        """What each model did."""
        return {model: _member(sums) for model, sums in self._members.items()}

    def add(self, end: Mapping[str, Any]) -> None:
        """Add one row's end record, as `tally_of` or `failure_tally` made it. Raises KeyError where it is none."""
        code = end.get("code")
        if code is not None:
            self.failed += 1
            _count(self.failures, code)
        else:
            self.succeeded += 1
            _add(self._tokens, end["tokens"])
            _count(self.modes, end["mode"])
            for mark in end["marks"]:
                _count(self.marks, mark)
        for reason in end["reasons"]:
            _count(self.member_failures, reason)
        for model, sums in end["members"].items():
            _add(_of(self._members, model), sums)

    def plain(self) -> dict[str, Any]:
        """Everything as plain data for run.json."""
        return {
            "counts": {"done": self.done, "succeeded": self.succeeded, "failed": self.failed},
            "tokens": asdict(self.tokens),
            "failures": self.failures,
            "member_failures": self.member_failures,
            "modes": self.modes,
            "marks": self.marks,
            "members": {model: asdict(member) for model, member in self.members.items()},
        }


def tally_of(fused: Fused) -> dict[str, Any]:
    """What the end record of a row says for the sums, in few bytes.

    A member's list: answers, failures, wrote, calls, prompt, cached, completion tokens, seconds, GPU-seconds.
    """
    receipt = fused.receipt
    members: dict[str, list[Any]] = {}
    for answer in receipt.answers:
        _of(members, answer.model)[0] += 1
    for failure in receipt.failures:
        _of(members, failure.model)[1] += 1
    _of(members, fused.model)[2] += 1
    for call in receipt.calls:
        sums = _of(members, call.model)
        sums[3] += 1
        sums[4] += call.tokens.prompt
        sums[5] += call.tokens.cached
        sums[6] += call.tokens.completion
        sums[7] += call.timing.total_s
        sums[8] += call.timing.gpu_s
    for sums in members.values():
        sums[7:] = [round(seconds, 6) for seconds in sums[7:]]
    tokens = fused.tokens
    return {
        "mode": receipt.mode,
        "tokens": [tokens.prompt, tokens.cached, tokens.completion],
        "marks": _marks(fused),
        "reasons": [failure.reason for failure in receipt.failures],
        "members": members,
    }


def failure_tally(code: str, models: tuple[str, ...] = (), reasons: tuple[str, ...] = ()) -> dict[str, Any]:
    """The same of a row that ended as an error: `models` that failed, with their reasons."""
    members: dict[str, list[Any]] = {}
    for model in models:
        _of(members, model)[1] += 1
    return {"code": code, "reasons": list(reasons), "members": members}


def summary_of(
    status: Status,
    tally: Tally,
    total: int,
    resumed: int = 0,
    seconds: float = 0.0,
    folder: Path | None = None,
    problems: tuple[str, ...] = (),
) -> Summary:
    """The tally as it stands, frozen."""
    return Summary(
        status=status,
        total=total,
        succeeded=tally.succeeded,
        failed=tally.failed,
        resumed=resumed,
        seconds=seconds,
        tokens=tally.tokens,
        failures=dict(tally.failures),
        member_failures=dict(tally.member_failures),
        modes=dict(tally.modes),
        marks=dict(tally.marks),
        members=tally.members,
        problems=problems,
        folder=folder,
    )


def _member(sums: list[Any]) -> MemberTally:
    answers, failures, wrote, calls, prompt, cached, completion, seconds, gpu_s = sums
    return MemberTally(answers, failures, wrote, calls, Tokens(prompt, cached, completion), seconds, gpu_s)


def _of(members: dict[str, list[Any]], model: str) -> list[Any]:
    return members.setdefault(model, [0] * 9)


def _marks(fused: Fused) -> list[str]:
    receipt = fused.receipt
    marks = {
        "guarded": receipt.verdict is not None,
        "guard_kept_answer": receipt.verdict is not None and receipt.verdict.kept == "answer",
        "early_exit": receipt.early_exit,
        "degraded": bool(fused.degraded),
        "changed_minds": bool(receipt.changed_minds),
        "analysed": receipt.analysis is not None,
    }
    return [name for name, is_so in marks.items() if is_so]


def _add(sums: list[Any], more: list[Any]) -> None:
    for place, value in enumerate(more):
        sums[place] += value


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
