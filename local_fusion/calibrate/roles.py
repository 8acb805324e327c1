"""Who should judge, who should write, and who on the panel adds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from local_fusion.calibrate.bench import Bench, Trial, best_of, no_worse, ranking
from local_fusion.calibrate.space import Space, names_of
from local_fusion.calibrate.steps import Step, percent, points, step
from local_fusion.config.schema import FusionSettings, MemberSettings
from local_fusion.types import Mode


class Roles:
    """Tries models in roles on a bench; `steps` grows with each question."""

    def __init__(self, space: Space, bench: Bench, steps: list[Step]) -> None:
        self._space = space
        self._bench = bench
        self._steps = steps

    async def try_(self, name: str, settings: FusionSettings) -> Trial:
        """Settings over every item."""
        return await self._bench.trial(name, settings, self._space.recipe(settings))

    async def alone(self) -> dict[str, Trial]:
        """Each model of the pool by itself."""
        found = {seat.model: await self.try_(seat.model, self._space.alone(seat.model)) for seat in self._space.pool}
        best = best_of(list(found.values()))
        why = f"{best.name} is right most often, {percent(best.mean)}"
        self._steps.append(step("How often is each model right by itself?", best, list(found.values()), None, why))
        return found

    async def judge(self) -> str:
        """The model whose choice among the answers of all is right most often."""
        space = self._space
        trials = {}
        for model in self._first(space.present.judge_name, space.present.models):
            settings = space.but(panel=space.pool, judge=model, mode="best-of")
            trials[model] = await self.try_(model, settings)
        best = best_of(list(trials.values()))
        present = trials[space.present.judge_name]
        question = f"Who should judge? Best-of over the answers of {names_of(space.pool)}"
        self._steps.append(step(question, present, list(trials.values()), best, _best_because(best, present)))
        return best.name

    async def members(self, judge: str, mode: Mode) -> tuple[MemberSettings, ...]:
        """The panel without those who add nothing under `mode`: leave one and leave two out, then one at a time."""
        panel, most = self._space.pool, 2
        while len(panel) > 1:
            whole = await self._panel(panel, judge, mode, "all" if panel == self._space.pool else names_of(panel))
            trials = {}
            for out in _subsets(panel, most):
                rest = tuple(seat for seat in panel if seat not in out)
                trials[rest] = await self._panel(rest, judge, mode, f"without {names_of(out)}")
            kept = [trial for trial in trials.values() if no_worse(trial, whole)]
            best = best_of(kept) if kept else None
            question = f"Who adds nothing? {mode} over {names_of(panel)}, leaving out"
            why = (
                f"{best.name} nothing is lost: {points(best.gain_over(whole))}"
                if best is not None
                else "every member is missed: each that is left out costs right answers"
            )
            self._steps.append(step(question, whole, [whole, *trials.values()], best, why))
            if best is None:
                break
            panel, most = next(rest for rest, trial in trials.items() if trial is best), 1
        return panel

    async def writers(self, judge: str, panel: Sequence[MemberSettings]) -> list[str]:
        """The model whose written answers, after the guard, are right most often; then, as many as there are now, those
        who step in where it fails, by the same measure."""
        space = self._space
        trials = {}
        for model in self._first(space.present.writer_names[0], space.present.models):
            settings = space.but(panel=panel, judge=judge, writer=[model], mode="merge", exit_confidence=None)
            trials[model] = await self.try_(model, settings)
        ranked = ranking(list(trials.values()))
        present = trials[space.present.writer_names[0]]
        question = f"Who should write? Merge over the answers of {names_of(panel)}, {judge} judging"
        why = _best_because(ranked[0], present)
        self._steps.append(step(question, present, list(trials.values()), ranked[0], why))
        return [trial.name for trial in ranked[: len(space.present.writer_names)]]

    async def _panel(self, panel: Sequence[MemberSettings], judge: str, mode: Mode, name: str) -> Trial:
        settings = self._space.but(panel=panel, judge=judge, mode=mode, exit_confidence=None)
        return await self.try_(name, settings)

    def _first(self, present: str, models: Iterable[str]) -> list[str]:
        """Who has the role now, then the others: at an exact tie the role stays."""
        return list(dict.fromkeys([present, *models]))


def _subsets(panel: Sequence[MemberSettings], most: int) -> list[tuple[MemberSettings, ...]]:
    """Every one, and with `most` 2 every two, that can be left out."""
    sizes = range(1, min(most, len(panel) - 1) + 1)
    return [out for size in sizes for out in combinations(panel, size)]


def _best_because(best: Trial, present: Trial) -> str:
    if best.name == present.name:
        return f"{best.name}, who has the role now, is not beaten"
    gain = best.gain_over(present)
    if gain.value == 0:
        return f"{best.name} is right as often as {present.name} and costs less"
    return f"{best.name} over {present.name}: {points(gain)}"
