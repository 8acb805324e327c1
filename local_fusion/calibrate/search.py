"""The search: one question after the other on the fit half, each answered with what the one before has found.

Bounded: with n models, at most n judges, 2 x (n + n²/2 + n²/2) panels (those of votes without a call), n writers, and
the modes; what needs no new call is replayed by the fusion's own code from stored calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from local_fusion.calibrate.bench import Bench, Trial, best_of
from local_fusion.calibrate.guarding import guard_margin
from local_fusion.calibrate.kinds_of_set import table_for
from local_fusion.calibrate.roles import Roles
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.steps import Step, points, step
from local_fusion.calibrate.votes import Votes
from local_fusion.config.kinds import KindTable
from local_fusion.config.schema import FusionSettings, MemberSettings
from local_fusion.types import MODES, Mode

TRIED: tuple[Mode, ...] = ("vote", "best-of", "merge", "auto")
"""Modes that are always tried; the fusion's own is too."""


@dataclass(frozen=True)
class Proposal:
    """What the fit half says. `present`, `found`: the old and the new arrangement there; `table`: of kinds."""

    settings: FusionSettings
    table: KindTable | None
    present: Trial
    found: Trial


@dataclass(frozen=True)
class _Findings:
    judge: str
    writers: list[str]
    chosen_from: tuple[MemberSettings, ...]
    voters: tuple[MemberSettings, ...]
    confidence: float | None
    margin: float


async def search(space: Space, bench: Bench, steps: list[Step], most_samples: int, version: int) -> Proposal:
    """Answer every question. Raises RunError where it is stopped."""
    roles = Roles(space, bench, steps)
    bench.stage = "alone"
    alone = await roles.alone()
    if all(cost > 0 for trial in alone.values() for cost in _gpu_s(trial)):
        bench.count_by_gpu()
        alone = await _again(roles, space, steps)
    bench.stage = ""
    present = await bench.trial("as it is now", space.present, space.own)
    found = await _findings(space, bench, roles, steps, alone, most_samples)
    bench.stage = "mode"
    by_mode = {mode: await roles.try_(mode, _settings(space, found, mode)) for mode in _modes(space)}
    best = best_of([present, *by_mode.values()])
    best = present if best.settings == present.settings else best
    why = f"{best.name}: {points(best.gain_over(present))} over the fusion as it is now"
    steps.append(step("Which mode?", present, [present, *by_mode.values()], best, why))
    if best is present and space.present.kinds is not None:
        return Proposal(space.present, None, present, present)
    bench.stage = "kinds"
    margin = best.settings.guard_margin
    usable = [trial for trial in bench.tried if trial.settings.guard_margin == margin]
    by_kind = await table_for(space, bench, steps, best, usable, version)
    table, best = by_kind if by_kind is not None else (None, best)
    return Proposal(best.settings, table, present, best)


async def _findings(
    space: Space,
    bench: Bench,
    roles: Roles,
    steps: list[Step],
    alone: dict[str, Trial],
    most_samples: int,
) -> _Findings:
    temperatures = {seat.model: space.temperature(seat) for seat in space.pool}
    votes = Votes(space, roles, steps, temperatures)
    bench.stage = "judge"
    judge = await roles.judge()
    bench.stage = "best-of"
    chosen_from = await roles.members(judge, "best-of")
    bench.stage = "vote"
    voters = await votes.weighted(judge, await roles.members(judge, "vote"), alone)
    voters = await votes.sampled(judge, voters, most_samples)
    confidence = await votes.exit_confidence(judge, voters)
    bench.stage = "writer"
    writers = await roles.writers(judge, chosen_from)
    merged = space.but(panel=chosen_from, judge=judge, writer=writers, mode="merge", exit_confidence=None)
    bench.stage = "guard's margin"
    margin = await guard_margin(space, roles, steps, merged) if merged.guard else merged.guard_margin
    return _Findings(judge, writers, chosen_from, voters, confidence, margin)


def _settings(space: Space, found: _Findings, mode: Mode) -> FusionSettings:
    """What was found, under one mode; a vote keeps its own panel, weights and early exit."""
    votes = mode == "vote"
    return space.but(
        panel=found.voters if votes else found.chosen_from,
        judge=found.judge,
        writer=[] if found.writers == [found.judge] else found.writers,
        mode=mode,
        guard_margin=found.margin,
        exit_confidence=found.confidence if votes else None,
    )


def _modes(space: Space) -> list[Mode]:
    return [mode for mode in MODES if mode in TRIED or mode == space.present.mode]


async def _again(roles: Roles, space: Space, steps: list[Step]) -> dict[str, Trial]:
    """The same trials, their effort now counted in GPU-seconds."""
    steps.clear()
    return await roles.alone()


def _gpu_s(trial: Trial) -> list[float]:
    return [said.gpu_s for said in trial.said if not said.failure]
