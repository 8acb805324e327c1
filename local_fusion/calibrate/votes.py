"""What a vote can be given: weights, samples, an early exit. All replayed from answers that are there: no new calls.

Weights are log-odds of being right, the best for members who err independently (Nitzan and Paroush, 1982), bounded so
that no member decides alone and none is silent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from local_fusion.calibrate.bench import Trial, best_of, no_worse
from local_fusion.calibrate.roles import Roles
from local_fusion.calibrate.space import MOST_ANSWERS, Space, names_of
from local_fusion.calibrate.steps import Step, points, step
from local_fusion.config.schema import FusionSettings, MemberSettings

LEAST_WEIGHT, MOST_WEIGHT = 0.2, 4.0
CONFIDENCES = (0.7, 0.8, 0.9, 0.95, 0.99)


class Votes:
    """Tunes the vote of a panel. `temperatures`: by model, for those without chance say the same each time."""

    def __init__(self, space: Space, roles: Roles, steps: list[Step], temperatures: Mapping[str, float]) -> None:
        self._space = space
        self._roles = roles
        self._steps = steps
        self._temperatures = temperatures

    async def weighted(
        self, judge: str, panel: Sequence[MemberSettings], alone: Mapping[str, Trial]
    ) -> tuple[MemberSettings, ...]:
        """The panel, each member weighing as it does now, all alike, or by its accuracy."""
        like = [seat.model_copy(update={"weight": 1.0}) for seat in panel]
        weights = {seat.model: weight_of(alone[seat.model]) for seat in panel}
        by_accuracy = [seat.model_copy(update={"weight": weights[seat.model]}) for seat in panel]
        panels: dict[str, Sequence[MemberSettings]] = {"alike": like, "as now": panel, "by accuracy": by_accuracy}
        trials = {name: await self._vote(name, judge, seats) for name, seats in panels.items()}
        best = best_of(list(trials.values()))
        told = ", ".join(f"{model} {weight:g}" for model, weight in weights.items())
        why = f"{best.name}: {points(best.gain_over(trials['alike']))} over votes that weigh alike"
        question = f"How should votes weigh? By accuracy: {told}"
        self._steps.append(step(question, trials["alike"], list(trials.values()), best, why))
        return tuple(panels[best.name])

    async def sampled(self, judge: str, panel: Sequence[MemberSettings], most: int) -> tuple[MemberSettings, ...]:
        """How many answers each member should give, up to `most`: as few as lose nothing."""
        now = await self._vote("as now", judge, panel)
        trials, panels = [now], {"as now": tuple(panel)}
        for count in range(1, most + 1):
            seats = self._with_samples(panel, count)
            if seats is None or seats in panels.values():
                continue
            name = f"{count} each" if count > 1 else "1 each"
            panels[name] = seats
            trials.append(await self._vote(name, judge, seats))
        if len(trials) == 1:
            return tuple(panel)
        best = best_of(trials)
        seats, best, fewer = await self._fewer(judge, panels[best.name], best)
        question = "How many samples of each member should vote? (one of those who are asked without chance)"
        why = f"{names_of(seats)}: {points(best.gain_over(now))} over the samples of now"
        self._steps.append(step(question, now, [*trials, *fewer], best, why))
        return seats

    async def exit_confidence(self, judge: str, panel: Sequence[MemberSettings]) -> float | None:
        """How sure a vote must be to stop asking; None where there is but one wave, or every exit costs answers."""
        if max(seat.samples for seat in panel) == 1:
            return None
        whole = await self._vote("all samples", judge, panel)
        trials = {}
        for value in CONFIDENCES:
            trials[value] = await self._roles.try_(f"{value:g}", self._settings(judge, panel, value))
        kept = {value: trial for value, trial in trials.items() if no_worse(trial, whole)}
        best = min(kept, key=lambda value: (kept[value].cost, value)) if kept else None
        if best is not None and kept[best].cost >= whole.cost:
            best = None
        why = "every early exit costs right answers, or spares nothing"
        if best is not None:
            spared = 1 - kept[best].cost / whole.cost
            why = f"{best:g} spares {100 * spared:.0f} % of the votes' effort: {points(kept[best].gain_over(whole))}"
        chosen = whole if best is None else kept[best]
        question = "How sure must a vote be to stop early? Stored votes, counted wave by wave"
        self._steps.append(step(question, whole, [whole, *trials.values()], chosen, why))
        return best

    async def _fewer(
        self, judge: str, panel: tuple[MemberSettings, ...], best: Trial
    ) -> tuple[tuple[MemberSettings, ...], Trial, list[Trial]]:
        """Take samples away, one member at a time, the last member first, where nothing is lost."""
        tried = []
        for place in reversed(range(len(panel))):
            while panel[place].samples > 1:
                seat = panel[place].model_copy(update={"samples": panel[place].samples - 1})
                rest = (*panel[:place], seat, *panel[place + 1 :])
                trial = await self._vote(names_of(rest), judge, rest)
                tried.append(trial)
                if not no_worse(trial, best):
                    break
                panel, best = rest, trial
        return panel, best, tried

    def _with_samples(self, panel: Sequence[MemberSettings], count: int) -> tuple[MemberSettings, ...] | None:
        """Everyone who is asked with chance gives `count`; None where that is more than a panel may give."""
        chance = {seat.model: count if self._temperatures[seat.model] > 0 else 1 for seat in panel}
        if sum(chance.values()) > MOST_ANSWERS:
            return None
        return tuple(seat.model_copy(update={"samples": chance[seat.model]}) for seat in panel)

    def _settings(self, judge: str, panel: Sequence[MemberSettings], confidence: float | None) -> FusionSettings:
        return self._space.but(panel=panel, judge=judge, mode="vote", exit_confidence=confidence)

    async def _vote(self, name: str, judge: str, panel: Sequence[MemberSettings]) -> Trial:
        return await self._roles.try_(name, self._settings(judge, panel, None))


def weight_of(trial: Trial) -> float:
    """Bounded log-odds of a member's accuracy, one right and one wrong answer added (Laplace)."""
    graded = [score for score in trial.scores if score is not None]
    right = (sum(graded) + 1) / (len(graded) + 2)
    return round(min(MOST_WEIGHT, max(LEAST_WEIGHT, math.log(right / (1 - right)))), 2)
